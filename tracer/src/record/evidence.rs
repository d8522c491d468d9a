//! From a count's key, a detail and a call chain to what they show of the cause.

use std::sync::Arc;

use droptrace_types::{Decode, Detail, HEADER_LEN, Key, TUPLE_FRAGMENT, TUPLE_ICMP, TUPLE_PORTS};

use super::{cause::Stack, flow, headers, packet};
use crate::reason::{Evidence, Sign, Signs};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Flags of a TCP header.
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// A state of a TCP socket.
const TIME_WAIT: u8 = 6;

/// What tells why the packets of `key` were freed. What the key says holds for
/// all of them, the rest is that of the one in `detail`.
pub fn of(key: &Key, detail: Option<&Detail>, stack: &Stack) -> Evidence {
    let decoded = (key.flow.family != 0).then_some(&key.flow);
    let about = (key.about.family != 0).then_some(&key.about);
    let (src, dst) = flow::addresses(&key.flow).unzip();
    let packet = detail.and_then(Packet::of);
    let mut signs = Signs::from_bits(key.cause.signs, key.cause.signs_read)
        .with(Sign::Owned, key.cause.socket_family != 0);
    if let Some(packet) = &packet {
        signs = packet.signs(signs);
    }
    if let Some(detail) = detail {
        signs = of_segment(detail, signs);
    }
    Evidence {
        signs,
        ethertype: key.ethertype,
        proto: decoded.map(|flow| flow.proto),
        icmp_type: decoded
            .filter(|flow| flow.flags & TUPLE_ICMP != 0)
            .and_then(|flow| u8::try_from(flow.src_port).ok()),
        src,
        dst,
        quoted: about
            .filter(|about| about.flags & (TUPLE_PORTS | TUPLE_ICMP) != 0)
            .map(|about| about.proto),
        len: packet.as_ref().map(|packet| packet.len),
        as_list: stack.as_list,
        callers: Arc::clone(&stack.callers),
        tcp_state: detail.and_then(packet::tcp_state),
    }
}

/// What a TCP segment shows by what it lacks.
fn of_segment(detail: &Detail, signs: Signs) -> Signs {
    let flags = headers::flags_of_empty_segment(detail);
    let signs = signs.with(Sign::BareAck, flags == Some(ACK));
    // The kernel may not have told the socket, which was then searched for.
    if detail.key.cause.signs_read & Sign::LastSegment.bit() != 0 {
        return signs;
    }
    let is_last = flags.is_some_and(|flags| flags & (SYN | RST) == 0);
    signs.with(Sign::LastSegment, is_last && detail.tcp_state == TIME_WAIT)
}

/// A packet's headers, and how long it is as a whole.
struct Packet<'a> {
    ip: &'a [u8],
    /// From the transport header on; empty where it is not known where that begins.
    transport: &'a [u8],
    /// Bytes from the transport header to the packet's end.
    transport_len: Option<u32>,
    proto: u8,
    len: u32,
}

impl<'a> Packet<'a> {
    fn of(detail: &'a Detail) -> Option<Self> {
        if detail.key.cause.decode != Decode::Headers as u8 {
            return None;
        }
        let ip = detail
            .header
            .get(..(detail.header_len as usize).min(HEADER_LEN))?;
        let flow = &detail.key.flow;
        let start = (flow.flags & TUPLE_FRAGMENT == 0)
            .then(|| headers::transport(ip))
            .flatten();
        Some(Self {
            ip,
            transport: start.and_then(|start| ip.get(start..)).unwrap_or_default(),
            transport_len: start
                .and_then(|start| detail.len.checked_sub(u32::try_from(start).ok()?)),
            proto: flow.proto,
            len: detail.len,
        })
    }

