//! Which nftables rule dropped the packet.
//!
//! `nft_do_chain` itself frees the packet that a rule drops, and has that rule
//! still in one of its registers, which the functions below it save on the
//! stack. Where, user space has found out for this kernel ([`crate::places`]).

use aya_ebpf::cty::c_void;
use droptrace_types::{ABSENT, RuleAt, RuleHead, RuleLayout};

use crate::{
    event::Event,
    hook,
    kernel::{Pointer, Struct as _, constant, forget},
    maps::{PLACES, RULE_LAYOUT},
    places::Stack,
};

/// Rules behind the one that dropped, up to the end of its chain, that are walked over
/// at most: so many strides of so many rules.
const STRIDES: u32 = 16;
const STRIDE: u32 = 64;

/// A chain's rules take less memory than this, bytes. What is no chain may seem to
/// have more.
const MAX_SIZE: u64 = 1 << 32;

/// Address of the rule that dropped the event's packet, or 0. What stands there
/// has still to prove itself.
#[inline(always)]
pub fn address(stack: Stack, location: u64) -> u64 {
    let Some(places) = PLACES.get(0) else {
        return 0;
    };
    // The same way down the stack as when the places were found.
    if places.chain.is_known == 0 || stack.word(places.chain.location_at) != location {
        return 0;
    }
    stack.word(places.chain.rule_at)
}

/// Says which rule the event's is, as far as it proves itself.
#[inline(never)]
pub fn find(ctx: *mut c_void, event: &Event, found: &mut RuleAt) -> u32 {
    let (Some(layout), Some(places)) = (RULE_LAYOUT.get(0), PLACES.get(0)) else {
        return 0;
    };
    if layout.is_known == 0 {
        return 0;
    }
    let rule = Pointer::new(event.key.cause.rule);
    let at_hook = hook::entries(ctx, event, layout);
    let mut stacked = Pointer::NULL;
    if places.chain.chain_at != ABSENT {
        stacked = Pointer::new(Stack::of(ctx).word(places.chain.chain_at));
    }
    // The verifier of 6.1 follows only the null from here on, behind the calls, and takes
    // away what is for a chain.
    forget(&mut stacked);
    let mut chain = stacked;
    if nft_owns(chain.address(), rule.address()) == 0 && layout.last_chain != ABSENT {
        let last = Pointer::new(nft_last_rule(rule.address()));
        chain = last.follow(layout.last_chain);
    }
    if nft_owns(chain.address(), rule.address()) == 0 {
        chain = at_hook.owner(rule);
    }
    let head = RuleHead(rule.read(0));
    if chain.is_null() && head.is_last() && !stacked.is_null() {
        // The packet came back from another chain, whose end is still in the rule's
        // place, and met no rule behind the jump.
        let table = stacked.follow(layout.chain_table);
        if at_hook.base_chain(table).address() == stacked.address() {
            chain = stacked;
        }
    }
    if chain.is_null() {
        return 0;
    }
    let table = chain.follow(layout.chain_table);
    if head.is_last() && !is_base(layout, chain) {
        // The packet was sent there by `goto`, and so did not come back.
        chain = at_hook.base_chain(table);
    }
    let family: u8 = table.bits(layout.table_family) & 0x3f;
    *found = RuleAt {
        table: table.read(layout.table_handle),
        chain: chain.read(layout.chain_handle),
        rule: if head.is_last() { 0 } else { head.handle() },
        cookie: 0,
        family: u32::from(family),
        is_known: 1,
    };
    if constant!(LAYOUT.net_cookie) != ABSENT {
        let net = event.device.follow(constant!(LAYOUT.dev_net));
        found.cookie = net.read(constant!(LAYOUT.net_cookie));
    }
    1
}

/// `NFT_CHAIN_BASE`: the chain has a hook, and a policy.
#[inline(always)]
pub fn is_base(layout: &RuleLayout, chain: Pointer) -> bool {
    chain.bits(layout.chain_flags) & 1 != 0
}

/// Whether the memory of the chain's rules, of one generation or the other, has
/// `rule` in it.
#[inline(always)]
pub fn owns(layout: &RuleLayout, chain: Pointer, rule: Pointer) -> bool {
    holds(layout, chain.follow(layout.chain_blob_0), rule)
        || holds(layout, chain.follow(layout.chain_blob_1), rule)
}

#[inline(always)]
fn holds(layout: &RuleLayout, blob: Pointer, rule: Pointer) -> bool {
    let rules = blob.at(layout.blob_data).address();
    let size: u64 = blob.read(layout.blob_size);
    // Without a blob there is no size, and no rule so far down in memory.
    size < MAX_SIZE && rule.address().wrapping_sub(rules) <= size
}

// The functions from here on have names of their own in the object, by which the
// kernel verifies each once and not for every call.

/// See [`owns`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nft_owns(chain: u64, rule: u64) -> u64 {
    let Some(layout) = RULE_LAYOUT.get(0) else {
        return 0;
    };
    u64::from(owns(layout, Pointer::new(chain), Pointer::new(rule)))
}

/// The end of the chain that `rule` is in; 0 where it is too far.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nft_last_rule(rule: u64) -> u64 {
    let mut last = rule;
    for _ in 0..STRIDES {
        last = nft_stride(last);
    }
    if RuleHead(Pointer::new(last).read(0)).is_last() {
        last
    } else {
        0
    }
}

/// A [`STRIDE`] of rules on, or the end of the chain if that is nearer. The kernel
/// verifies one stride, and not as many rules as all strides have.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nft_stride(rule: u64) -> u64 {
    let mut at = Pointer::new(rule);
    for _ in 0..STRIDE {
        let head = RuleHead(at.read(0));
        if head.is_last() || head.0 == 0 {
            break;
        }
        at = Pointer::new(at.address() + RuleHead::BYTES + head.body_len());
    }
    at.address()
}
