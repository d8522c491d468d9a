//! At which netfilter hook a packet was dropped, and by whom there.
//!
//! Most hook functions leave it to `nf_hook_slow`, which called them, to free
//! the packet. It has the hook's entries and the number of the one that said so
//! in its registers, which the functions below it save on the stack.

use aya_ebpf::cty::c_void;
use droptrace_types::{ABSENT, HookAt, RuleLayout};

use crate::{
    device::inode_of,
    event::Event,
    kernel::{Pointer, address, constant},
    maps::{PLACES, RULE_LAYOUT},
    places::Stack,
    rule,
};

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_BRIDGE: u8 = 7;
const NFPROTO_IPV6: u8 = 10;
/// Hooks of each of those families, at least.
const NF_INET_NUMHOOKS: u8 = 5;
/// Entries of a hook that are looked at.
const MAX_ENTRIES: u64 = 16;

/// Whether `nf_hook_slow` freed the packet.
#[inline(always)]
pub fn freed(location: u64) -> bool {
    location > address!(nf_hook_slow) && location <= address!(nf_hook_slow_end)
}

/// Whether `nf_queue` freed the packet: no program listens at the queue that a rule sent
/// it to, or the queue has no room.
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_queue.c>
#[inline(always)]
pub fn freed_by_queue(location: u64) -> bool {
    location > address!(nf_queue) && location <= address!(nf_queue_end)
}

/// Whether a bridge freed the frame, which it also does where a hook says so at
/// prerouting.
#[inline(always)]
pub fn freed_by_bridge(location: u64) -> bool {
    location > address!(bridge_pre) && location <= address!(bridge_pre_end)
}

/// The entry of the hook function that said to drop; null where it is not known.
#[inline(always)]
fn entry(stack: Stack, location: u64) -> Pointer {
    let Some(places) = PLACES.get(0) else {
        return Pointer::NULL;
    };
    let places = &places.hook;
    if places.is_known == 0 || stack.word(places.location_at) != location {
        return Pointer::NULL;
    }
    let entries = Pointer::new(stack.word(places.entries_at));
    let index = stack.word(places.index_at);
    // `num_hook_entries`
    if index >= u64::from(entries.read::<u16>(0)) {
        return Pointer::NULL;
    }
    entries.at(constant!(LAYOUT.hooks_of_entries) + index as u32 * constant!(CONFIG.hook_size))
}

/// Address of what the hook function works on, else that of the function; 0
/// where it is not known.
#[inline(never)]
pub fn address(ctx: *mut c_void, location: u64) -> u64 {
    let entry = entry(Stack::of(ctx), location);
    let private = entry.follow(constant!(LAYOUT.hook_private));
    if private.is_null() {
        entry.follow(constant!(LAYOUT.hook_function)).address()
    } else {
        private.address()
    }
}

/// The `struct nf_hook_state` with which `nft_do_chain` was called, as far as it
/// is known; it still has to prove itself.
#[inline(always)]
fn state_of_chain(stack: Stack, event: &Event, layout: &RuleLayout) -> Pointer {
    let Some(places) = PLACES.get(0) else {
        return Pointer::NULL;
    };
    if places.chain.packet_at == ABSENT
        || stack.word(places.chain.location_at) != event.key.cause.location
    {
        return Pointer::NULL;
    }
    let packet = Pointer::new(stack.word(places.chain.packet_at));
    if packet.follow(0).address() != event.packet.skb.address() {
        return Pointer::NULL;
    }
    packet.follow(layout.packet_state)
}

/// What is at a hook: the first entry, and how many there are.
#[derive(Clone, Copy)]
pub struct Entries {
    first: Pointer,
    count: u64,
}

impl Entries {
    const NONE: Self = Self {
        first: Pointer::NULL,
        count: 0,
    };

    /// The only chain of a table there; null where there are several or none.
    #[inline(always)]
    pub fn base_chain(self, table: Pointer) -> Pointer {
        let chain = nft_base_chain(self.first.address(), self.count, table.address());
        Pointer::new(chain)
    }

    /// The chain there that has `rule`; null where none has. However many rules it has,
    /// that takes no longer.
    #[inline(always)]
    pub fn owner(self, rule: Pointer) -> Pointer {
        let chain = nft_owner(self.first.address(), self.count, rule.address());
        Pointer::new(chain)
    }
}