    /// What the headers show, beside what the kernel side read.
    fn signs(&self, mut signs: Signs) -> Signs {
        match *self.ip {
            [first, _, _, _, _, _, flags, _, ttl, ..] if first >> 4 == 4 => {
                signs = signs
                    .with(Sign::TtlEnded, ttl <= 1)
                    .with(Sign::IpOptions, first & 0xf > 5)
                    .with(Sign::DontFragment, flags & 0x40 != 0);
            }
            [first, _, _, _, _, _, _, hops, ..] if first >> 4 == 6 => {
                signs = signs.with(Sign::TtlEnded, hops <= 1);
            }
            _ => {}
        }
        if let Some(bad) = self.has_bad_length() {
            signs = signs.with(Sign::BadLength, bad);
        }
        if let (UDP, 6, &[_, _, _, _, _, _, high, low, ..]) =
            (self.proto, self.version(), self.transport)
        {
            signs = signs.with(Sign::NoChecksum, high == 0 && low == 0);
        }
        signs.with(Sign::SoundDiscovery, self.is_sound_discovery())
    }

    fn version(&self) -> u8 {
        self.ip.first().map_or(0, |first| first >> 4)
    }

    /// Whether the transport header contradicts the packet's length; `None` where
    /// it was not read as far as needed.
    fn has_bad_length(&self) -> Option<bool> {
        let len = self.transport_len?;
        let least = match self.proto {
            TCP => 20,
            UDP | ICMP | ICMPV6 => 8,
            _ => return None,
        };
        if len < least {
            return Some(true);
        }
        match (self.proto, self.transport) {
            (TCP, &[_, _, _, _, _, _, _, _, _, _, _, _, words, ..]) => {
                let header = u32::from(words >> 4) * 4;
                Some(header < least || header > len)
            }
            (UDP, &[_, _, _, _, high, low, ..]) => {
                let told = u32::from(u16::from_be_bytes([high, low]));
                let jumbo = told == 0 && self.version() == 6;
                Some(!jumbo && (told < least || told > len))
            }
            (ICMP | ICMPV6, _) => Some(false),
            _ => None,
        }
    }

    /// Whether it is a neighbour solicitation or advertisement that the kernel has
    /// nothing to say against: not routed, of code 0, to the right address, with
    /// whole options. An unsolicited advertisement may be refused by a setting.
    /// <https://github.com/torvalds/linux/blob/v5.10/net/ipv6/ndisc.c>
    fn is_sound_discovery(&self) -> bool {
        const SOLICITATION: u8 = 135;
        const ADVERTISEMENT: u8 = 136;
        const SOLICITED: u8 = 0x40;
        let (Some(hops), Some(source), Some(destination), Some(message)) = (
            self.ip.get(7),
            self.ip.get(8..24),
            self.ip.get(24..40),
            self.transport.get(..24),
        ) else {
            return false;
        };
        let is_whole = self.transport_len == u32::try_from(self.transport.len()).ok();
        if self.version() != 6 || self.proto != ICMPV6 || *hops != 255 || !is_whole {
            return false;
        }
        let target = &message[8..24];
        let options = &self.transport[24..];
        if message[1] != 0 || target[0] == 0xff {
            return false;
        }
        let is_probe = source == [0; 16];
        match message[0] {
            SOLICITATION => {
                let asks_a_group =
                    destination[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
                sound_options(options, !is_probe) && (!is_probe || asks_a_group)
            }
            ADVERTISEMENT => {
                message[4] & SOLICITED != 0
                    && destination[0] != 0xff
                    && sound_options(options, true)
            }
            _ => false,
        }
    }
}

/// Whether all options are whole, link addresses those of Ethernet, and the
/// sender's given only where it may be.
fn sound_options(mut options: &[u8], with_source: bool) -> bool {
    const SOURCE_ADDRESS: u8 = 1;
    const TARGET_ADDRESS: u8 = 2;
    while let [kind, words, ..] = *options {
        let len = usize::from(words) * 8;
        let fits = match kind {
            SOURCE_ADDRESS => with_source && len == 8,
            TARGET_ADDRESS => len == 8,
            _ => true,
        };
        if len == 0 || !fits {
            return false;
        }
        let Some(rest) = options.get(len..) else {
            return false;
        };
        options = rest;
    }
    options.is_empty()
}

#[cfg(test)]
mod tests {
    use droptrace_types::{Cause, IfName, NO_REASON, Tuple};

    use super::*;

    const PORTS: u8 = TUPLE_PORTS;

