//! A drop inside a drop: an interrupt comes while the program for a packet runs,
//! and frees another one.
//!
//! Most kernels do not run a program that already runs on the CPU
//! ([`__bpf_trace_run`](https://github.com/torvalds/linux/blob/v6.12/kernel/trace/bpf_trace.c)).
//! So a second one stands at the tracepoint behind the first. It does nothing but
//! for a packet that the first was kept from, for which it calls it.

use aya_ebpf::EbpfContext;
use droptrace_types::Loss;

use crate::{
    count::{increase, lose},
    kernel::constant,
    maps::{FIRST, RUNNING},
};

/// No program of [`FIRST`].
const NOBODY: u32 = 1;

/// What runs on this CPU.
#[repr(C)]
pub struct Running {
    /// How many runs of the first program have begun and not ended.
    depth: u64,
    /// 1 while the second one calls it.
    is_called: u64,
    /// 1 if this kernel runs a program inside itself.
    kernel_nests: u64,
}

/// Runs `record`, so that [`call_first`] knows of it.
#[inline(always)]
pub fn run_first<C: EbpfContext>(ctx: &C, record: impl FnOnce(&C)) {
    if let Some(running) = RUNNING.get_ptr_mut(0) {
        // SAFETY: this CPU's element. What interrupts leaves `depth` as it was, and
        // finds `is_called` only where neither program can be run once more.
        unsafe {
            let inside = (&raw const (*running).depth).read_volatile() != 0;
            if inside && (&raw const (*running).is_called).read_volatile() == 0 {
                (&raw mut (*running).kernel_nests).write_volatile(1);
            }
            (&raw mut (*running).is_called).write_volatile(0);
            // Atomic although per CPU: some kernels preempt programs.
            increase(&raw mut (*running).depth, 1);
        }
    }
    record(ctx);
    if constant!(CONFIG.has_private_stack) != 0 {
        // SAFETY: there is no program of this number, and so no call. But one that
        // calls others has no stack of its own, which a run inside a run would
        // spoil.
        // <https://github.com/torvalds/linux/blob/v6.13/kernel/bpf/verifier.c>
        // (`check_max_stack_depth`)
        unsafe { FIRST.tail_call(ctx, NOBODY) };
    }
    if let Some(running) = RUNNING.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe { increase(&raw mut (*running).depth, u64::MAX) };
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
        (&raw mut (*running).is_called).write_volatile(1);
    }
    lose(Loss::DropsNotSkipped, 1);
    // SAFETY: nothing here has to be undone. The map has the first program.
    unsafe { FIRST.tail_call(ctx, 0) };
}
