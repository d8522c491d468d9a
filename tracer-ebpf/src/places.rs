//! Where on the kernel's stack stands what tells who dropped a packet.
//!
//! That differs from kernel to kernel. User space finds it out by trial, for
//! which it is given the stack at drops in a namespace of its own.

use aya_ebpf::cty::c_void;
use droptrace_types::{POLICY, STACK_WORDS, STACK_WORDS_BELOW};

use crate::{
    event::Event,
    kernel::{Pointer, address_bits, address_in},
    maps::{PLACES, RULE_LAYOUT, TRIAL},
    verdict,
};

/// The words of the stack around a program's context, which lies on it.
#[derive(Clone, Copy)]
pub struct Stack(Pointer);

impl Stack {
    #[inline(always)]
    pub fn of(ctx: *mut c_void) -> Self {
        let below = STACK_WORDS_BELOW as u64 * 8;
        Self(Pointer::new((ctx as u64).wrapping_sub(below)))
    }

    /// One of the [`STACK_WORDS`].
    #[inline(always)]
    pub fn word(self, at: u32) -> u64 {
        self.0.read(at * 8)
    }
}

/// While user space looks for the places: hands it the stack of an event in the
/// namespace that it does so in. True if the event was such a one.
#[inline(always)]
pub fn is_trial(ctx: *mut c_void, event: &Event) -> bool {
    let is_trial = PLACES.get(0).is_some_and(|places| {
        places.trial_netns != 0 && places.trial_netns == event.key.cause.netns
    });
    if is_trial {
        show(ctx, event);
    }
    is_trial
}

/// Hands user space the stack of an event. A function of its own as
/// [`crate::count::count_new`].
#[inline(never)]
fn show(ctx: *mut c_void, event: &Event) -> u32 {
    let Some(copy) = TRIAL.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: inside the element; nobody else writes it meanwhile.
    unsafe { (&raw mut (*copy).at).write_volatile(Stack::of(ctx).0.address()) };
    trial_stack();
    let decided = verdict::find(event.packet.skb, false);
    let head: u64 = Pointer::new(decided & !POLICY).read(0);
    verdict::forget(event.packet.skb);
    // SAFETY: as above.
    unsafe {
        (&raw mut (*copy).verdict).write_volatile(decided);
        (&raw mut (*copy).verdict_head).write_volatile(head);
        (&raw mut (*copy).packet).write_volatile(event.packet.skb.address());
        (&raw mut (*copy).location).write_volatile(event.key.cause.location);
    }
    1
}

/// Hands user space the [`STACK_WORDS`] of the trial's stack, and what they point to. By
/// its name in the object the kernel verifies it once and not for every call, and so it
/// does [`trial_word`], of which it would else follow each turn of the loop.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn trial_stack() -> u64 {
    for i in 0..STACK_WORDS as u64 {
        trial_word(i);
    }
    1
}

/// One of those words.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn trial_word(i: u64) -> u64 {
    let (Some(copy), Some(layout)) = (TRIAL.get_ptr_mut(0), RULE_LAYOUT.get(0)) else {
        return 0;
    };
    if i >= STACK_WORDS as u64 {
        return 0;
    }
    // SAFETY: inside the element. Read from there, the address is a plain number to the
    // verifier.
    let stack = unsafe { (&raw const (*copy).at).read_volatile() };
    let address_bits = address_bits(stack);
    let word = Stack(Pointer::new(stack)).word(i as u32);
    let behind = address_in(word, address_bits);
    let i = i as usize;
    // SAFETY: as above; nobody else writes it meanwhile.
    unsafe {
        (&raw mut (*copy).words[i]).write_volatile(word);
        (&raw mut (*copy).heads[i]).write_volatile(behind.read(0));
        (&raw mut (*copy).chains[i]).write_volatile(behind.read(layout.chain_handle));
    }
    1
}