/// What is at the hook at which the event's packet was dropped by a chain; nothing
/// where that is not known, and at hooks of devices.
#[inline(always)]
pub fn entries(ctx: *mut c_void, event: &Event, layout: &RuleLayout) -> Entries {
    let state = state_of_chain(Stack::of(ctx), event, layout);
    let net = state.follow(constant!(LAYOUT.hook_state_net));
    let hook: u8 = state.read(constant!(LAYOUT.hook_state_hook));
    let hooks = match state.read::<u8>(constant!(LAYOUT.hook_state_family)) {
        NFPROTO_IPV4 => constant!(LAYOUT.hooks_ipv4),
        NFPROTO_IPV6 => constant!(LAYOUT.hooks_ipv6),
        NFPROTO_BRIDGE => constant!(LAYOUT.hooks_bridge),
        _ => ABSENT,
    };
    if hooks == ABSENT || hook >= NF_INET_NUMHOOKS || inode_of(net) != event.key.cause.netns {
        return Entries::NONE;
    }
    let entries = net.follow(hooks + u32::from(hook) * 8);
    let count = u64::from(entries.read::<u16>(0));
    if count > MAX_ENTRIES {
        return Entries::NONE;
    }
    Entries {
        first: entries.at(constant!(LAYOUT.hooks_of_entries)),
        count,
    }
}

/// Says at which hook the event's packet was dropped, and by whom, as far as
/// that is known.
#[inline(never)]
pub fn find(ctx: *mut c_void, event: &Event, found: &mut HookAt) -> u32 {
    let (Some(places), Some(layout)) = (PLACES.get(0), RULE_LAYOUT.get(0)) else {
        return 0;
    };
    let stack = Stack::of(ctx);
    let location = event.key.cause.location;
    let mut state = Pointer::NULL;
    if freed(location) {
        let entry = entry(stack, location);
        if !entry.is_null() {
            state = Pointer::new(stack.word(places.hook.state_at));
            let function = entry.follow(constant!(LAYOUT.hook_function)).address();
            let private = entry.follow(constant!(LAYOUT.hook_private));
            found.function = function;
            found.private = private.address();
            if function != 0 && function == address!(nf_hook_run_bpf) {
                let aux = private.follow(constant!(LAYOUT.bpf_aux));
                found.prog_id = aux.read(constant!(LAYOUT.bpf_aux_id));
            }
        }
    } else {
        state = state_of_chain(stack, event, layout);
    }
    // It must be of the packet's own namespace.
    let net = state.follow(constant!(LAYOUT.hook_state_net));
    if net.is_null() || inode_of(net) != event.key.cause.netns {
        found.function = 0;
        return 0;
    }
    found.hook = state.read(constant!(LAYOUT.hook_state_hook));
    found.family = state.read(constant!(LAYOUT.hook_state_family));
    found.is_known = 1;
    1
}

// The functions from here on have names of their own in the object, by which the
// kernel verifies each once and not for every call.

/// See [`Entries::base_chain`]: of the `count` entries of a hook, `entry` and those
/// behind it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nft_base_chain(entry: u64, count: u64, table: u64) -> u64 {
    let mut entry = entry;
    let mut found = 0;
    for i in 0..MAX_ENTRIES {
        if i >= count {
            break;
        }
        let chain = nft_chain_of_table(entry, table);
        entry += u64::from(constant!(CONFIG.hook_size));
        if chain != 0 {
            if found != 0 {
                return 0;
            }
            found = chain;
        }
    }
    found
}

/// The base chain at a hook's entry, if it is one of the table; else 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nft_chain_of_table(entry: u64, table: u64) -> u64 {
    let Some(layout) = RULE_LAYOUT.get(0) else {
        return 0;
    };
    let chain = chain(entry);
    if chain.follow(layout.chain_table).address() == table && rule::is_base(layout, chain) {
        return chain.address();
    }
    0
}

/// See [`Entries::owner`]: of the `count` entries of a hook, `entry` and those behind it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nft_owner(entry: u64, count: u64, rule: u64) -> u64 {
    let mut entry = entry;
    for i in 0..MAX_ENTRIES {
        if i >= count {
            break;
        }
        let chain = nft_chain_with_rule(entry, rule);
        if chain != 0 {
            return chain;
        }
        entry += u64::from(constant!(CONFIG.hook_size));
    }
    0
}

/// The base chain at a hook's entry, if it has the rule; else 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nft_chain_with_rule(entry: u64, rule: u64) -> u64 {
    let Some(layout) = RULE_LAYOUT.get(0) else {
        return 0;
    };
    let chain = chain(entry);
    if rule::is_base(layout, chain) && rule::owns(layout, chain, Pointer::new(rule)) {
        return chain.address();
    }
    0
}

/// What the function at a hook's entry works on, which is a chain if nftables put it there.
#[inline(always)]
fn chain(entry: u64) -> Pointer {
    Pointer::new(entry).follow(constant!(LAYOUT.hook_private))
}
