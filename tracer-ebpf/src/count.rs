//! How an event is counted so that no total ever lacks one.

use core::arch::asm;

use droptrace_types::{
    COUNTS_CAUSES, COUNTS_FLOWS, Cause, Counts, Key, Loss, Tuple, UNLISTED_SLOTS,
};

use crate::{
    kernel::zero,
    maps::{COUNTS, LOSSES, UNLISTED},
};

/// `BPF_NOEXIST`
const NO_EXIST: u64 = 1;
/// Another CPU inserted the key between look-up and insertion.
const EEXIST: i32 = -17;

/// Counts one packet of `bytes` under `key`. True if it is the first of its key
/// since the counts were last taken away. Where the map of flows is full it is
/// counted by its cause alone, to which `key` is then reduced, and as lost where
/// that map is full too.
///
/// A function of its own, so that its variables are not on the stack together
/// with those of other steps.
#[inline(never)]
pub fn count(key: &mut Key, bytes: u64, now: u64) -> bool {
    if let Some(first) = add(COUNTS_FLOWS, key, bytes, now) {
        return first;
    }
    let mark = hash_cause(&key.cause);
    let slot = (hash_flow(key) ^ mark) as usize % UNLISTED_SLOTS;
    if let Some(unlisted) = UNLISTED.get_ptr_mut(0) {
        // SAFETY: inside the element, by the remainder above; a plain store
        // cannot tear, and which of two concurrent marks stays does not matter.
        unsafe { core::ptr::write_volatile(unlisted.cast::<u32>().add(slot), mark as u32) };
    }
    zero(&mut key.flow);
    zero(&mut key.about);
    key.vlan = 0;
    key.ethertype = 0;
    key.sketch = mark as u32;
    if add(COUNTS_CAUSES, key, bytes, now).is_none() {
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

/// Adds to the element of `key`, making it if need be. `Some(true)` if it was
/// made, `None` if there is no room.
#[inline(always)]
fn add(slot: u32, key: &Key, bytes: u64, now: u64) -> Option<bool> {
    let map = COUNTS.get(slot)?.map();
    if let Some(counts) = map.get_ptr_mut(key) {
        increment(counts, bytes, now);
        return Some(false);
    }
    let first = Counts {
        packets: 1,
        bytes,
        first_ns: now,
        last_ns: now,
    };
    match map.insert(key, &first, NO_EXIST) {
        Ok(()) => Some(true),
        Err(EEXIST) => {
            increment(map.get_ptr_mut(key)?, bytes, now);
            Some(false)
        }
        Err(_) => None,
    }
}

#[inline(always)]
fn increment(counts: *mut Counts, bytes: u64, now: u64) {
    // SAFETY: an element of the active map. User space never deletes from it,
    // so it stays this key's until the program ends.
    unsafe {
        increase(&raw mut (*counts).packets, 1);
        increase(&raw mut (*counts).bytes, bytes);
        core::ptr::write_volatile(&raw mut (*counts).last_ns, now);
    }
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

/// Multiplier of the 64-bit Fibonacci hash.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(SPREAD);
    mixed ^ (mixed >> 29)
}

/// A hash of `cause` that is never 0 in its lower half.
#[inline(always)]
fn hash_cause(cause: &Cause) -> u64 {
    let hash = mix(mix(SPREAD, cause.location), cause.rule);
    let hash = mix(hash, u64::from(cause.reason) << 32 | u64::from(cause.netns));
    let flags = u64::from(cause.kind) << 24
        | u64::from(cause.direction) << 16
        | u64::from(cause.decode) << 8
        | u64::from(cause.socket_family);
    mix(hash, u64::from(cause.ifindex) << 32 | flags) | 1
}

#[inline(always)]
fn hash_flow(key: &Key) -> u64 {
    mix(hash_tuple(&key.flow), hash_tuple(&key.about)) >> 16
}

#[inline(always)]
fn hash_tuple(tuple: &Tuple) -> u64 {
    // SAFETY: a tuple is five words without padding.
    let words: &[u64; 5] = unsafe { &*core::ptr::from_ref(tuple).cast() };
    let mut hash = SPREAD;
    for word in words {
        hash = mix(hash, *word);
    }
    hash
}
