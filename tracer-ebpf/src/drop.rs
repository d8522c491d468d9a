//! `kfree_skb`: a packet was freed undelivered.

use core::mem::MaybeUninit;

use aya_ebpf::{EbpfContext as _, cty::c_void, programs::BtfTracePointContext};
use droptrace_types::{ABSENT, Cause, Decode, Direction, Kind, POLICY, Sign};

use crate::{
    count::forget_flow,
    device,
    event::Event,
    hook,
    ip::{Decoded, decode},
    kernel::{Argument, Pointer, Struct as _, address, argument, constant},
    packet::{ETH_P_IP, ETH_P_IPV6},
    places::{self, Stack},
    rule, signs,
    socket::Socket,
    verdict, xtables,
};

/// `AF_PACKET`
const AF_PACKET: u16 = 17;

/// Records the freed packet.
#[inline(always)]
pub fn record(ctx: &BtfTracePointContext, place: &mut MaybeUninit<Event>) {
    let skb = Argument::first(ctx);
    let [device, owner] = skb
        .untyped()
        .pair(constant!(LAYOUT.skb_dev), constant!(LAYOUT.skb_sk));
    let owner = Socket::new(owner, true);
    let event = Event::new(place, Kind::Drop, owner);
    event.key.cause.location = ctx.arg(1);
    if constant!(CONFIG.drop_has_reason) != 0 {
        event.key.cause.reason = ctx.arg(2);
    }
    device::locate(event, skb, device);
    if !event.socket.owns() && constant!(CONFIG.drop_has_socket) != 0 && ctx.arg::<u64>(3) != 0 {
        event.socket = Socket::new(Pointer::new(argument(ctx, 3)), false);
        event.key.cause.socket_family = event.socket.family as u8;
    }
    event.open(skb);
    if constant!(CONFIG.nf_trace) != ABSENT {
        let traced = skb.bits(constant!(CONFIG.nf_trace)) & 1;
        event.key.cause.signs = u32::from(traced) << Sign::Traced as u32;
    }
    if find_rule(ctx.as_ptr(), event) {
        return;
    }
    event.find_network();
    decode_flow(event);
    event.len = if event.decoded.is_ok() {
        event.packet.len_from(event.packet.network())
    } else {
        event.packet.len
    };
    if event.key.cause.reason == constant!(CONFIG.not_specified) {
        signs::read(event);
    }
    if is_clean_up(&event.key.cause) {
        forget_flow(&mut event.key);
    }
    event.record_with::<true>(ctx);
    verdict::forget(event.packet.skb);
}

/// Whether the packet ended a TCP connection as many end, and nobody asks which: a FIN that
/// the program had not read, or that came when this end had closed. There is one for each
/// connection, which by flow would each be a new key and a record that is not shown.
/// <https://github.com/torvalds/linux/blob/v6.12/net/core/stream.c>
#[inline(always)]
fn is_clean_up(cause: &Cause) -> bool {
    let (start, end) = (address!(kill_queues), address!(kill_queues_end));
    let is_unread = cause.location > start && cause.location <= end;
    start != 0 && (is_unread || cause.signs & Sign::LastSegment.bit() != 0)
}

/// Finds what decided, where netfilter dropped the packet. True if the packet
/// is one of a trial, which counts nowhere. A function of its own as
/// [`crate::count::count_new`].
#[inline(never)]
fn find_rule(ctx: *mut c_void, event: &mut Event) -> bool {
    let location = event.key.cause.location;
    let by_bridge = hook::freed_by_bridge(location);
    // Freed by what called the hook function, not by that itself.
    let by_caller = by_bridge || hook::freed(location);
    let by_netfilter = if by_bridge || constant!(CONFIG.drop_has_reason) == 0 {
        by_caller
    } else {
        event.key.cause.reason == constant!(CONFIG.netfilter_drop)
    };
    if !by_netfilter {
        event.key.cause.signs = 0;
        // A bridge frees what is dropped as it comes in. What a rule has dropped, nobody
        // else can.
        let decided = verdict::find(event.packet.skb, hook::freed_by_queue(location));
        if decided != 0 && decided & POLICY == 0 {
            event.key.cause.rule = decided;
        }
        return false;
    }
    if places::is_trial(ctx, event) {
        return true;
    }
    event.key.cause.rule = if by_caller {
        decided(ctx, event)
    } else {
        rule::address(Stack::of(ctx), location)
    };
    false
}

/// What made a hook function say to drop the packet, as far as it is known.
#[inline(always)]
fn decided(ctx: *mut c_void, event: &mut Event) -> u64 {
    let hooked = hook::address(ctx, event.key.cause.location);
    let decided = verdict::find(event.packet.skb, false);
    // A policy is that of the chain which the hook has.
    if decided != 0 && (decided & POLICY == 0 || decided == hooked | POLICY) {
        return decided;
    }
    match xtables::find(ctx, event) {
        0 => hooked,
        found => found,
    }
}

/// Fills the key's flow, or says in the cause why there is none.
#[inline(always)]
fn decode_flow(event: &mut Event) {
    let key = &mut event.key;
    let ethertype = key.ethertype;
    if ethertype != 0 && ethertype != ETH_P_IP && ethertype != ETH_P_IPV6 {
        key.cause.decode = Decode::NotIp as u8;
        return;
    }
    let family = event.socket.family;
    if ethertype == 0 && family != 0 && !event.socket.is_internet() && family != AF_PACKET {
        key.cause.decode = Decode::Message as u8;
        return;
    }
    let network = event.packet.network();
    let decoded = if network == 0 {
        Decoded::NOTHING
    } else {
        decode(&event.packet, network, ethertype, &mut key.flow)
    };
    key.cause.decode = decoded.outcome();
    if decoded.is_ok() {
        event.decoded = decoded;
        let quoted = decoded.quoted(&key.flow);
        if quoted != 0 {
            // What the error quotes may be cut short or forged; then it is
            // about nothing.
            let _: Decoded = decode(&event.packet, quoted, 0, &mut key.about);
        }
    } else if event.socket.owns() {
        // On its way out a TCP segment gets its IP header late. Its socket knows.
        event.socket.tuple(&mut key.flow);
        if key.flow.family != 0 {
            key.cause.decode = Decode::Socket as u8;
            key.cause.direction = Direction::Out as u8;
        }
    }
}
