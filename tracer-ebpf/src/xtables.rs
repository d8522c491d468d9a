//! Which rule of iptables' or ebtables' legacy backend dropped the packet.
//!
//! Every xtables rule has a counter for each CPU, which rises by one packet, and
//! by its length, when the rule matches. The packet is freed right afterwards on
//! the same CPU. So among the rules that drop, the one whose counter has moved
//! since this CPU last looked is the one that dropped this packet.
//! <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/netfilter/ip_tables.c>
//!
//! One may have moved that is not this packet's: `REJECT` has matched, and the
//! answer that it sends is dropped itself, before the rejected packet is freed. So
//! the length has to be right, and the hook has to be one that the packet can be
//! at. Where two rules fit, or none, none is told.
//!
//! A policy of ebtables has no counter. Where no counter at all has moved, it is
//! what dropped the packet, if the hook function was that table's.

use aya_ebpf::{
    EbpfContext,
    cty::c_void,
    helpers::generated::{
        bpf_get_current_task, bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_probe_read_kernel,
    },
};
use droptrace_types::{
    HookAt, XT_COUNTERS, XT_NETNS_BLOCKS, XT_PIECE, XT_WINDOW, XtBlock, XtCounter, XtGroup, XtRule,
};

use crate::{
    event::Event,
    hook,
    kernel::{Pointer, argument, constant, nonzero},
    maps::{XT_BLOCKS, XT_COPY, XT_CPU, XT_GROUPS, XT_MEMORY, XT_SEEN},
};

/// The hooks (`enum nf_inet_hooks`, and of bridges `NF_BR_*`, which have the same
/// numbers), a bit each, of packets that came in by an interface: all but
/// `NF_INET_LOCAL_OUT`.
const HOOKS_OF_OTHERS: u64 = 0b10111;
/// Those of packets made here: `NF_INET_LOCAL_OUT` and `NF_INET_POST_ROUTING`.
const HOOKS_OF_OWN: u64 = 0b11000;

/// In a sum of what [`xtables_scan`] gives: how many counters have moved.
const MOVED: u64 = 0xffff;
/// How many of these fit the packet.
const FITTING: u64 = 0xffff << 16;
const ONE_FITTING: u64 = 1 << 16;
/// The fitting one, if there is only one.
const WHICH_SHIFT: u32 = 32;
/// No rule: every counter was compared, and none has moved.
const UNMOVED: u64 = 1;
/// What stands for a block that cannot be compared.
const UNSETTLED: u64 = 2 << 16 | 1;

/// What comparing may cost a CPU in a second, in the unit of [`XtGroup::cost`]:
/// some hundredths of its time.
const COST_PER_SECOND: u64 = 3_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// A counter that has moved for a packet which is freed later stays so for this
/// long at most.
const NESTED_NS: u64 = 10_000_000;

/// The counters of a block as this CPU last saw them.
#[repr(C)]
pub struct XtSeen {
    /// [`XtBlock::serial`] of the block that they are of.
    serial: u32,
    /// In a namespace's first block: a packet was not looked at.
    missed: u32,
    counters: [XtCounter; XT_COUNTERS],
}

/// Counters as they are now: a block's window, and room for a counter that begins
/// at its very end.
pub type XtCopy = [u8; XT_WINDOW + size_of::<XtCounter>()];

/// What a CPU remembers.
#[repr(C)]
pub struct XtCpu {
    /// From the address of per-CPU memory to this CPU's; 0 where it is not known.
    offset: u64,
    /// An event that interrupts another one leaves it alone.
    busy: u64,
    /// The rule that was found last, as a [`droptrace_types::XtRule`].
    last: u64,
    /// Since when a counter has moved whose packet has not come yet, or 0.
    nested_ns: u64,
    /// When the current second began.
    since_ns: u64,
    /// What comparing has cost since.
    cost: u64,
}

/// The rule that dropped the packet, as a [`droptrace_types::XtRule`]; 0 where it is not known.
#[inline(always)]
pub fn find(ctx: *mut c_void, event: &Event) -> u64 {
    let netns = event.key.cause.netns;
    match xtables_find(netns, event.packet.skb.address()) {
        UNMOVED => policy(ctx, event, netns),
        found => found,
    }
}

/// The group of a namespace's blocks.
#[inline(always)]
fn group(netns: u32) -> Option<&'static XtGroup> {
    // SAFETY: user space may put another in its place, and has then not yet used
    // this one's blocks again.
    unsafe { XT_GROUPS.get(&netns) }
}

/// The policy of the table whose hook function dropped the packet, if it has one that
/// drops at that hook.
#[inline(always)]
fn policy(ctx: *mut c_void, event: &Event, netns: u32) -> u64 {
    let mut at = HookAt::default();
    if hook::find(ctx, event, &mut at) == 0 || at.private == 0 {
        return 0;
    }
    xtables_policy(netns, at.private, at.hook.into())
}

