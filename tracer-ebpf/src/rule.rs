//! Which nftables rule dropped the packet.
//!
//! `nft_do_chain` itself frees the packet that a rule drops, and has that rule
//! still in one of its registers, which the functions below it save on the
//! stack. Where, user space has found out for this kernel ([`RULE_PLACE`]).

use aya_ebpf::cty::c_void;
use droptrace_types::{ABSENT, RULE_STACK_BELOW, RULE_STACK_WORDS, RuleAt, RuleHead, RuleLayout};

use crate::{
    event::Event,
    kernel::{Pointer, constant},
    maps::{RULE_LAYOUT, RULE_PLACE, RULE_STACK},
};

/// Rules behind the one that dropped, up to the end of its chain, that are
/// walked over at most.
const MAX_RULES: u32 = 1024;
/// While user space looks for the place: hands it the stack of an event in the
/// namespace that it does so in. True if the event was such a one.
#[inline(never)]
pub fn is_trial(ctx: *mut c_void, event: &Event) -> bool {
    let Some(place) = RULE_PLACE.get(0) else {
        return false;
    };
    if place.trial_netns == 0 || place.trial_netns != event.key.cause.netns {
        return false;
    }
    if let Some(copy) = RULE_STACK.get_ptr_mut(0) {
        let stack = base(ctx);
        for i in 0..RULE_STACK_WORDS {
            let word = stack.follow(i as u32 * 8);
            // SAFETY: inside the element; nobody else writes it meanwhile.
            unsafe {
                (&raw mut (*copy).words[i]).write_volatile(word.address());
                (&raw mut (*copy).heads[i]).write_volatile(word.read(0));
            }
        }
    }
    true
}

/// Where the words of the stack begin that are looked at.
#[inline(always)]
fn base(ctx: *mut c_void) -> Pointer {
    Pointer::new((ctx as u64).wrapping_sub(RULE_STACK_BELOW as u64 * 8))
}

/// Address of the rule that dropped the event's packet, or 0. What stands there
/// has still to prove itself.
#[inline(never)]
pub fn address(ctx: *mut c_void, location: u64) -> u64 {
    let Some(place) = RULE_PLACE.get(0) else {
        return 0;
    };
    let stack = base(ctx);
    // The same way down the stack as when the place was found.
    if place.is_known == 0 || stack.follow(place.location_at * 8).address() != location {
        return 0;
    }
    stack.follow(place.rule_at * 8).address()
}

/// Says which rule the event's is, as far as it proves itself.
#[inline(never)]
pub fn find(event: &Event, found: &mut RuleAt) -> u32 {
    let Some(layout) = RULE_LAYOUT.get(0) else {
        return 0;
    };
    if layout.is_known == 0 {
        return 0;
    }
    let known = identify(layout, Pointer::new(event.key.cause.rule), found);
    if known != 0 && constant!(LAYOUT.net_cookie) != ABSENT {
        let net = event.device.follow(constant!(LAYOUT.dev_net));
        found.cookie = net.read(constant!(LAYOUT.net_cookie));
    }
    known
}

/// Walks to the end of the rule's chain, which names the chain, and that the
/// table. The chain must own the memory that the rule is in.
#[inline(always)]
fn identify(layout: &RuleLayout, rule: Pointer, found: &mut RuleAt) -> u32 {
    let handle = RuleHead(rule.read(0)).handle();
    let mut last = rule;
    for _ in 0..MAX_RULES {
        let head = RuleHead(last.read(0));
        if head.is_last() || head.0 == 0 {
            break;
        }
        last = Pointer::new(last.address() + RuleHead::BYTES + head.body_len());
    }
    if !RuleHead(last.read(0)).is_last() {
        return 0;
    }
    let chain = last.follow(layout.last_chain);
    let blob_0 = chain.follow(layout.chain_blob_0);
    let blob_1 = chain.follow(layout.chain_blob_1);
    if !holds(layout, blob_0, rule, last) && !holds(layout, blob_1, rule, last) {
        return 0;
    }
    let table = chain.follow(layout.chain_table);
    let family: u8 = table.bits(layout.table_family) & 0x3f;
    *found = RuleAt {
        table: table.read(layout.table_handle),
        chain: chain.read(layout.chain_handle),
        rule: if last.address() == rule.address() {
            0
        } else {
            handle
        },
        cookie: 0,
        family: u32::from(family),
        is_known: 1,
    };
    1
}

/// Whether a chain's memory, of one generation or the other, begins before
/// `rule` and ends with `last`.
#[inline(always)]
fn holds(layout: &RuleLayout, blob: Pointer, rule: Pointer, last: Pointer) -> bool {
    let rules = blob.at(layout.blob_data).address();
    let size: u64 = blob.read(layout.blob_size);
    !blob.is_null() && rules <= rule.address() && rules.wrapping_add(size) == last.address()
}
