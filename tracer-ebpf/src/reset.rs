//! `tcp_send_reset` and `tcp_receive_reset`.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use droptrace_types::{Direction, Kind};

use crate::{
    device,
    event::Event,
    ip::decode,
    kernel::{Pointer, argument, constant},
    packet::Packet,
    socket::{Socket, reverse},
};

/// TCP flag byte of a reset.
const RST: u32 = 0x04;

/// Records a reset that this machine sends.
#[inline(always)]
pub fn record_sent(ctx: &impl EbpfContext) {
    let socket = Socket::new(Pointer::new(argument(ctx, 0)), false);
    let answered = Pointer::new(argument(ctx, 1));
    let mut place = MaybeUninit::uninit();
    let event = Event::new(&mut place, Kind::ResetSent, socket);
    if constant!(CONFIG.reset_has_reason) != 0 {
        event.key.cause.reason = argument(ctx, 2) as u32;
    }
    (event.tcp_seq, event.tcp_ack) = event.socket.sequence();
    event.tcp_flags = RST;
    let mut direction = Direction::Out as u8;
    if answered.is_null() {
        event.socket.tuple(&mut event.key.flow);
    } else {
        device::locate(event, answered);
        if event.key.cause.direction == Direction::Local as u8 {
            direction = Direction::Local as u8;
        }
        event.packet.open(answered);
        event.find_network();
        event.forget();
        let decoded = decode(
            &event.packet,
            event.network,
            event.key.ethertype,
            &mut event.key.flow,
        );
        event.key.cause.decode = decoded.outcome();
        // What was decoded is the packet that is answered, not the reset.
        event.packet = Packet::NONE;
        reverse(&mut event.key.flow);
    }
    event.key.cause.direction = direction;
    event.record(ctx);
}

/// Records a reset that a connection received.
#[inline(always)]
pub fn record_received(ctx: &impl EbpfContext) {
    let socket = Socket::new(Pointer::new(argument(ctx, 0)), false);
    let mut place = MaybeUninit::uninit();
    let event = Event::new(&mut place, Kind::ResetReceived, socket);
    event.key.cause.direction = Direction::In as u8;
    event.socket.tuple(&mut event.key.flow);
    reverse(&mut event.key.flow);
    // As the peer numbers them.
    (event.tcp_ack, event.tcp_seq) = event.socket.sequence();
    event.tcp_flags = RST;
    event.record(ctx);
}
