//! What a freed packet shows of why it was freed, where the kernel does not say.

use droptrace_types::{ABSENT, Sign};

use crate::{
    event::Event,
    kernel::{Pointer, constant},
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

/// Signs as they are collected.
#[derive(Clone, Copy)]
struct Signs {
    seen: u32,
    read: u32,
}

impl Signs {
    #[inline(always)]
    fn add(&mut self, sign: Sign, seen: bool) {
        self.read |= sign.bit();
        if seen {
            self.seen |= sign.bit();
        }
    }
}

/// Reads the signs of the event's packet. A function of its own as
/// [`crate::count::count`].
#[inline(never)]
pub fn read(event: &mut Event) -> u32 {
    let mut signs = Signs { seen: 0, read: 0 };
    of_packet(&mut signs, &event.packet);
    let device = event.device;
    if !device.is_null() {
        of_device(&mut signs, device, event.packet.skb);
        of_namespace(&mut signs, device.follow(constant!(LAYOUT.dev_net)));
    }
    event.key.cause.signs |= signs.seen;
    event.key.cause.signs_read = signs.read;
    0
}

/// Whether the kernel computed the checksum and found it wrong: set by
/// `__skb_checksum_complete` together with its verdict.
/// <https://github.com/torvalds/linux/blob/v5.10/net/core/skbuff.c>
#[inline(always)]
pub fn has_bad_checksum(skb: Pointer) -> bool {
    let summed = skb.bits(constant!(CONFIG.ip_summed)) & IP_SUMMED;
    let by_kernel = skb.bits(constant!(CONFIG.csum_complete_sw)) & 1;
    let valid = skb.bits(constant!(CONFIG.csum_valid)) & 1;
    (summed == CHECKSUM_COMPLETE) & (by_kernel == 1) & (valid == 0)
}

#[inline(always)]
fn of_packet(signs: &mut Signs, packet: &Packet) {
    let skb = packet.skb;
    let kind = skb.bits(constant!(CONFIG.pkt_type)) & PKT_TYPE;
    signs.add(Sign::OtherHost, kind == PACKET_OTHERHOST);
    let to_all = kind == PACKET_BROADCAST || kind == PACKET_MULTICAST;
    signs.add(Sign::ToAll, to_all);
    signs.add(Sign::BadChecksum, has_bad_checksum(skb));
    let transport: u16 = skb.read(constant!(LAYOUT.skb_transport_header));
    signs.add(
        Sign::HeaderTaken,
        packet.data_offset() > u32::from(transport),
    );
    let tc = skb.bits(constant!(CONFIG.tc_at_ingress)) & 1;
    signs.add(Sign::TcIngress, tc == 1);
    let answered = reset::answered_without_socket(skb);
    signs.add(Sign::NoSocketReset, answered);
}

#[inline(always)]
fn of_device(signs: &mut Signs, device: Pointer, skb: Pointer) {
    let handler = device.follow(constant!(LAYOUT.dev_rx_handler));
    signs.add(Sign::IsPort, !handler.is_null());
    if constant!(LAYOUT.dev_ip6) != ABSENT {
        let ip6 = device.follow(constant!(LAYOUT.dev_ip6));
        let disabled: u32 = ip6.read(constant!(LAYOUT.ip6_disabled));
        signs.add(Sign::Ipv6Off, ip6.is_null() | (disabled != 0));
    }
    let mapping: u16 = skb.read(constant!(LAYOUT.skb_queue_mapping));
    let queue = device
        .follow(constant!(LAYOUT.dev_tx_queues))
        .at(u32::from(mapping) * constant!(CONFIG.queue_size));
    let enqueue = queue
        .follow(constant!(LAYOUT.queue_qdisc))
        .follow(constant!(LAYOUT.qdisc_enqueue));
    signs.add(Sign::Queued, !enqueue.is_null());
}

#[inline(always)]
fn of_namespace(signs: &mut Signs, net: Pointer) {
    if constant!(LAYOUT.net_ip6_all) != ABSENT {
        let all = net.follow(constant!(LAYOUT.net_ip6_all));
        let forwarding: u32 = all.read(constant!(LAYOUT.ip6_forwarding));
        signs.add(Sign::Ipv6Forwarding, forwarding != 0);
    }
    if constant!(LAYOUT.net_echo_ignore_all) != ABSENT {
        let ignored: u8 = net.read::<u8>(constant!(LAYOUT.net_echo_ignore_all))
            | net.read::<u8>(constant!(LAYOUT.net_echo_ignore_multicast))
            | net.read::<u8>(constant!(LAYOUT.net_echo_ignore_anycast));
        signs.add(Sign::EchoOff, ignored != 0);
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
    signs.add(Sign::Ipsec, ipsec != 0);
}
