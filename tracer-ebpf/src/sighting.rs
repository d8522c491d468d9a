//! `netif_receive_skb`, `net_dev_queue` and `inet_sock_set_state`: what the selected
//! conversations do while nothing goes wrong. Attached only where a filter selects
//! conversations; the last one alone where those that have trouble are watched.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::generated::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    programs::BtfTracePointContext,
};
use droptrace_types::{
    COMM_LEN, FILTER_BY_FLOW, FILTER_BY_INTERFACE, FILTER_BY_NETNS, IfName, Kind, Loss, Passed,
    PassedKey, Sighting, SightingKind, Tuple, WATCH_ADDRESSES,
};

use crate::{
    count::{increase, lose},
    device,
    event::Event,
    filter,
    ip::{Decoded, decode},
    kernel::{Argument, Pointer, Struct as _, argument, constant},
    maps::{FILTER, PASSED, SIGHTINGS},
    packet::{ETH_P_IP, ETH_P_IPV6},
    socket::Socket,
    trouble::{self, TCP},
};

/// Where the flags stand in a TCP header.
const TCP_FLAGS: u32 = 13;
/// FIN, SYN and RST.
const OPENS_OR_ENDS: u8 = 0x07;
/// Of the other packets of a flow one is told after each such time.
const EVERY_NS: u64 = 200_000_000;
/// And each that comes after such a pause.
const PAUSE_NS: u64 = 100_000_000;
/// States of a TCP socket.
/// <https://github.com/torvalds/linux/blob/v6.12/include/net/tcp_states.h>
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const FIN_WAIT1: u8 = 4;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
/// `BPF_NOEXIST`
const NO_EXIST: u64 = 1;
/// `BPF_RB_NO_WAKEUP`: user space looks when it drains the counts.
const NO_WAKEUP: u64 = 1;

/// Records a packet that passes an interface.
#[inline(always)]
pub fn record_packet(ctx: &BtfTracePointContext, kind: SightingKind) {
    let skb = Argument::first(ctx);
    let mut place = MaybeUninit::uninit();
    let event = Event::new(&mut place, Kind::Drop, Socket::NONE);
    event.open(skb);
    event.forget();
    event.find_network();
    let ethertype = event.key.ethertype;
    if ethertype != ETH_P_IP && ethertype != ETH_P_IPV6 {
        return;
    }
    event.forget();
    let key = &mut event.key;
    event.decoded = decode(
        &event.packet,
        event.packet.network(),
        ethertype,
        &mut key.flow,
    );
    if !event.decoded.is_ok() {
        return;
    }
    let quoted = event.decoded.quoted(&key.flow);
    if quoted != 0 {
        let _: Decoded = decode(&event.packet, quoted, 0, &mut key.about);
    }
    event.forget();
    if !selects_flow(&event.key.flow, &event.key.about) {
        return;
    }
    let device = skb.untyped().follow(constant!(LAYOUT.skb_dev));
    device::locate(event, skb, device);
    if !selects_place(event) {
        return;
    }
    event.len = event.packet.len_from(event.packet.network());
    pass(event, kind as u32);
}

/// Whether the filter selects the flow, or the flow that an error is about; where it
/// names addresses, also other packets of those, which show how far away they are.
/// A function of its own as [`crate::count::count_new`].
#[inline(never)]
fn selects_flow(flow: &Tuple, about: &Tuple) -> bool {
    if constant!(CONFIG.filters) & FILTER_BY_FLOW == 0 {
        return true;
    }
    if constant!(CONFIG.watch) & WATCH_ADDRESSES != 0
        && FILTER
            .get(0)
            .is_some_and(|filter| filter.selects_addresses(flow))
    {
        return true;
    }
    filter::selects_either(flow, about)
}

#[inline(always)]
fn selects_place(event: &Event) -> bool {
    let by = constant!(CONFIG.filters);
    if by & (FILTER_BY_INTERFACE | FILTER_BY_NETNS) == 0 {
        return true;
    }
    let Some(filter) = FILTER.get(0) else {
        return false;
    };
    (by & FILTER_BY_NETNS == 0 || filter::selects_netns(filter, event.key.cause.netns))
        && (by & FILTER_BY_INTERFACE == 0 || filter::selects_interface(filter, event))
}

