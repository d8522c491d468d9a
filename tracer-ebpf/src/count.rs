//! How an event is counted so that no total ever lacks one.
//!
//! A map of counts is looked up by a digest of the key, since the kernel takes longer for
//! a key the longer it is. The key itself stands in the element, and is compared. Where
//! another one has the same digest, which without knowing [`SEEDS`] nobody can bring about,
//! the packet is counted by its cause alone.

use core::arch::asm;

use droptrace_types::{
    COUNTS_CAUSES, COUNTS_FLOWS, Cause, Counted, Counts, KEY_WORDS, Key, Loss, UNLISTED_SLOTS,
};

use crate::{
    kernel::{SEEDS, zero},
    maps::{COUNTS, LOSSES, UNLISTED},
};

/// `BPF_NOEXIST`
const NO_EXIST: u64 = 1;
/// Another CPU inserted the key between look-up and insertion.
const EEXIST: i32 = -17;
/// Words of a [`Cause`], with which a key begins.
const CAUSE_WORDS: usize = size_of::<Cause>() / 8;

/// Counts one packet of `bytes` under the key of `event`, of which nothing else is used.
/// True if it is the first of its key since the counts were last taken away. Where the map
/// of flows is full it is counted by its cause alone, to which the key is then reduced, and
/// as lost where that map is full too.
///
/// A function of its own, so that its variables are not on the stack together
/// with those of other steps.
#[inline(never)]
pub fn count(event: &mut Counted, bytes: u64, now: u64) -> bool {
    event.counts = Counts {
        packets: 1,
        bytes,
        first_ns: now,
        last_ns: now,
    };
    let digest = digest_of::<KEY_WORDS>(&event.key);
    if let Some(first) = add(COUNTS_FLOWS, digest, event) {
        return first;
    }
    let of_cause = digest_of::<CAUSE_WORDS>(&event.key);
    let mark = (of_cause >> 32) as u32 | 1;
    let slot = (digest >> 32) as usize % UNLISTED_SLOTS;
    if let Some(unlisted) = UNLISTED.get_ptr_mut(0) {
        // SAFETY: inside the element, by the remainder above; a plain store
        // cannot tear, and which of two concurrent marks stays does not matter.
        unsafe { core::ptr::write_volatile(unlisted.cast::<u32>().add(slot), mark) };
    }
    let key = &mut event.key;
    zero(&mut key.flow);
    zero(&mut key.about);
    key.vlan = 0;
    key.ethertype = 0;
    key.sketch = mark;
    if add(COUNTS_CAUSES, of_cause, event).is_none() {
        lose(Loss::Packets, 1);
        lose(Loss::Bytes, bytes);
    }
    false
}

/// Counts something that could not be recorded.
#[inline(always)]
pub fn lose(what: Loss, how_many: u64) {
    if let Some(lost) = LOSSES.get_ptr_mut(what as u32) {
        // Atomic although per CPU: an interrupt may come between.
        increase(lost, how_many);
    }
}

/// Adds the event to the element of its key, making that if need be. `Some(true)` if it was
/// made, `None` if there is no room, or another key has its digest.
#[inline(always)]
fn add(slot: u32, digest: u64, event: &Counted) -> Option<bool> {
    let map = COUNTS.get(slot)?.map();
    if let Some(element) = map.get_ptr_mut(&digest) {
        return increment(element, event).then_some(false);
    }
    match map.insert(&digest, event, NO_EXIST) {
        Ok(()) => Some(true),
        Err(EEXIST) => increment(map.get_ptr_mut(&digest)?, event).then_some(false),
        Err(_) => None,
    }
}

/// Adds the event to an element; false if that is another key's.
#[inline(always)]
fn increment(element: *mut Counted, event: &Counted) -> bool {
    // SAFETY: an element of the active map, whose key never changes. User space never
    // deletes from it, so it stays this key's until the program ends.
    unsafe {
        if differ(&(*element).key, &event.key) {
            return false;
        }
        let counts = &raw mut (*element).counts;
        increase(&raw mut (*counts).packets, event.counts.packets);
        increase(&raw mut (*counts).bytes, event.counts.bytes);
        core::ptr::write_volatile(&raw mut (*counts).last_ns, event.counts.last_ns);
    }
    true
}

#[inline(always)]
pub fn increase(counter: *mut u64, by: u64) {
    // Rust's atomics offer loads and stores only on this target.
    // SAFETY: callers pass a valid, aligned map element.
    unsafe {
        asm!(
            "lock *(u64 *)({counter} + 0) += {by}",
            counter = in(reg) counter,
            by = in(reg) by,
            options(nostack),
        );
    }
}

#[inline(always)]
fn words(key: &Key) -> &[u64; KEY_WORDS] {
    // SAFETY: a key is words without padding.
    unsafe { &*core::ptr::from_ref(key).cast() }
}

/// Whether two keys differ, without a branch for each word.
#[inline(always)]
fn differ(one: &Key, other: &Key) -> bool {
    let mut bits = 0;
    for (one, other) in words(one).iter().zip(words(other)) {
        bits |= one ^ other;
    }
    bits != 0
}

/// A digest of the first `N` words: a sum of products with odd random numbers, in which two
/// that differ in one word differ for certain.
#[inline(always)]
fn digest_of<const N: usize>(key: &Key) -> u64 {
    let mut sum = 0u64;
    for (i, word) in words(key).iter().enumerate().take(N) {
        // SAFETY: a valid, initialised static; `constant` says why it is volatile.
        let seed = unsafe { (&raw const SEEDS[i]).read_volatile() };
        sum = sum.wrapping_add(word.wrapping_mul(seed));
    }
    sum
}