/// # Safety
///
/// `seen` must be this CPU's, of the group's first block.
#[inline(always)]
unsafe fn look(group: &XtGroup, cpu: &mut XtCpu, seen: *mut XtSeen, skb: Pointer) -> u64 {
    let wanted = wanted(skb);
    // SAFETY: by contract.
    let missed = unsafe { (&raw const (*seen).missed).read_volatile() };
    if missed == 0 && xtables_last(group.serial, wanted) != 0 {
        return cpu.last;
    }
    // SAFETY: reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    if now.wrapping_sub(cpu.since_ns) > SECOND_NS {
        cpu.since_ns = now;
        cpu.cost = 0;
    }
    if cpu.cost > COST_PER_SECOND {
        // SAFETY: as above.
        unsafe { (&raw mut (*seen).missed).write_volatile(1) };
        return 0;
    }
    cpu.cost += u64::from(group.cost);
    if missed != 0 {
        // SAFETY: as above.
        unsafe { (&raw mut (*seen).missed).write_volatile(0) };
        xtables_take_all(group.first, group.count);
        return 0;
    }
    let mut sum = 0;
    for i in 0..XT_NETNS_BLOCKS {
        if i >= group.count {
            break;
        }
        sum += xtables_scan(group.first + i, wanted);
    }
    if sum & MOVED == 0 {
        return UNMOVED;
    }
    let late = cpu.nested_ns != 0 && now.wrapping_sub(cpu.nested_ns) > NESTED_NS;
    if sum & FITTING != ONE_FITTING || late {
        cpu.nested_ns = 0;
        xtables_take_all(group.first, group.count);
        return 0;
    }
    if sum & MOVED == 1 {
        cpu.nested_ns = 0;
    } else if cpu.nested_ns == 0 {
        cpu.nested_ns = now;
    }
    let which = (sum >> WHICH_SHIFT) as u32;
    if xtables_accept(which, wanted) == 0 {
        return 0;
    }
    cpu.last = u64::from(group.serial) << 32 | u64::from(which);
    cpu.last
}

/// What a counter must have moved by for this packet: its length, and in the upper
/// half the hooks that it can be at. A packet that has not come in by an interface
/// is on its way out.
#[inline(always)]
fn wanted(skb: Pointer) -> u64 {
    let len: u32 = skb.read(constant!(LAYOUT.skb_len));
    let iif: u32 = skb.read(constant!(LAYOUT.skb_iif));
    let hooks = if iif == 0 {
        HOOKS_OF_OWN
    } else {
        HOOKS_OF_OTHERS
    };
    hooks << 32 | u64::from(len)
}

/// 1 if the counter has moved by one packet that fits.
#[inline(always)]
fn fits(packets: u64, bytes: u64, hooks: u8, wanted: u64) -> u64 {
    let reachable = nonzero(u64::from(hooks) & wanted >> 32);
    let differs = packets ^ 1 | bytes ^ wanted & 0xffff_ffff;
    reachable & (1 ^ nonzero(differs))
}

/// This CPU's counters of a block.
#[inline(always)]
fn counters(block: &XtBlock) -> Option<Pointer> {
    if block.per_cpu == 0 {
        // SAFETY: the number of this CPU.
        let cpu = u64::from(unsafe { bpf_get_smp_processor_id() });
        let row = cpu.wrapping_mul(u64::from(block.stride));
        return Some(Pointer::new(block.address.wrapping_add(row)));
    }
    // SAFETY: this CPU's element.
    let offset = unsafe { (&raw const (*XT_CPU.get_ptr(0)?).offset).read_volatile() };
    (offset != 0).then(|| Pointer::new(block.address.wrapping_add(offset)))
}

/// Copies this CPU's counters of a block. False where that cannot be.
#[inline(always)]
fn copy(block: &XtBlock, to: *mut XtCopy) -> bool {
    let Some(counters) = counters(block) else {
        return false;
    };
    // SAFETY: the copy is larger.
    unsafe { read_bytes::<XT_WINDOW>(to.cast(), block.len, counters.address()) == 0 }
}

/// Reads `len` bytes of kernel memory, `MAX` at most. 0 if that succeeded.
///
/// # Safety
///
/// At `to` must be room for `MAX`, a power of two.
#[inline(always)]
unsafe fn read_bytes<const MAX: usize>(to: *mut c_void, len: u32, from: u64) -> i64 {
    let len = len & (MAX as u32 * 2 - 1);
    if len > MAX as u32 {
        return -1;
    }
    // SAFETY: by contract.
    unsafe { bpf_probe_read_kernel(to, len, from as *const c_void) }
}

