//! How kernel memory is read: what user space said about this kernel, and the
//! one way to follow a pointer.

use core::{
    arch::asm,
    mem::{MaybeUninit, transmute_copy},
};

use aya_ebpf::{
    EbpfContext, cty::c_void, helpers::generated::bpf_probe_read_kernel,
    programs::BtfTracePointContext,
};
use droptrace_types::{Addresses, Config, KEY_WORDS, Layout};

use crate::kfunc::rdonly_cast;

/// Where struct members stand; user space overrides it before loading.
#[unsafe(no_mangle)]
pub static LAYOUT: Layout = Layout::ABSENT;

/// What this run wants; user space overrides it before loading.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::DEFAULT;

/// Where functions and variables lie; user space sets it while the programs run.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data")]
pub static ADDRESSES: Addresses = Addresses::UNKNOWN;

/// Odd random numbers, of [`crate::count`]; user space overrides them before loading.
#[unsafe(no_mangle)]
pub static SEEDS: [u64; KEY_WORDS] = [1; KEY_WORDS];

/// Reads one field of [`LAYOUT`] or [`CONFIG`] so that the compiler does not
/// take the built-in value for granted. The verifier sees a constant and
/// removes the branches that it decides.
macro_rules! constant {
    ($global:ident . $field:ident) => {
        // SAFETY: a valid, initialised static.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::$global.$field) }
    };
}
pub(crate) use constant;

/// Reads one of the [`ADDRESSES`].
macro_rules! address {
    ($field:ident) => {
        // SAFETY: a valid, initialised static. That user space may set it meanwhile is why
        // the read is volatile.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::ADDRESSES.$field) }
    };
}
pub(crate) use address;

/// What members of a kernel struct are read from.
pub trait Struct: Copy {
    /// The `T` at `offset`; zeros where that memory cannot be read.
    fn read<T: Copy>(self, offset: u32) -> T;

    /// As an address and nothing more.
    fn untyped(self) -> Pointer;

    /// The bits from bit `offset` on, up to the end of their byte; others are zero.
    #[inline(always)]
    fn bits(self, offset: u32) -> u8 {
        self.read::<u8>(offset / 8) >> (offset % 8)
    }
}

/// An argument of a BTF tracepoint that is never null. The verifier knows which struct it
/// points to, so that a member that is no pointer can be loaded from it, without the call
/// that [`Pointer`] takes.
#[derive(Clone, Copy)]
pub struct Argument(u64);

impl Argument {
    /// The first argument of a BTF tracepoint.
    #[inline(always)]
    pub fn first(ctx: &BtfTracePointContext) -> Self {
        Self(ctx.arg(0))
    }
}

impl Struct for Argument {
    /// Of a type that is no pointer, and as large as the member.
    #[inline(always)]
    fn read<T: Copy>(self, offset: u32) -> T {
        // SAFETY: the verifier checks that this is a member. It is volatile so that it
        // stays one load of its size.
        unsafe { ((self.0 + u64::from(offset)) as *const T).read_volatile() }
    }

    #[inline(always)]
    fn untyped(self) -> Pointer {
        Pointer(self.0)
    }
}

impl Struct for Pointer {
    #[inline(always)]
    fn read<T: Copy>(self, offset: u32) -> T {
        Self::read(self, offset)
    }

    #[inline(always)]
    fn untyped(self) -> Pointer {
        self
    }
}

/// An address in kernel memory. Nothing is assumed about what is there.
#[derive(Clone, Copy)]
pub struct Pointer(u64);

impl Pointer {
    pub const NULL: Self = Self(0);

    #[inline(always)]
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    #[inline(always)]
    pub const fn address(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub const fn at(self, offset: u32) -> Self {
        Self(self.0.wrapping_add(offset as u64))
    }

    /// The `T` at `offset`; zeros where that memory cannot be read, also behind
    /// a null pointer. Without a branch, which keeps the verifier's work small.
    #[inline(always)]
    pub fn read<T: Copy>(self, offset: u32) -> T {
        if loads_words::<T>() {
            let mut value = MaybeUninit::<T>::uninit();
            let words = value.as_mut_ptr().cast::<u64>();
            for i in 0..size_of::<T>() / 8 {
                // SAFETY: inside `value`, aligned, and plain data in all uses.
                unsafe { words.add(i).write(self.read(offset + i as u32 * 8)) };
            }
            // SAFETY: all its words are written.
            return unsafe { value.assume_init() };
        }
        if loads::<T>() {
            let address = self.at(offset).0;
            // SAFETY: the verifier has each load give zero that would fault. `T` is plain
            // data in all uses, as large as what is loaded.
            unsafe {
                return match size_of::<T>() {
                    1 => transmute_copy(&rdonly_cast::<u8>(address).read_volatile()),
                    2 => transmute_copy(&rdonly_cast::<u16>(address).read_volatile()),
                    4 => transmute_copy(&rdonly_cast::<u32>(address).read_volatile()),
                    _ => transmute_copy(&rdonly_cast::<u64>(address).read_volatile()),
                };
            }
        }
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper checks the address, and fills the place with zeros
        // if it is bad (`bpf_probe_read_kernel_common`). `T` is plain data in all uses.
        // <https://github.com/torvalds/linux/blob/v6.12/kernel/trace/bpf_trace.c>
        unsafe {
            bpf_probe_read_kernel(
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                self.at(offset).0 as *const c_void,
            );
            value.assume_init()
        }
    }

    /// Copies what stands there to `place`, of which nothing is on the stack twice; zeros
    /// where that memory cannot be read.
    #[inline(always)]
    pub fn read_into<T>(self, place: &mut T) {
        let place = core::ptr::from_mut(place).cast::<c_void>();
        // SAFETY: writes as many bytes as `place` has, which are plain data in all uses.
        unsafe { bpf_probe_read_kernel(place, size_of::<T>() as u32, self.0 as *const c_void) };
    }

    /// The two `T`s at `first` and at `second`, with one call where they stand side by side.
    #[inline(always)]
    pub fn pair<T: Copy>(self, first: u32, second: u32) -> [T; 2] {
        if !loads::<T>() && first + size_of::<T>() as u32 == second {
            self.read(first)
        } else {
            [self.read(first), self.read(second)]
        }
    }

    /// Follows the pointer at `offset`; null where it cannot be read.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Self {
        Self(self.read(offset))
    }
}

