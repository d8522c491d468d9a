//! A drop inside a drop: an interrupt comes while the program for a packet runs,
//! and frees another one.
//!
//! Most kernels do not run a program that already runs on the CPU
//! ([`__bpf_trace_run`](https://github.com/torvalds/linux/blob/v6.12/kernel/trace/bpf_trace.c)).
//! So a second one stands at the tracepoint behind the first. It does nothing but
//! for a packet that the first was kept from, for which it calls it.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use droptrace_types::Loss;

use crate::{
    count::{self, lose},
    event::Event,
    kernel::constant,
    kfunc::without_preemption,
    maps::{FIRST, RUNNING},
};

/// No program of [`FIRST`].
const NOBODY: u32 = 1;

/// Events at a time on a CPU: of a process, of an interrupt in the middle of that, and so
/// on. As many as there are such levels.
const LEVELS: usize = 4;

/// What runs on this CPU.
#[repr(C)]
pub struct Running {
    /// How many runs of the first program have begun and not ended.
    depth: u64,
    /// How many of them were called by the second one and have not begun.
    called: u64,
    /// 1 if this kernel runs a program inside itself.
    kernel_nests: u64,
    /// How many of `events` are in use.
    level: u64,
    events: [MaybeUninit<Event>; LEVELS],
}

/// Runs `record`, so that [`call_first`] knows of it, with a place for the event. That is
/// none of the stack's: of what stands in a map the verifier knows nothing, so that paths
/// that left different things there are the same to it.
#[inline(always)]
pub fn run_first<C: EbpfContext>(ctx: &C, record: impl FnOnce(&C, &mut MaybeUninit<Event>)) {
    let Some(running) = RUNNING.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's element. What interrupts leaves `depth`, `called` and `level` as
    // they were.
    unsafe {
        if (&raw const (*running).called).read_volatile() != 0 {
            increase(&raw mut (*running).called, u64::MAX);
        } else if (&raw const (*running).depth).read_volatile() != 0 {
            (&raw mut (*running).kernel_nests).write_volatile(1);
        }
        increase(&raw mut (*running).depth, 1);
    }
    without_preemption(|| {
        // SAFETY: as above; here only an interrupt can come between.
        unsafe {
            let level = (&raw const (*running).level).read_volatile();
            if level >= LEVELS as u64 {
                lose(Loss::Packets, 1);
                return;
            }
            (&raw mut (*running).level).write_volatile(level + 1);
            record(ctx, &mut (*running).events[level as usize]);
            (&raw mut (*running).level).write_volatile(level);
        }
    });
    if constant!(CONFIG.has_private_stack) != 0 {
        // SAFETY: there is no program of this number, and so no call. But one that
        // calls others has no stack of its own, which a run inside a run would
        // spoil.
        // <https://github.com/torvalds/linux/blob/v6.13/kernel/bpf/verifier.c>
        // (`check_max_stack_depth`)
        unsafe { FIRST.tail_call(ctx, NOBODY) };
    }
    // SAFETY: as above.
    unsafe { increase(&raw mut (*running).depth, u64::MAX) };
}

/// Adds to a number of this CPU's, which what interrupts leaves as it was; atomically where
/// the kernel may let another task go on meanwhile.
///
/// # Safety
///
/// It must be inside this CPU's [`Running`].
#[inline(always)]
unsafe fn increase(number: *mut u64, by: u64) {
    if constant!(CONFIG.preempts) != 0 {
        count::increase(number, by);
    } else {
        // SAFETY: by contract.
        unsafe { number.write_volatile(number.read_volatile().wrapping_add(by)) };
    }
}

/// Calls the first program if the kernel has kept it from this packet: it runs, for
/// another one.
#[inline(always)]
pub fn call_first(ctx: &impl EbpfContext) {
    let Some(running) = RUNNING.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's element, as above.
    unsafe {
        let runs = (&raw const (*running).depth).read_volatile() != 0;
        if !runs || (&raw const (*running).kernel_nests).read_volatile() != 0 {
            return;
        }
        increase(&raw mut (*running).called, 1);
    }
    lose(Loss::DropsNotSkipped, 1);
    // SAFETY: nothing here has to be undone. The map has the first program.
    unsafe { FIRST.tail_call(ctx, 0) };
}
