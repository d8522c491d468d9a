//! What a freed packet shows of why it was freed, where the kernel does not say.

use droptrace_types::{ABSENT, Sign};

use crate::{
    event::Event,
    kernel::{Pointer, Struct as _, constant, nonzero},
    packet::Packet,
    reset,
};

/// The bits of `sk_buff.pkt_type`.
const PKT_TYPE: u8 = 7;
const PACKET_BROADCAST: u8 = 1;
const PACKET_MULTICAST: u8 = 2;
const PACKET_OTHERHOST: u8 = 3;
/// The bits of `sk_buff.ip_summed`.
const IP_SUMMED: u8 = 3;
const CHECKSUM_COMPLETE: u8 = 2;
/// Where a TCP header tells its length, and behind that its flags.
const TCP_LEN_AND_FLAGS: u32 = 12;
/// SYN and RST.
const SYN_RST: u8 = 0x06;

/// Signs as they are collected, without a branch: older verifiers follow each one, and
/// those behind it for both of its outcomes.
#[derive(Clone, Copy)]
struct Signs {
    seen: u32,
    read: u32,
}

impl Signs {
    /// Adds a sign, which is seen if `value` is not 0.
    #[inline(always)]
    fn add(&mut self, sign: Sign, value: u64) {
        self.read |= sign.bit();
        self.seen |= sign.bit() * nonzero(value) as u32;
    }
}

/// Whether `value` is one of these, as a number.
#[inline(always)]
fn is_one_of<const N: usize>(value: u8, these: [u8; N]) -> u64 {
    let mut set = 0;
    for one in these {
        set |= 1 << one;
    }
    set >> (value & 63) & 1
}

/// Reads the signs of the event's packet. A function of its own as
/// [`crate::count::count_new`].
#[inline(never)]
pub fn read(event: &mut Event) -> u32 {
    let mut signs = Signs { seen: 0, read: 0 };
    of_packet(&mut signs, &event.packet);
    if constant!(CONFIG.drop_has_socket) != 0 {
        signs.add(Sign::LastSegment, is_last_segment(event));
    }
    let device = event.device;
    if !device.is_null() {
        of_device(&mut signs, device, event.packet.skb);
        of_namespace(&mut signs, device.follow(constant!(LAYOUT.dev_net)));
    }
    event.key.cause.signs |= signs.seen;
    event.key.cause.signs_read = signs.read;
    0
}

/// 1 if the kernel computed the checksum and found it wrong: set by
/// `__skb_checksum_complete` together with its verdict.
/// <https://github.com/torvalds/linux/blob/v5.10/net/core/skbuff.c>
#[inline(always)]
pub fn has_bad_checksum(skb: Pointer) -> u64 {
    let summed = skb.bits(constant!(CONFIG.ip_summed)) & IP_SUMMED;
    let by_kernel = skb.bits(constant!(CONFIG.csum_complete_sw)) & 1;
    let valid = skb.bits(constant!(CONFIG.csum_valid)) & 1;
    let all = summed << 2 | by_kernel << 1 | valid;
    is_one_of(all, [CHECKSUM_COMPLETE << 2 | 1 << 1])
}

#[inline(always)]
fn of_packet(signs: &mut Signs, packet: &Packet) {
    let skb = packet.skb;
    let kind = skb.bits(constant!(CONFIG.pkt_type)) & PKT_TYPE;
    signs.add(Sign::OtherHost, is_one_of(kind, [PACKET_OTHERHOST]));
    let to_all = is_one_of(kind, [PACKET_BROADCAST, PACKET_MULTICAST]);
    signs.add(Sign::ToAll, to_all);
    signs.add(Sign::BadChecksum, has_bad_checksum(skb));
    let transport: u16 = skb.read(constant!(LAYOUT.skb_transport_header));
    // Negative where the data begins behind the header.
    let ahead = u64::from(transport).wrapping_sub(u64::from(packet.data));
    signs.add(Sign::HeaderTaken, ahead >> 63);
    let tc = skb.bits(constant!(CONFIG.tc_at_ingress)) & 1;
    signs.add(Sign::TcIngress, tc.into());
    let answered = reset::answered_without_socket(skb);
    signs.add(Sign::NoSocketReset, answered);
}

/// 1 if the packet is a TCP segment without payload, SYN and RST, for a socket in
/// `TIME_WAIT`. What comes then is answered, if need be, and freed as if it were dropped.
/// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_minisocks.c>
/// (`tcp_timewait_state_process`)
#[inline(always)]
fn is_last_segment(event: &Event) -> u64 {
    if !event.socket.is_in_time_wait() {
        return 0;
    }
    let at = event.decoded.tcp(&event.key.flow);
    let Ok([words, flags]) = event.packet.load::<[u8; 2]>(at + TCP_LEN_AND_FLAGS) else {
        return 0;
    };
    let header = at + u32::from(words >> 4) * 4;
    let payload = event.packet.len_from(header);
    u64::from(at != 0 && payload == 0 && flags & SYN_RST == 0)
}

#[inline(always)]
fn of_device(signs: &mut Signs, device: Pointer, skb: Pointer) {
    let handler = device.follow(constant!(LAYOUT.dev_rx_handler));
    signs.add(Sign::IsPort, handler.address());
    if constant!(LAYOUT.dev_ip6) != ABSENT {
        let ip6 = device.follow(constant!(LAYOUT.dev_ip6));
        let disabled: u32 = ip6.read(constant!(LAYOUT.ip6_disabled));
        let is_missing = 1 ^ nonzero(ip6.address());
        signs.add(Sign::Ipv6Off, is_missing | u64::from(disabled));
    }
    let mapping: u16 = skb.read(constant!(LAYOUT.skb_queue_mapping));
    let queue = device
        .follow(constant!(LAYOUT.dev_tx_queues))
        .at(u32::from(mapping) * constant!(CONFIG.queue_size));
    let enqueue = queue
        .follow(constant!(LAYOUT.queue_qdisc))
        .follow(constant!(LAYOUT.qdisc_enqueue));
    signs.add(Sign::Queued, enqueue.address());
}

#[inline(always)]
fn of_namespace(signs: &mut Signs, net: Pointer) {
    if constant!(LAYOUT.net_ip6_all) != ABSENT {
        let all = net.follow(constant!(LAYOUT.net_ip6_all));
        let forwarding: u32 = all.read(constant!(LAYOUT.ip6_forwarding));
        signs.add(Sign::Ipv6Forwarding, forwarding.into());
    }
    if constant!(LAYOUT.net_echo_ignore_all) != ABSENT {
        let ignored: u8 = net.read::<u8>(constant!(LAYOUT.net_echo_ignore_all))
            | net.read::<u8>(constant!(LAYOUT.net_echo_ignore_multicast))
            | net.read::<u8>(constant!(LAYOUT.net_echo_ignore_anycast));
        signs.add(Sign::EchoOff, ignored.into());
    }
    let mut ipsec = 0;
    if constant!(LAYOUT.net_xfrm_policies) != ABSENT {
        // For three directions, and three of single sockets.
        let [a, b, c]: [u64; 3] = net.read(constant!(LAYOUT.net_xfrm_policies));
        ipsec |= a | b | c;
    }
    if constant!(LAYOUT.net_xfrm_states) != ABSENT {
        ipsec |= u64::from(net.read::<u32>(constant!(LAYOUT.net_xfrm_states)));
    }
    signs.add(Sign::Ipsec, ipsec);
}