/// Whether a `T` is loaded from memory of which the verifier knows nothing, instead of read by
/// a helper.
#[inline(always)]
const fn loads<T>() -> bool {
    cfg!(feature = "loads") && matches!(size_of::<T>(), 1 | 2 | 4 | 8)
}

/// The same for a `T` of a few words, which are loaded one by one.
#[inline(always)]
const fn loads_words<T>() -> bool {
    const MOST: usize = 32;
    let is_words = size_of::<T>() % 8 == 0 && align_of::<T>() == 8;
    cfg!(feature = "loads") && is_words && size_of::<T>() > 8 && size_of::<T>() <= MOST
}

/// Makes all of `place` zero. `T` must be a multiple of a word and as aligned.
/// The writes are volatile because the compiler would make them a call of
/// `memset`, whose loop over bytes costs the verifier more than all else.
#[inline(always)]
pub fn zero<T: Copy>(place: &mut T) {
    const { assert!(size_of::<T>() % 8 == 0 && align_of::<T>() == 8) };
    let words = core::ptr::from_mut(place).cast::<u64>();
    for i in 0..size_of::<T>() / 8 {
        // SAFETY: inside `place`, aligned, and plain data in all uses.
        unsafe { words.add(i).write_volatile(0) };
    }
}

/// Makes the verifier forget what it knows about `value`, by reading it over
/// itself. Paths that left different constants in it are then the same to the
/// verifier, which else follows each one to the end of the program.
#[inline(always)]
pub fn forget<T: Copy>(value: &mut T) {
    let place = core::ptr::from_mut(value).cast::<c_void>();
    // SAFETY: reads exactly the value, into itself.
    unsafe { bpf_probe_read_kernel(place, size_of::<T>() as u32, place) };
}

/// 1 if `value` is not 0, without a branch, which the verifier would follow both ways,
/// and everything behind it for each.
#[inline(always)]
pub fn nonzero(value: u64) -> u64 {
    let mut bits = value | value.wrapping_neg();
    // `bits >>= 63`. Where the compiler knew what that comes to, it would branch after all.
    // SAFETY: works on a register.
    unsafe { asm!("{bits} >>= 63", bits = inout(reg) bits, options(pure, nomem, nostack)) };
    bits
}

/// Bits below those that are all set in each address of kernel memory, told from one:
/// page tables have four levels, or five.
#[inline(always)]
pub fn address_bits(address: u64) -> u64 {
    const FOUR_LEVELS: u64 = 47;
    const FIVE_LEVELS: u64 = 56;
    let is_deeper = nonzero((address >> FOUR_LEVELS) ^ (u64::MAX >> FOUR_LEVELS));
    FOUR_LEVELS + is_deeper * (FIVE_LEVELS - FOUR_LEVELS)
}

/// `word` where it may be an address of kernel memory, else null. Some kernels warn in their
/// log where one is read that no address can be.
#[inline(always)]
pub fn address_in(word: u64, address_bits: u64) -> Pointer {
    let is_none = nonzero((word >> address_bits) ^ (u64::MAX >> address_bits));
    Pointer(word & is_none.wrapping_sub(1))
}

/// Argument `n` of a tracepoint, as a number. An argument that the tracepoint
/// lacks must not be asked for; [`CONFIG`] tells which of the optional ones it has.
#[inline(always)]
pub fn argument(ctx: &impl EbpfContext, n: u32) -> u64 {
    // The context is an array of words. Read like other kernel memory, a
    // pointer among them is a plain number to the verifier, as all addresses
    // here; loaded directly, it would bring rules of its own.
    Pointer::new(ctx.as_ptr() as u64).read(n * 8)
}
