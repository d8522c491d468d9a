//! Which nftables rule decides, seen at nftables' own functions.
//!
//! For kernels in which `nft_do_chain` has returned when the packet is freed, and
//! the rule with it. These programs run on packets that pass too, and are attached
//! only while they are needed. `nft_do_chain` begins with a base chain; functions
//! that may set a verdict follow, each with the expression that it works on, which
//! lies inside its rule. What was decided is kept for a packet until it is freed.
//!
//! A program that the kernel skips, or a return that it misses, leaves a packet
//! undecided or unknown; then nothing is told.
//! <https://github.com/torvalds/linux/blob/v5.10/net/netfilter/nf_tables_core.c>

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_ktime_get_ns,
    programs::{ProbeContext, RetProbeContext},
};
use droptrace_types::{
    ABSENT, POLICY, RuleAt, TRIAL_MARK, VERDICT_HEADS, VERDICT_REGISTERS, VERDICT_WORDS,
    VerdictPlaces,
};

use crate::{
    event::Event,
    hook,
    kernel::{Pointer, constant},
    maps::{PLACES, VERDICT_TRIAL, VERDICTS},
};

/// Packets that are remembered on a CPU: a rejected one, the answer that is sent
/// meanwhile, and what interrupts them.
const PACKETS: usize = 4;
/// A packet is freed so soon after the verdict at the latest, also where a virtual
/// machine stands still in between.
const FREED_WITHIN_NS: u64 = 100_000_000;
/// Between where the stack ends when a function begins and when it has returned,
/// bytes at most: the return address.
const RETURN_ADDRESS: u64 = 16;

/// `NFT_REG_VERDICT`
const REG_VERDICT: u8 = 0;
/// Offsets in an expression (`struct nft_expr`) of the verdict that
/// `struct nft_immediate_expr` carries, and of the register it goes to. That they are
/// right, the trial shows.
/// <https://github.com/torvalds/linux/blob/v6.12/include/net/netfilter/nf_tables_core.h>
const IMMEDIATE_CODE: u32 = 8;
const IMMEDIATE_REGISTER: u32 = 24;
/// `NF_VERDICT_MASK`; of `NF_DROP` nothing is left.
const VERDICT_MASK: u32 = 0xff;
const NF_DROP: u32 = 0;
const NF_QUEUE: u32 = 3;

/// How far it is with a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum State {
    /// It is in a chain and no rule has decided yet.
    Open = 1,
    /// An expression is about to decide.
    Deciding = 2,
    /// A rule that is known has dropped it.
    Dropped = 3,
    /// A rule that is known has sent it to a queue.
    Queued = 4,
    /// Something else was decided, or by something that is not known.
    Other = 5,
}

/// What is known of a packet.
#[repr(C)]
pub struct Verdict {
    /// Its address.
    packet: u64,
    /// The base chain that it is in.
    base: u64,
    /// A [`State`].
    state: u64,
    /// Address of the head of the rule that decides.
    head: u64,
    /// Where the function that decides leaves its verdict (`struct nft_regs`).
    registers: u64,
    /// Where the stack ended when that function began.
    stack: u64,
    /// When it was dropped or queued.
    ns: u64,
}

/// What a CPU remembers.
#[repr(C)]
pub struct Verdicts {
    next: u64,
    packets: [Verdict; PACKETS],
}

impl Verdict {
    #[inline(always)]
    fn is(&self, state: State) -> bool {
        self.state == state as u64
    }

    /// Takes note of a verdict code.
    #[inline(always)]
    fn decide(&mut self, code: u32) {
        self.stack = 0;
        // SAFETY: reads the clock.
        self.ns = unsafe { bpf_ktime_get_ns() };
        // An expression outside of all rules, as in the element of a set.
        let is_known = self.head != 0;
        self.state = match code & VERDICT_MASK {
            NF_DROP if is_known => State::Dropped,
            NF_QUEUE if is_known => State::Queued,
            NF_DROP | NF_QUEUE => State::Other,
            // `NFT_CONTINUE`, `NFT_JUMP` and the like: the evaluation goes on.
            _ if code.cast_signed() < 0 => State::Open,
            _ => State::Other,
        } as u64;
    }
}