/// The counter at `at` in a copy.
///
/// # Safety
///
/// `copy` must be valid.
#[inline(always)]
unsafe fn counter(copy: *const XtCopy, at: u16) -> (u64, u64) {
    let at = usize::from(at) & (XT_WINDOW - 8);
    // SAFETY: inside the copy, and aligned.
    unsafe {
        let counter = copy.cast::<u8>().add(at).cast::<XtCounter>();
        (
            (&raw const (*counter).packets).read_volatile(),
            (&raw const (*counter).bytes).read_volatile(),
        )
    }
}

// The functions from here on have names of their own in the object, by which the
// kernel verifies each once and not for every call.

/// The rule among those of a namespace that dropped the packet at `skb`; 0 where it is
/// not known, [`UNMOVED`] where none did and a policy may have.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xtables_find(netns: u32, skb: u64) -> u64 {
    let Some(group) = group(netns) else {
        return 0;
    };
    let (Some(cpu), Some(seen)) = (XT_CPU.get_ptr_mut(0), XT_SEEN.get_ptr_mut(group.first)) else {
        return 0;
    };
    // SAFETY: this CPU's elements. What an interrupting event may write in them,
    // it does not write while `busy`, but for `missed`.
    unsafe {
        if (&raw const (*cpu).busy).read_volatile() != 0 {
            (&raw mut (*seen).missed).write_volatile(1);
            return 0;
        }
        (&raw mut (*cpu).busy).write_volatile(1);
        let found = look(group, &mut *cpu, seen, Pointer::new(skb));
        (&raw mut (*cpu).busy).write_volatile(0);
        // Without a policy that may have dropped it, nothing is left to look for.
        if found == UNMOVED && group.policies == 0 {
            return 0;
        }
        found
    }
}

/// Compares a block's counters with how they were: a sum of [`MOVED`],
/// [`ONE_FITTING`] and so on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xtables_scan(slot: u32, wanted: u64) -> u64 {
    let (Some(block), Some(seen), Some(to)) = (
        XT_BLOCKS.get(slot),
        XT_SEEN.get_ptr_mut(slot),
        XT_COPY.get_ptr_mut(0),
    ) else {
        return UNSETTLED;
    };
    // SAFETY: this CPU's elements, left alone by an event that interrupts.
    unsafe {
        if (*seen).serial != block.serial || !copy(block, to) {
            return UNSETTLED;
        }
        let mut sum = 0;
        let mut place = u64::from(slot) << 8;
        for i in 0..XT_COUNTERS {
            if i as u32 >= block.count {
                break;
            }
            let (packets, bytes) = counter(to, block.at[i]);
            let before = &(*seen).counters[i];
            let packets = packets.wrapping_sub(before.packets);
            let bytes = bytes.wrapping_sub(before.bytes);
            let fits = fits(packets, bytes, block.hooks[i], wanted);
            sum += nonzero(packets) + fits * (ONE_FITTING + (place << WHICH_SHIFT));
            place += 1;
        }
        sum
    }
}

/// Takes the counters of a namespace as they are: of `count` blocks from `first` on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xtables_take_all(first: u32, count: u32) -> u64 {
    for i in 0..XT_NETNS_BLOCKS {
        if i >= count {
            break;
        }
        xtables_take(first + i);
    }
    1
}

/// Takes a block's counters as they are.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xtables_take(slot: u32) -> u64 {
    let (Some(block), Some(seen), Some(to)) = (
        XT_BLOCKS.get(slot),
        XT_SEEN.get_ptr_mut(slot),
        XT_COPY.get_ptr_mut(0),
    ) else {
        return 0;
    };
    // SAFETY: this CPU's elements, left alone by an event that interrupts.
    unsafe {
        if !copy(block, to) {
            (*seen).serial = 0;
            return 0;
        }
        for i in 0..XT_COUNTERS {
            if i as u32 >= block.count {
                break;
            }
            let (packets, bytes) = counter(to, block.at[i]);
            (*seen).counters[i] = XtCounter { packets, bytes };
        }
        (*seen).serial = block.serial;
    }
    1
}

/// Whether the rule that was found last, of a namespace registered as `serial`, is
/// the one again; then it is accepted. Not a rule that packets made here can reach:
/// where those are dropped, another drop can come in between, and only comparing
/// all counters shows it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xtables_last(serial: u32, wanted: u64) -> u64 {
    let Some(cpu) = XT_CPU.get_ptr(0) else {
        return 0;
    };
    // SAFETY: this CPU's element.
    let last = unsafe { (&raw const (*cpu).last).read_volatile() };
    if (last >> 32) as u32 != serial || rule(last as u32).1 & HOOKS_OF_OWN as u8 != 0 {
        return 0;
    }
    xtables_accept(last as u32, wanted)
}