/// Counts the packet, and tells it if it opens or ends something, is an ICMP error, or
/// none was told for a while. A function of its own as [`crate::count::count_new`].
#[inline(never)]
fn pass(event: &Event, kind: u32) -> u32 {
    // SAFETY: reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    let key = PassedKey {
        flow: event.key.flow,
        netns: event.key.cause.netns,
        ifindex: event.key.cause.ifindex,
        kind,
        pad: 0,
    };
    let len = u64::from(event.len);
    let mut passed = Passed {
        packets: 1,
        bytes: len,
        last_ns: now,
        told_ns: now,
        largest: len,
    };
    let mut previous = 0;
    if let Some(known) = PASSED.get_ptr_mut(&key) {
        // SAFETY: an element of the map. Another CPU may use it too, or the map give it to
        // another flow meanwhile; a count may then be off by what comes in between.
        unsafe {
            increase(&raw mut (*known).packets, 1);
            increase(&raw mut (*known).bytes, len);
            passed.packets = (*known).packets;
            passed.bytes = (*known).bytes;
            previous = (*known).last_ns;
            (*known).last_ns = now;
            let largest = (*known).largest;
            if len > largest {
                (*known).largest = len;
            } else {
                passed.largest = largest;
            }
            let is_due = now.wrapping_sub((*known).told_ns) > EVERY_NS
                || now.wrapping_sub(previous) > PAUSE_NS
                || len / 2 > largest;
            if !is_due && !is_told_always(event) {
                return 0;
            }
            (*known).told_ns = now;
        }
    } else {
        // Where another CPU was faster, its count lacks this one.
        let _: Result<(), i32> = PASSED.insert(&key, &passed, NO_EXIST);
    }
    let Some(mut entry) = SIGHTINGS.reserve(0) else {
        lose(Loss::Sightings, 1);
        return 0;
    };
    // SAFETY: reserved, so writable; every field is written before it is submitted.
    let sighting = unsafe { &mut *entry.as_mut_ptr() };
    sighting.flow = event.key.flow;
    sighting.about = event.key.about;
    sighting.time_ns = now;
    sighting.packets = passed.packets;
    sighting.bytes = passed.bytes;
    sighting.largest = passed.largest as u32;
    sighting.previous_ns = previous;
    sighting.netns = key.netns;
    sighting.ifindex = key.ifindex;
    sighting.len = event.len;
    sighting.kind = kind as u8;
    sighting.ifname = device::name(event.device);
    forget_socket(sighting);
    sighting.header_len = event
        .packet
        .copy_headers(event.packet.network(), &mut sighting.header);
    entry.submit(NO_WAKEUP);
    0
}

#[inline(always)]
fn is_told_always(event: &Event) -> bool {
    if event.key.about.family != 0 {
        return true;
    }
    let tcp = event.decoded.tcp(&event.key.flow);
    tcp != 0
        && event
            .packet
            .load::<u8>(tcp + TCP_FLAGS)
            .is_ok_and(|flags| flags & OPENS_OR_ENDS != 0)
}

#[inline(always)]
fn forget_socket(sighting: &mut Sighting) {
    sighting.socket = 0;
    sighting.socket_inode = 0;
    sighting.socket_uid = 0;
    sighting.task_pid = 0;
    sighting.error = 0;
    sighting.srtt_us = 0;
    sighting.retransmitted = 0;
    sighting.duplicates = 0;
    sighting.state_from = 0;
    sighting.state_to = 0;
    sighting.socket_held = 0;
    sighting.comm = [0; COMM_LEN];
}

