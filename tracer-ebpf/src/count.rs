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

/// Counts one packet of `bytes` under `key`. True if it is the first of its key
/// since the counts were last taken away. Where the map of flows is full it is
/// counted by its cause alone, to which `key` is then reduced, and as lost where
/// that map is full too.
///
/// For a key that has been counted before, which most are, no function is called, since
/// some CPUs take as long for the way back from one as for all of this. Where a helper reads
/// memory, which takes far longer, the stack is spared instead.
#[cfg_attr(feature = "loads", inline(always))]
#[cfg_attr(not(feature = "loads"), inline(never))]
pub fn count(key: &mut Key, bytes: u64, now: u64) -> bool {
    let digest = digest_of::<KEY_WORDS>(key);
    if cfg!(feature = "loads")
        && let Some(counts) = COUNTS.get(COUNTS_FLOWS)
        && let Some(known) = counts.map().get_ptr_mut(&digest)
        && increment(known, key, bytes, now)
    {
        return false;
    }
    count_new(key, digest, bytes, now)
}

/// As [`count`], a key that may have to be made. A function of its own, so that its variables
/// are not on the stack together with those of other steps.
#[cfg_attr(feature = "loads", inline(never))]
#[cfg_attr(not(feature = "loads"), inline(always))]
pub fn count_new(key: &mut Key, digest: u64, bytes: u64, now: u64) -> bool {
    if let Some(first) = add(COUNTS_FLOWS, digest, key, bytes, now) {
        return first;
    }
    let of_cause = digest_of::<CAUSE_WORDS>(key);
    let mark = (of_cause >> 32) as u32 | 1;
    let slot = (digest >> 32) as usize % UNLISTED_SLOTS;
    if let Some(unlisted) = UNLISTED.get_ptr_mut(0) {
        // SAFETY: inside the element, by the remainder above; a plain store
        // cannot tear, and which of two concurrent marks stays does not matter.
        unsafe { core::ptr::write_volatile(unlisted.cast::<u32>().add(slot), mark) };
    }
    forget_flow(key);
    key.sketch = mark;
    if add(COUNTS_CAUSES, of_cause, key, bytes, now).is_none() {
        lose(Loss::Packets, 1);
        lose(Loss::Bytes, bytes);
    }
    false
}

/// Makes all flows of a cause the same.
#[inline(always)]
pub fn forget_flow(key: &mut Key) {
    zero(&mut key.flow);
    zero(&mut key.about);
    key.vlan = 0;
    key.ethertype = 0;
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
/// made, `None` if there is no room, or another key has the digest.
#[inline(always)]
fn add(slot: u32, digest: u64, key: &Key, bytes: u64, now: u64) -> Option<bool> {
    let map = COUNTS.get(slot)?.map();
    if let Some(element) = map.get_ptr_mut(&digest) {
        return increment(element, key, bytes, now).then_some(false);
    }
    let first = Counted {
        key: *key,
        counts: Counts {
            packets: 1,
            bytes,
            first_ns: now,
            last_ns: now,
        },
    };
    match map.insert(&digest, &first, NO_EXIST) {
        Ok(()) => Some(true),
        Err(EEXIST) => {
            let element = map.get_ptr_mut(&digest)?;
            increment(element, key, bytes, now).then_some(false)
        }
        Err(_) => None,
    }
}

/// Adds to an element; false if that is another key's.
#[inline(always)]
fn increment(element: *mut Counted, key: &Key, bytes: u64, now: u64) -> bool {
    // SAFETY: an element of the active map, whose key never changes. User space never
    // deletes from it, so it stays this key's until the program ends.
    unsafe {
        if differ(&(*element).key, key) {
            return false;
        }
        let counts = &raw mut (*element).counts;
        increase(&raw mut (*counts).packets, 1);
        increase(&raw mut (*counts).bytes, bytes);
        core::ptr::write_volatile(&raw mut (*counts).last_ns, now);
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
    let (mut bits, mut last) = (0, 0);
    for (one, other) in words(one).iter().zip(words(other)) {
        bits |= last;
        last = one ^ other;
    }
    // `bits |= last`. Where the compiler knew whence that is, it would branch after all.
    // SAFETY: works on two registers.
    unsafe { asm!("{bits} |= {last}", bits = inout(reg) bits, last = in(reg) last) };
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
