//! What stands on the kernel's stack while a packet is freed: the functions on
//! their way to it have put there what they work with.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_probe_read_kernel};
use droptrace_types::{Direction, TUPLE_PORTS};

use crate::{
    event::Event,
    kernel::{Pointer, address_bits, address_in, zero},
    maps::STACK_COPY,
    socket::Socket,
};

/// Words that are searched of the frames of those functions.
const CALLERS_WORDS: usize = 128;
/// Words that are searched of the program's own frames. There it has saved the
/// registers that it needed itself, and what those functions work with may have
/// stayed in them. On kernels that give programs a stack of their own this finds
/// nothing; these tell the socket.
const OWN_WORDS: usize = 64;
/// Words that are read at once: a read that ends behind the stack's end fails.
const WORDS_PER_READ: usize = 16;
/// What the kernel allocates begins at a multiple of this.
const OBJECT_ALIGN: u64 = 8;
/// Sockets bound to the right port that are looked at.
const CANDIDATES: usize = 4;

/// A copy of the stack to search in. The verifier does not follow what stands
/// in a map, which makes a search in one cheap for it.
#[repr(C)]
pub struct StackCopy {
    words: [u64; OWN_WORDS + CALLERS_WORDS],
    candidates: [u64; CANDIDATES],
    found: u64,
}

impl StackCopy {
    /// Copies `N` words of the stack to `AT`. What cannot be read, behind the
    /// stack's end, becomes zero.
    #[inline(always)]
    fn fill<const AT: usize, const N: usize>(&mut self, stack: *const c_void) {
        const { assert!(AT + N <= OWN_WORDS + CALLERS_WORDS) };
        for part in 0..N / WORDS_PER_READ {
            let from = part * WORDS_PER_READ;
            // SAFETY: fills these words and no others.
            unsafe {
                bpf_probe_read_kernel(
                    self.words.as_mut_ptr().add(AT + from).cast(),
                    (WORDS_PER_READ * 8) as u32,
                    stack.add(from * 8),
                )
            };
        }
    }
}

/// Finds the socket that was about to receive the packet, for kernels whose
/// `kfree_skb` does not tell it. Old words stand on the stack too, of other
/// packets: so a socket must prove that it receives what this packet carries.
///
/// A function of its own as [`crate::count::count_new`].
#[inline(never)]
pub fn find_receiver(ctx: *mut c_void, event: &mut Event) -> u32 {
    let key = &event.key;
    let direction = key.cause.direction;
    if event.socket.is_some()
        || key.flow.flags & TUPLE_PORTS == 0
        || (direction != Direction::In as u8 && direction != Direction::Local as u8)
    {
        return 0;
    }
    let Some(copy) = STACK_COPY.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's element. An event that interrupts this one may change
    // it, so that nothing is found; what is found proves itself.
    let copy = unsafe { &mut *copy };
    // In this function's frame, below that of the program.
    let here = core::hint::black_box(0u64);
    let own = core::ptr::from_ref(&here).cast::<c_void>();
    copy.fill::<0, OWN_WORDS>(own);
    // The arguments of the tracepoint lie in the frame of who called the program.
    copy.fill::<OWN_WORDS, CALLERS_WORDS>(ctx);
    // SAFETY: as above. Read from there, the address is a plain number to the verifier.
    let address = unsafe {
        (&raw mut copy.found).write_volatile(own as u64);
        (&raw const copy.found).read_volatile()
    };
    collect(key.flow.dst_port, address_bits(address), copy);
    for candidate in &copy.candidates {
        // SAFETY: a valid word, which may change at any time.
        let candidate = unsafe { core::ptr::read_volatile(candidate) };
        let socket = Socket::new(Pointer::new(candidate), false);
        if socket.receives(&key.flow, key.cause.netns) {
            event.socket = socket;
            return 1;
        }
    }
    0
}

/// Collects the innermost addresses of what may be sockets bound to `port`. `bits`: see
/// [`address_bits`].
#[inline(always)]
fn collect(port: u16, bits: u64, copy: &mut StackCopy) {
    zero(&mut copy.candidates);
    copy.found = 0;
    for word in &copy.words {
        // SAFETY: as for the candidates.
        let word = unsafe { core::ptr::read_volatile(word) };
        if !address_in(word, bits).is_null()
            && word % OBJECT_ALIGN == 0
            && Socket::port_of(Pointer::new(word)) == port
        {
            if let Some(place) = copy.candidates.get_mut(copy.found as usize) {
                *place = word;
                copy.found += 1;
            }
        }
    }
}
