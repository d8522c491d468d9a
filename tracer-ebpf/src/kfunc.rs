//! Functions of the kernel's that programs call by their number in its BTF (kfuncs). Where the
//! kernel lacks one, the verifier removes the call, or the build is one without it.

use droptrace_types::kfunc;

use crate::kernel::constant;

/// Does `work`, in which only an interrupt can come between. Some kernels preempt a program at
/// a tracepoint (seen on Linux 7.3): another task goes on on its CPU, and what that drops runs
/// the programs in the middle of it. Others need no call, nor do those that lack the function.
#[inline(always)]
pub fn without_preemption<T>(work: impl FnOnce() -> T) -> T {
    if constant!(CONFIG.preempt_disable) != 0 {
        // SAFETY: it takes nothing and gives nothing.
        unsafe { call::<{ kfunc::PREEMPT_DISABLE }, extern "C" fn()>()() };
    }
    let result = work();
    if constant!(CONFIG.preempt_enable) != 0 {
        // SAFETY: as above.
        unsafe { call::<{ kfunc::PREEMPT_ENABLE }, extern "C" fn()>()() };
    }
    result
}

/// The number as a pointer of no type, through which memory can be loaded; zeros where that
/// cannot be read. Only in the build for kernels that have it.
#[inline(always)]
pub fn rdonly_cast<T>(address: u64) -> *const T {
    /// The type of nothing.
    const VOID: u32 = 0;
    // SAFETY: so it takes its arguments, and reads nothing itself.
    unsafe {
        let cast = call::<{ kfunc::RDONLY_CAST }, extern "C" fn(u64, u32) -> *const T>();
        cast(address, VOID)
    }
}

/// What user space puts in the place of `NUMBER`. A call of a helper is written as one of its
/// number.
///
/// # Safety
///
/// It must be an `F`, a pointer to a function.
#[inline(always)]
unsafe fn call<const NUMBER: u32, F: Copy>() -> F {
    const { assert!(size_of::<F>() == size_of::<usize>()) };
    // SAFETY: of the same size; by contract.
    unsafe { core::mem::transmute_copy(&(NUMBER as usize)) }
}
