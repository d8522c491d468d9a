//! `tcp_send_reset` and `tcp_receive_reset`.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use droptrace_types::{Direction, Kind};

use crate::{
    device,
    event::Event,
    ip::decode,
    kernel::{Pointer, argument, constant, nonzero},
    maps::ANSWERED,
    packet::Packet,
    socket::{Socket, reverse},
};

/// TCP flag byte of a reset.
const RST: u32 = 0x04;
/// Where the flags stand in a TCP header.
const TCP_FLAGS: u32 = 13;

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
    if answered.is_null() {
        event.socket.tuple(&mut event.key.flow);
        event.key.cause.direction = Direction::Out as u8;
    } else {
        decode_answered(event, answered);
    }
    finish_sent(event, ctx);
}

/// Records a reset that answers a packet without a (complete) socket, if the
/// function whose start this is goes on to send it. Others pass the tracepoint.
#[inline(always)]
pub fn record_sent_without_socket(ctx: &impl EbpfContext) {
    let socket = Socket::new(Pointer::new(argument(ctx, 0)), false);
    let answered = Pointer::new(argument(ctx, 1));
    if socket.is_full() {
        return;
    }
    if !socket.is_some() {
        remember(answered);
    }
    let mut place = MaybeUninit::uninit();
    let event = Event::new(&mut place, Kind::ResetSent, socket);
    decode_answered(event, answered);
    // No reset answers a reset, nor what is not addressed to this machine alone.
    if event.tcp_flags & RST != 0 || !(event.socket.is_some() || device::is_local(answered)) {
        return;
    }
    finish_sent(event, ctx);
}

/// Fills flow and direction from the packet that the reset answers, and leaves
/// that packet's TCP flags.
#[inline(always)]
fn decode_answered(event: &mut Event, answered: Pointer) {
    device::locate(event, answered, answered.follow(constant!(LAYOUT.skb_dev)));
    if event.key.cause.direction != Direction::Local as u8 {
        event.key.cause.direction = Direction::Out as u8;
    }
    event.open(answered);
    event.find_network();
    event.forget();
    let decoded = decode(
        &event.packet,
        event.packet.network(),
        event.key.ethertype,
        &mut event.key.flow,
    );
    event.key.cause.decode = decoded.outcome();
    let tcp = decoded.tcp(&event.key.flow);
    if tcp != 0 {
        let flags = event.packet.load::<u8>(tcp + TCP_FLAGS);
        event.tcp_flags = u32::from(flags.unwrap_or(0));
    }
    // What was decoded is the packet that is answered, not the reset.
    event.packet = Packet::NONE;
    reverse(&mut event.key.flow);
}

#[inline(always)]
fn finish_sent(event: &mut Event, ctx: &impl EbpfContext) {
    (event.tcp_seq, event.tcp_ack) = event.socket.sequence();
    event.tcp_flags = RST;
    event.record(ctx);
}

/// Remembers the packet until it is freed, which comes next on this CPU.
#[inline(always)]
fn remember(answered: Pointer) {
    if let Some(place) = ANSWERED.get_ptr_mut(0) {
        // SAFETY: this CPU's element.
        unsafe { place.write(answered.address()) };
    }
}

/// 1 if TCP has just decided about a reset for this packet because there is no socket
/// for it.
#[inline(always)]
pub fn answered_without_socket(skb: Pointer) -> u64 {
    let Some(place) = ANSWERED.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's element. Another packet may get the same address, so
    // what was remembered counts once.
    unsafe {
        let remembered = place.read_volatile();
        let differs = nonzero(remembered ^ skb.address());
        place.write_volatile(remembered * differs);
        1 ^ differs
    }
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
