//! `tcp_retransmit_skb` and `tcp_retransmit_synack`.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use droptrace_types::{Direction, Kind};

use crate::{
    event::Event,
    kernel::{Pointer, argument, constant},
    socket::Socket,
};

/// TCP flag byte of a SYN-ACK.
const SYN_ACK: u32 = 0x12;

/// Records a segment that a connection sent again.
#[inline(always)]
pub fn record_segment(ctx: &impl EbpfContext) {
    if constant!(CONFIG.retransmit_has_error) != 0 && argument(ctx, 2) as i32 != 0 {
        // It was not sent: it still waits in a queue, or was dropped on the
        // way out, which is an event of its own.
        return;
    }
    let socket = Socket::new(Pointer::new(argument(ctx, 0)), true);
    let skb = Pointer::new(argument(ctx, 1));
    let mut place = MaybeUninit::uninit();
    let event = Event::new(&mut place, Kind::Retransmit, socket);
    event.key.cause.direction = Direction::Out as u8;
    event.socket.tuple(&mut event.key.flow);
    let (_, ack) = event.socket.sequence();
    // The segment has no header here: TCP keeps what will go into it beside.
    let control = skb.at(constant!(LAYOUT.skb_cb));
    let flags: u8 = control.read(constant!(LAYOUT.tcp_cb_flags));
    event.tcp_flags = u32::from(flags);
    event.tcp_seq = control.read(constant!(LAYOUT.tcp_cb_seq));
    event.tcp_ack = ack;
    event.len = skb.read(constant!(LAYOUT.skb_len));
    event.record(ctx);
}

/// Records a SYN-ACK that a listener sent again.
#[inline(always)]
pub fn record_synack(ctx: &impl EbpfContext) {
    let listener = Socket::new(Pointer::new(argument(ctx, 0)), true);
    let request = Pointer::new(argument(ctx, 1));
    let mut place = MaybeUninit::uninit();
    let event = Event::new(&mut place, Kind::Retransmit, listener);
    event.key.cause.direction = Direction::Out as u8;
    Socket::new(request, false).tuple(&mut event.key.flow);
    event.tcp_flags = SYN_ACK;
    event.tcp_seq = request.read(constant!(LAYOUT.req_snt_isn));
    event.tcp_ack = request
        .read::<u32>(constant!(LAYOUT.req_rcv_isn))
        .wrapping_add(1);
    event.record(ctx);
}