/// Records that a TCP socket takes another state.
#[inline(always)]
pub fn record_state(ctx: &BtfTracePointContext) {
    let to = ctx.arg::<u32>(2) as u8;
    // Of connections with trouble it matters whether they were established, and how
    // they ended.
    if trouble::is_wanted() && to != ESTABLISHED && to != CLOSE {
        return;
    }
    let sock = Pointer::new(argument(ctx, 0));
    let from = ctx.arg::<u32>(1) as u8;
    let is_noted = trouble::is_wanted() && trouble::is_noted(sock);
    if trouble::is_wanted() && !is_noted && !has_failed(sock, from, to) {
        return;
    }
    let mut place = MaybeUninit::uninit();
    let event = Event::new(&mut place, Kind::Drop, Socket::new(sock, true));
    event.socket.tuple(&mut event.key.flow);
    event.forget();
    let flow = &event.key.flow;
    if flow.family == 0 || flow.proto != TCP {
        return;
    }
    let is_selected = if trouble::is_wanted() {
        // Of those that are noted, a record was selected.
        is_noted || filter::selects(event)
    } else {
        selects_flow(flow, &event.key.about)
    };
    if is_selected && selects_netns(event.key.cause.netns) {
        tell_state(event, sock, from, to);
    }
}

/// Whether a connection ends otherwise than by both ends' goodbye.
#[inline(always)]
fn has_failed(sock: Pointer, from: u8, to: u8) -> bool {
    if to != CLOSE {
        return false;
    }
    match from {
        ESTABLISHED | FIN_WAIT1 | CLOSE_WAIT => true,
        // Without an error, who wanted it has changed their mind.
        SYN_SENT => sock.read::<u32>(constant!(LAYOUT.sk_err)) != 0,
        _ => false,
    }
}

#[inline(always)]
fn selects_netns(netns: u32) -> bool {
    constant!(CONFIG.filters) & FILTER_BY_NETNS == 0
        || FILTER
            .get(0)
            .is_some_and(|filter| filter::selects_netns(filter, netns))
}

/// Tells what state the event's socket takes. A function of its own as
/// [`crate::count::count_new`].
#[inline(never)]
fn tell_state(event: &Event, sock: Pointer, from: u8, to: u8) -> u32 {
    let Some(mut entry) = SIGHTINGS.reserve(0) else {
        lose(Loss::Sightings, 1);
        return 0;
    };
    // SAFETY: reserved, so writable; every field but the header is written before it is
    // submitted, and none of that counts.
    let sighting = unsafe { &mut *entry.as_mut_ptr() };
    sighting.flow = event.key.flow;
    sighting.about = Tuple::NONE;
    // SAFETY: reads the clock.
    sighting.time_ns = unsafe { bpf_ktime_get_ns() };
    sighting.packets = 0;
    sighting.bytes = 0;
    sighting.largest = 0;
    sighting.previous_ns = 0;
    sighting.netns = event.key.cause.netns;
    sighting.ifindex = 0;
    sighting.len = 0;
    sighting.header_len = 0;
    sighting.kind = SightingKind::State as u8;
    sighting.ifname = IfName::default();
    sighting.socket = sock.address();
    let (inode, uid) = event.socket.owner();
    sighting.socket_inode = inode;
    sighting.socket_uid = uid;
    // SAFETY: gives the running process.
    sighting.task_pid = unsafe { bpf_get_current_pid_tgid() >> 32 } as u32;
    sighting.error = sock.read(constant!(LAYOUT.sk_err));
    // An MPTCP socket has something else there.
    let tcp = if event.socket.is_mptcp() {
        Pointer::NULL
    } else {
        sock
    };
    sighting.srtt_us = tcp.read::<u32>(constant!(LAYOUT.tcp_srtt)) >> 3;
    sighting.retransmitted = tcp.read(constant!(LAYOUT.tcp_retransmitted));
    sighting.duplicates = tcp.read(constant!(LAYOUT.tcp_duplicates));
    sighting.state_from = from;
    sighting.state_to = to;
    sighting.socket_held = u8::from(event.socket.is_held_by_current());
    // SAFETY: `comm` is as long as said.
    unsafe { bpf_get_current_comm(sighting.comm.as_mut_ptr().cast(), COMM_LEN as u32) };
    entry.submit(NO_WAKEUP);
    1
}