    /// The detail of a packet with these bytes, freed in a kernel without reasons.
    fn detail(proto: u8, flags: u8, packet: &[u8]) -> Detail {
        let mut header = [0; HEADER_LEN];
        let read = packet.len().min(HEADER_LEN);
        header[..read].copy_from_slice(&packet[..read]);
        let flow = Tuple {
            family: packet[0] >> 4,
            proto,
            flags,
            ..Tuple::NONE
        };
        let cause = Cause {
            location: 0,
            rule: 0,
            reason: NO_REASON,
            netns: 0,
            ifindex: 0,
            kind: 0,
            direction: 0,
            decode: Decode::Headers as u8,
            socket_family: 0,
            signs: 0,
            signs_read: 0,
        };
        Detail {
            key: Key {
                cause,
                flow,
                about: Tuple::NONE,
                vlan: 0,
                ethertype: 0,
                sketch: 0,
            },
            time_ns: 0,
            socket_inode: 0,
            task_pid: 0,
            socket_uid: 0,
            stack_id: -1,
            mark: 0,
            len: u32::try_from(packet.len()).unwrap(),
            tcp_seq: 0,
            tcp_ack: 0,
            bad_checksum: 0,
            header_len: u32::try_from(read).unwrap(),
            tcp_flags: 0,
            tcp_state: 0,
            ttl: 0,
            socket_held: 0,
            rule: droptrace_types::RuleAt::UNKNOWN,
            verdict: droptrace_types::RuleAt::UNKNOWN,
            conntrack: droptrace_types::ConntrackAt::default(),
            hook: droptrace_types::HookAt::default(),
            ifname: IfName::default(),
            comm: [0; 16],
            header,
        }
    }

    fn evidence(detail: &Detail) -> Evidence {
        of(&detail.key, Some(detail), &Stack::default())
    }

    fn signs(proto: u8, packet: &[u8]) -> Signs {
        evidence(&detail(proto, PORTS, packet)).signs
    }

    fn v4(rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45; 20];
        packet[6..8].copy_from_slice(&[0, 0]);
        packet.extend(rest);
        packet
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        (packet[0], packet[6], packet[7]) = (0x60, next, 255);
        packet.extend(rest);
        packet
    }

    fn udp(told: u16, checksum: u16, payload: usize) -> Vec<u8> {
        let mut datagram = vec![0; 8 + payload];
        datagram[4..6].copy_from_slice(&told.to_be_bytes());
        datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
        datagram
    }

    #[test]
    fn lengths_are_compared_with_the_packet() {
        let bad = |packet: &[u8]| signs(UDP, packet).is(Sign::BadLength);
        assert!(!bad(&v4(&udp(8, 1, 0))));
        // Padding behind the datagram is allowed.
        assert!(!bad(&v4(&udp(108, 1, 200))));
        assert!(bad(&v4(&udp(7, 1, 0))));
        assert!(bad(&v4(&udp(9, 1, 0))));
        assert!(bad(&v4(&[0; 7])));
        // A jumbogram of IPv6.
        assert!(!bad(&v6(UDP, &udp(0, 1, 0))));
        assert!(bad(&v4(&udp(0, 1, 0))));

        let bad = |words: u8, len| {
            let mut segment = vec![0; len];
            segment[12] = words << 4;
            signs(TCP, &v4(&segment)).is(Sign::BadLength)
        };
        assert!(!bad(5, 20));
        assert!(!bad(15, 60));
        assert!(bad(4, 20));
        assert!(bad(6, 20));
        assert!(bad(5, 19));
        assert!(signs(ICMP, &v4(&[0; 7])).is(Sign::BadLength));
        assert!(signs(ICMP, &v4(&[0; 8])).is_not(Sign::BadLength));
    }

