//! Which connections have had trouble: what of them was dropped, reset or sent again.

use droptrace_types::{Key, Kind, Sign, TUPLE_PORTS, Tuple, WATCH_TROUBLES};

use crate::{
    kernel::{Pointer, constant, forget},
    maps::{HARMLESS, TROUBLED},
    socket::Socket,
};

pub const TCP: u8 = 6;
/// `BPF_ANY`
const ANY: u64 = 0;

/// Whether only such connections are watched.
#[inline(always)]
pub fn is_wanted() -> bool {
    constant!(CONFIG.watch) & WATCH_TROUBLES != 0
}

/// Remembers the connection that a record is about, whichever way the packet went, unless
/// it is normal clean-up or the like. A function of its own as [`crate::count::count_new`].
#[inline(never)]
pub fn note(key: &Key) -> u32 {
    let flow = if key.about.family == 0 {
        &key.flow
    } else {
        &key.about
    };
    if flow.proto != TCP || flow.flags & TUPLE_PORTS == 0 {
        return 0;
    }
    let is_drop = key.cause.kind == Kind::Drop as u8;
    let is_last = key.cause.signs & Sign::LastSegment.bit() != 0;
    if is_drop && (is_last || HARMLESS.get_ptr(key.cause.reason).is_some()) {
        return 0;
    }
    let flow = both_ways(flow);
    if TROUBLED.get_ptr(&flow).is_none() {
        // The oldest ones make room.
        let _: Result<(), i32> = TROUBLED.insert(&flow, &1, ANY);
    }
    0
}

/// Whether the connection of this `struct sock` was noted. A function of its own as
/// [`crate::count::count_new`].
#[inline(never)]
pub fn is_noted(sock: Pointer) -> bool {
    let mut flow = Tuple::NONE;
    Socket::new(sock, true).tuple(&mut flow);
    TROUBLED.get_ptr(&both_ways(&flow)).is_some()
}

#[inline(always)]
fn both_ways(flow: &Tuple) -> Tuple {
    let mut flow = flow.of_both_ways();
    flow.flags = TUPLE_PORTS;
    // Either order is the same to the verifier.
    forget(&mut flow);
    flow
}