/// Takes one counter as it is, if it has moved by one packet that fits and its
/// table is still the one that was registered. `which` is the block and the index
/// in it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xtables_accept(which: u32, wanted: u64) -> u64 {
    let (at, hooks) = rule(which);
    let slot = which >> 8;
    let (Some(seen), Some(block)) = (XT_SEEN.get_ptr_mut(slot), XT_BLOCKS.get(slot)) else {
        return 0;
    };
    let Some(counters) = counters(block) else {
        return 0;
    };
    let now: XtCounter = counters.read(u32::from(at));
    // SAFETY: this CPU's element, left alone by an event that interrupts.
    unsafe {
        if (*seen).serial != block.serial {
            return 0;
        }
        let before = &mut (*seen).counters[index(which)];
        let packets = now.packets.wrapping_sub(before.packets);
        let bytes = now.bytes.wrapping_sub(before.bytes);
        if fits(packets, bytes, hooks, wanted) == 0 || !is_in_force(block) {
            return 0;
        }
        *before = now;
    }
    1
}

/// The policy by which one of a namespace's tables drops at a hook, as a
/// [`droptrace_types::XtRule`]; 0 if there is none. The table has `private` as the hook
/// function's data, and is still the one that was registered.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xtables_policy(netns: u32, private: u64, hook: u32) -> u64 {
    let Some(group) = group(netns) else {
        return 0;
    };
    for i in 0..XT_NETNS_BLOCKS {
        if i >= group.count {
            break;
        }
        let slot = group.first + i;
        if xtables_drops(slot, private, hook) != 0 {
            let which = slot << 8 | (XtRule::POLICY + hook);
            return u64::from(group.serial) << 32 | u64::from(which);
        }
    }
    0
}

/// 1 if a block's table is the one of [`xtables_policy`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xtables_drops(slot: u32, private: u64, hook: u32) -> u64 {
    let Some(block) = XT_BLOCKS.get(slot) else {
        return 0;
    };
    let has_policy = hook < u32::BITS && block.policies >> hook & 1 != 0;
    u64::from(has_policy && block.owner == private && is_in_force(block))
}

/// Whether a block's table still has the rules that were registered.
#[inline(always)]
fn is_in_force(block: &XtBlock) -> bool {
    Pointer::new(block.table).read::<u64>(0) == block.info
        && Pointer::new(block.info).read::<u64>(0) == block.head
}

/// Where a rule's counter stands in its block, and from which hooks the rule can be
/// reached; from none if it is no such rule.
#[inline(always)]
fn rule(which: u32) -> (u16, u8) {
    match XT_BLOCKS.get(which >> 8) {
        Some(block) => (block.at[index(which)], block.hooks[index(which)]),
        None => (0, 0),
    }
}

/// Its index in its block.
#[inline(always)]
const fn index(which: u32) -> usize {
    which as usize % XT_COUNTERS
}

/// Copies kernel memory into [`XT_MEMORY`]. Without an address: the running task's,
/// and where this CPU's [`XtCpu`] and the map that it is in are.
#[inline(always)]
pub fn read(ctx: &impl EbpfContext) -> i32 {
    let Some(memory) = XT_MEMORY.get_ptr_mut(0) else {
        return -1;
    };
    let from = argument(ctx, 0);
    let len = argument(ctx, 1) as u32;
    if from == 0 {
        let words = memory.cast::<u64>();
        let own = XT_CPU.get_ptr(0).map_or(0, |cpu| cpu as u64);
        // SAFETY: inside the element.
        unsafe {
            words.write_volatile(bpf_get_current_task());
            words.add(1).write_volatile((&raw const XT_CPU) as u64);
            words.add(2).write_volatile(own);
        }
        return 0;
    }
    // SAFETY: the element is as large.
    unsafe { read_bytes::<XT_PIECE>(memory.cast(), len, from) as i32 }
}

/// Takes the counters of a namespace as they are on this CPU.
#[inline(always)]
pub fn settle(ctx: &impl EbpfContext) -> i32 {
    let (first, count) = (argument(ctx, 0) as u32, argument(ctx, 1) as u32);
    let Some(cpu) = XT_CPU.get_ptr_mut(0) else {
        return -1;
    };
    // SAFETY: this CPU's element.
    unsafe {
        if (&raw const (*cpu).busy).read_volatile() != 0 {
            return -1;
        }
        (&raw mut (*cpu).busy).write_volatile(1);
        // Stored and read again, an address is a plain number to the verifier.
        (&raw mut (*cpu).offset).write_volatile(cpu as u64);
        let own = (&raw const (*cpu).offset).read_volatile();
        (&raw mut (*cpu).offset).write_volatile(own.wrapping_sub(argument(ctx, 2)));
        if let Some(seen) = XT_SEEN.get_ptr_mut(first) {
            (&raw mut (*seen).missed).write_volatile(0);
        }
        xtables_take_all(first, count);
        (&raw mut (*cpu).busy).write_volatile(0);
    }
    0
}