    #[test]
    fn what_was_not_read_is_not_denied() {
        // A later fragment, and headers behind those that were read.
        let fragment = detail(UDP, TUPLE_FRAGMENT, &v4(&[0; 8]));
        let mut far = v6(0, &[0; 200]);
        far[40..42].copy_from_slice(&[UDP, 20]);
        for detail in [fragment, detail(UDP, 0, &far)] {
            let signs = evidence(&detail).signs;
            for sign in [Sign::BadLength, Sign::NoChecksum] {
                assert!(!signs.is(sign) && !signs.is_not(sign));
            }
        }
        let key = detail(UDP, PORTS, &v4(&udp(8, 1, 0))).key;
        let signs = of(&key, None, &Stack::default()).signs;
        assert!(!signs.is(Sign::TtlEnded) && !signs.is_not(Sign::TtlEnded));
    }

    #[test]
    fn signs_of_the_kernel_side_are_kept() {
        let mut detail = detail(UDP, PORTS, &v4(&udp(8, 1, 0)));
        detail.key.cause.signs = Sign::OtherHost.bit();
        detail.key.cause.signs_read = Sign::OtherHost.bit();
        let signs = of(&detail.key, Some(&detail), &Stack::default()).signs;
        assert!(signs.is(Sign::OtherHost) && signs.is_not(Sign::BadLength));
        assert!(!signs.is(Sign::ToAll) && !signs.is_not(Sign::ToAll));
    }

    #[test]
    fn headers_show_their_signs() {
        let mut packet = v4(&udp(8, 0, 0));
        (packet[6], packet[8]) = (0x40, 1);
        let signs_of = signs(UDP, &packet);
        assert!(signs_of.is(Sign::DontFragment) && signs_of.is(Sign::TtlEnded));
        assert!(signs_of.is_not(Sign::IpOptions));
        // Without a checksum only IPv6 is at fault.
        assert!(!signs_of.is(Sign::NoChecksum));
        assert!(signs(UDP, &v6(UDP, &udp(8, 0, 0))).is(Sign::NoChecksum));
        assert!(signs(UDP, &v6(UDP, &udp(8, 1, 0))).is_not(Sign::NoChecksum));
        packet[0] = 0x46;
        assert!(signs(UDP, &packet).is(Sign::IpOptions));
    }

    #[test]
    fn neighbour_discovery_is_checked_as_the_kernel_does() {
        let sound = |packet: &[u8]| signs(ICMPV6, packet).is(Sign::SoundDiscovery);
        let mut message = vec![0; 32];
        message[0] = 135;
        message[24..26].copy_from_slice(&[1, 1]);
        let mut packet = v6(ICMPV6, &message);
        packet[23] = 1;
        assert!(sound(&packet));
        for (at, wrong) in [
            (7, 254),   // routed
            (41, 1),    // ICMPv6 code
            (48, 0xff), // a group as the target
            (65, 0),    // an option without length
            (65, 2),    // an option beyond the end
            (23, 0),    // a probe from nobody that tells its link address
        ] {
            let mut broken = packet.clone();
            broken[at] = wrong;
            assert!(!sound(&broken), "byte {at}");
        }
        for len in 40..packet.len() {
            assert_eq!(sound(&packet[..len]), len == 64, "{len} bytes");
        }

        // An answer must have been asked for.
        packet[40] = 136;
        packet[64] = 2;
        assert!(!sound(&packet));
        packet[44] = 0x40;
        assert!(sound(&packet));
        packet[24] = 0xff;
        assert!(!sound(&packet));
    }

    #[test]
    fn the_key_tells_message_and_addresses() {
        let mut key = detail(ICMPV6, TUPLE_ICMP, &v6(ICMPV6, &[0; 8])).key;
        key.flow.src_port = 135;
        key.flow.src[15] = 1;
        key.about = Tuple {
            family: 6,
            proto: UDP,
            flags: PORTS,
            ..Tuple::NONE
        };
        let stack = Stack {
            above: ["icmpv6_rcv.part.0+0x10".to_owned()].into(),
            callers: ["icmpv6_rcv".to_owned()].into(),
            as_list: false,
        };
        let evidence = of(&key, None, &stack);
        assert_eq!(evidence.icmp_type, Some(135));
        assert_eq!(evidence.src.unwrap().to_string(), "::1");
        assert_eq!(evidence.quoted, Some(UDP));
        assert_eq!(*evidence.callers, ["icmpv6_rcv"]);
    }
}