/// This CPU's memory. Nothing else writes it meanwhile: the kernel runs no probe's
/// program while another one runs on the CPU. A packet freed in between touches its
/// own entry alone.
#[inline(always)]
fn verdicts() -> Option<&'static mut Verdicts> {
    // SAFETY: this CPU's element, of plain words.
    VERDICTS.get_ptr_mut(0).map(|all| unsafe { &mut *all })
}

#[inline(always)]
fn of_packet(packet: u64) -> Option<&'static mut Verdict> {
    let mut all = verdicts()?.packets.iter_mut();
    all.find(|verdict| verdict.packet == packet)
}

/// One of the [`VERDICT_WORDS`].
#[inline(always)]
fn word(ctx: Pointer, at: u32) -> u64 {
    let stack_pointer = constant!(LAYOUT.regs_sp);
    if at >= VERDICT_REGISTERS as u32 {
        return ctx
            .follow(stack_pointer)
            .read((at - VERDICT_REGISTERS as u32) * 8);
    }
    // Behind the stack pointer stands nothing of interest.
    if at * 8 > stack_pointer {
        return 0;
    }
    ctx.read(at * 8)
}

/// `nft_do_chain(pkt, priv)` begins: the packet comes to a base chain.
#[inline(always)]
pub fn begin(ctx: &ProbeContext) {
    let (Some(info), Some(base)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else {
        return;
    };
    // `struct nft_pktinfo` begins with the packet.
    let packet = Pointer::new(info).follow(0).address();
    let verdict = match of_packet(packet) {
        Some(verdict) => verdict,
        None => {
            let Some(all) = verdicts() else { return };
            all.next = all.next.wrapping_add(1);
            &mut all.packets[all.next as usize % PACKETS]
        }
    };
    verdict.packet = packet;
    verdict.base = base;
    verdict.state = State::Open as u64;
    verdict.head = 0;
    verdict.stack = 0;
}

/// `…_eval(expr, regs, pkt)` begins, and may set a verdict. Where it is that of an
/// immediate expression, the verdict is known already.
#[inline(always)]
pub fn decide<const IMMEDIATE: bool>(ctx: &ProbeContext) {
    let (Some(expression), Some(registers), Some(info)) =
        (ctx.arg::<u64>(0), ctx.arg::<u64>(1), ctx.arg::<u64>(2))
    else {
        return;
    };
    let expression = Pointer::new(expression);
    if IMMEDIATE && expression.read::<u8>(IMMEDIATE_REGISTER) != REG_VERDICT {
        return;
    }
    let packet = Pointer::new(info).follow(0);
    let (Some(verdict), Some(places)) = (of_packet(packet.address()), PLACES.get(0)) else {
        return;
    };
    let ctx = Pointer::new(ctx.as_ptr() as u64);
    if places.trial_netns != 0 && packet.read::<u32>(constant!(LAYOUT.skb_mark)) == TRIAL_MARK {
        copy(ctx, packet, expression, verdict.base);
    }
    let stack = ctx.follow(constant!(LAYOUT.regs_sp)).address();
    // What a deciding function has called decides nothing by itself.
    if verdict.is(State::Deciding) && stack < verdict.stack {
        return;
    }
    verdict.head = head(&places.verdict, ctx, expression);
    if IMMEDIATE {
        verdict.decide(expression.read(IMMEDIATE_CODE));
        return;
    }
    // A function that began here before has returned, seen or not.
    if let Some(all) = verdicts() {
        for other in &mut all.packets {
            if other.stack.wrapping_sub(stack) <= RETURN_ADDRESS {
                other.stack = 0;
            }
        }
    }
    verdict.state = State::Deciding as u64;
    verdict.registers = registers;
    verdict.stack = stack;
}

/// A function that [`decide`] saw has returned.
#[inline(always)]
pub fn decided(ctx: &RetProbeContext) {
    let stack = Pointer::new(ctx.as_ptr() as u64)
        .follow(constant!(LAYOUT.regs_sp))
        .address();
    let Some(all) = verdicts() else { return };
    for verdict in &mut all.packets {
        if verdict.is(State::Deciding) && stack.wrapping_sub(verdict.stack) <= RETURN_ADDRESS {
            let code = Pointer::new(verdict.registers).read(0);
            verdict.decide(code);
        }
    }
}

/// Address of the head of the rule that the expression is in; 0 where what stands in
/// the rule's place is not that rule.
#[inline(always)]
fn head(places: &VerdictPlaces, ctx: Pointer, expression: Pointer) -> u64 {
    if places.is_known == 0 {
        return 0;
    }
    let at = Pointer::new(word(ctx, places.rule_at)).at(places.head_at);
    if places
        .head
        .has(at.read(0), at.address(), expression.address())
    {
        at.address()
    } else {
        0
    }
}

/// Hands user space what it searches for the rule.
#[inline(always)]
fn copy(ctx: Pointer, packet: Pointer, expression: Pointer, base: u64) {
    let Some(copy) = VERDICT_TRIAL.get_ptr_mut(0) else {
        return;
    };
    for at in 0..VERDICT_WORDS {
        let word = Pointer::new(word(ctx, at as u32));
        // SAFETY: inside the element; nobody else writes it meanwhile.
        unsafe {
            (&raw mut (*copy).words[at]).write_volatile(word.address());
            for behind in 0..VERDICT_HEADS {
                let head = word.read(behind as u32 * 8);
                (&raw mut (*copy).heads[behind][at]).write_volatile(head);
            }
        }
    }
    // SAFETY: as above.
    unsafe {
        (&raw mut (*copy).expression).write_volatile(expression.address());
        (&raw mut (*copy).base).write_volatile(base);
        (&raw mut (*copy).packet).write_volatile(packet.address());
    }
}

/// Who dropped the packet, as [`droptrace_types::Cause::rule`] has it: the head of a
/// rule, or the base chain whose policy it was; 0 where that is not known. `by_queue`:
/// it was freed since nobody took it from the queue that a rule sent it to.
#[inline(always)]
pub fn find(packet: Pointer, by_queue: bool) -> u64 {
    let is_on = PLACES.get(0).is_some_and(|at| at.verdict.is_known != 0);
    if !is_on {
        return 0;
    }
    let Some(verdict) = of_packet(packet.address()) else {
        return 0;
    };
    let decided = if by_queue {
        State::Queued
    } else {
        State::Dropped
    };
    // SAFETY: reads the clock, which may be behind what another reading has said.
    let now = unsafe { bpf_ktime_get_ns() };
    if verdict.is(decided) && now < verdict.ns.wrapping_add(FREED_WITHIN_NS) {
        verdict.head
    } else if verdict.is(State::Open) && !by_queue {
        verdict.base | POLICY
    } else {
        0
    }
}

/// The packet is gone; another one may get its address.
#[inline(always)]
pub fn forget(packet: Pointer) {
    if let Some(verdict) = of_packet(packet.address()) {
        verdict.packet = 0;
        verdict.state = State::Other as u64;
    }
}

/// Says which rule it was, by the numbers that the kernel gives. Where nothing else
/// has told (`is_alone`), it must be what the packet is counted under.
#[inline(never)]
pub fn tell(event: &Event, is_alone: bool, found: &mut RuleAt) -> u32 {
    let packet = event.packet.skb;
    let decided = find(packet, hook::freed_by_queue(event.key.cause.location));
    let (Some(places), Some(verdict)) = (PLACES.get(0), of_packet(packet.address())) else {
        return 0;
    };
    if decided == 0 || (is_alone && decided != event.key.cause.rule) {
        return 0;
    }
    let places = &places.verdict;
    let base = Pointer::new(verdict.base);
    found.table = base.follow(places.chain_table).read(places.table_handle);
    if decided & POLICY != 0 {
        found.chain = base.read(places.chain_handle);
    } else {
        found.rule = places.head.handle(Pointer::new(decided).read(0));
    }
    if constant!(LAYOUT.net_cookie) != ABSENT {
        let net = event.device.follow(constant!(LAYOUT.dev_net));
        found.cookie = net.read(constant!(LAYOUT.net_cookie));
    }
    found.is_known = 1;
    1
}
