//! One event on its way: what is gathered about it, then filter, count, and
//! perhaps a closer look.
//!
//! The stack of a BPF program is 512 bytes over all nested calls. So an event
//! is one struct that every step fills in place, and the steps with variables
//! of their own are functions of their own.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext, cty::c_void, helpers::generated::bpf_ktime_get_ns, programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use droptrace_types::{Decode, FILTER_BY_CGROUP, FILTER_BY_SOCKET, Key, Kind, NO_REASON};

use crate::{
    count::count,
    detail, filter,
    ip::Decoded,
    kernel::{Pointer, constant, forget, zero},
    packet::Packet,
    socket::Socket,
    stack, trouble,
};

/// What is known about an event. Zeros are an event about which nothing is.
#[derive(Clone, Copy)]
pub struct Event {
    pub key: Key,
    /// The packet; [`Packet::NONE`] for events without one, or with one that
    /// has no headers yet.
    pub packet: Packet,
    /// Length in bytes.
    pub len: u32,
    /// What was found at the network header.
    pub decoded: Decoded,
    pub socket: Socket,
    /// The `struct net_device`, or null.
    pub device: Pointer,
    /// TCP header fields that do not stand in a packet.
    pub tcp_flags: u32,
    pub tcp_seq: u32,
    pub tcp_ack: u32,
}

impl Event {
    /// Makes `place` an event of which only the socket is known.
    #[inline(always)]
    pub fn new(place: &mut MaybeUninit<Self>, kind: Kind, socket: Socket) -> &mut Self {
        zero(place);
        // SAFETY: zeros are a valid event.
        let event = unsafe { place.assume_init_mut() };
        event.socket = socket;
        event.decoded = Decoded::NOTHING;
        let cause = &mut event.key.cause;
        cause.kind = kind as u8;
        cause.reason = NO_REASON;
        cause.netns = socket.netns;
        cause.decode = Decode::Socket as u8;
        cause.socket_family = socket.family as u8;
        event
    }

    /// Makes the verifier forget what it knows about the event.
    #[inline(always)]
    pub fn forget(&mut self) {
        forget(self);
    }

    /// Records the event if the filter selects it.
    #[inline(always)]
    pub fn record(&mut self, ctx: &impl EbpfContext) {
        self.record_with::<false>(ctx);
    }

    /// As [`Event::record`]; `DROP` says that the packet was dropped: a socket
    /// may have been about to receive it, or a rule have dropped it.
    #[inline(always)]
    pub fn record_with<const DROP: bool>(&mut self, ctx: &impl EbpfContext) {
        let searches = DROP && constant!(CONFIG.drop_has_socket) == 0;
        let filters_by_socket =
            constant!(CONFIG.filters) & (FILTER_BY_SOCKET | FILTER_BY_CGROUP) != 0;
        // A drop's stands in a map, of which the verifier knows nothing anyway.
        if !DROP {
            self.forget();
        }
        // A search takes its time, so it comes as late as it can.
        if searches && filters_by_socket {
            stack::find_receiver(ctx.as_ptr(), self);
        }
        if !filter::selects(self) {
            return;
        }
        if constant!(CONFIG.debug) != 0 {
            log(ctx.as_ptr(), &self.key);
        }
        if trouble::is_wanted() {
            trouble::note(&self.key);
        }
        // SAFETY: reads the clock.
        let now = unsafe { bpf_ktime_get_ns() };
        if count(&mut self.key, u64::from(self.len), now) {
            if searches && !filters_by_socket {
                stack::find_receiver(ctx.as_ptr(), self);
            }
            detail::send::<DROP>(ctx.as_ptr(), self, now);
        }
    }
}

/// A line for developers.
#[inline(never)]
fn log(ctx: *mut c_void, key: &Key) -> u32 {
    let cause = &key.cause;
    debug!(
        &RawTracePointContext::new(ctx),
        "kind {} reason {} decode {} proto {} netns {} ifindex {}",
        cause.kind,
        cause.reason,
        cause.decode,
        key.flow.proto,
        cause.netns,
        cause.ifindex
    );
    0
}
