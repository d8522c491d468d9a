//! Ethernet frames byte by byte.

use std::net::IpAddr;

use crate::scenario::{Extension, Raw, RawProto};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;

/// What a later fragment carries instead of headers.
const FRAGMENT_BODY: [u8; 64] = [b'x'; 64];

/// The two ends of a transport header.
#[derive(Clone, Copy)]
struct Ends {
    from: IpAddr,
    to: IpAddr,
    sport: u16,
    dport: u16,
}

/// The frame that `raw` describes, between these link addresses.
pub fn frame(raw: &Raw, from: [u8; 6], to: [u8; 6], id: u16) -> Vec<u8> {
    let mut frame = [to, from].concat();
    if let Some(vlan) = raw.vlan {
        put(&mut frame, ETHERTYPE_VLAN);
        put(&mut frame, vlan & 0x0fff);
    }
    if let Some(ethertype) = raw.ethertype {
        put(&mut frame, ethertype);
        frame.extend(FRAGMENT_BODY);
        return frame;
    }
    put(
        &mut frame,
        if raw.to.is_ipv4() {
            ETHERTYPE_IPV4
        } else {
            ETHERTYPE_IPV6
        },
    );
    let ends = Ends {
        from: raw.from,
        to: raw.to,
        sport: raw.sport,
        dport: raw.dport,
    };
    let body = if raw.fragment_offset == 0 {
        transport(raw, ends)
    } else {
        FRAGMENT_BODY.to_vec()
    };
    let kept = raw.truncate.unwrap_or(body.len()).min(body.len());
    let body = &body[..kept];
    let proto = number(raw.proto, raw.to);
    match (raw.from, raw.to) {
        (IpAddr::V6(_), _) | (_, IpAddr::V6(_)) => {
            let (first, body) = extend(&raw.extensions, proto, body.to_vec());
            frame.extend(ipv6(ends, first, raw.ttl, &body));
        }
        _ => {
            let more = if raw.more_fragments { 0x2000 } else { 0 };
            let fragment = more | (raw.fragment_offset / 8);
            let mut packet = ipv4(ends, proto, raw.ttl, id, fragment, body);
            if raw.bad_header_checksum {
                packet[10] ^= 0x55;
            }
            frame.extend(packet);
        }
    }
    frame
}

fn transport(raw: &Raw, ends: Ends) -> Vec<u8> {
    let mut segment = match (raw.proto, &raw.quote) {
        (RawProto::IcmpUnreachable, Some(quote)) => {
            let about = Ends {
                from: quote.from,
                to: quote.to,
                sport: quote.sport,
                dport: quote.dport,
            };
            port_unreachable(ends, quote.proto, about)
        }
        (proto, _) => segment(proto, ends, flags(&raw.flags)),
    };
    if raw.bad_checksum {
        // Any other value than the right one; never 0, which means "none" in UDP.
        let at = if raw.proto == RawProto::Tcp { 16 } else { 6 };
        segment[at] ^= 0x55;
        segment[at + 1] |= 1;
    }
    segment
}

/// The flag byte of a TCP header.
fn flags(letters: &str) -> u8 {
    "FSRPAU"
        .chars()
        .enumerate()
        .filter(|(_, letter)| letters.contains(*letter))
        .fold(0, |flags, (bit, _)| flags | 1 << bit)
}

/// A TCP segment, a UDP datagram or an SCTP INIT with a right checksum.
fn segment(proto: RawProto, ends: Ends, flags: u8) -> Vec<u8> {
    let mut segment = Vec::new();
    put(&mut segment, ends.sport);
    put(&mut segment, ends.dport);
    match proto {
        RawProto::Tcp => {
            segment.extend([0, 0, 0, 1, 0, 0, 0, 0]); // sequence 1, no acknowledgement
            segment.extend([5 << 4, flags, 0xff, 0xff]); // 20 bytes, flags, window
            segment.extend([0; 4]); // checksum, urgent pointer
            let sum = checksum(&pseudo(ends, 6, &segment));
            segment[16..18].copy_from_slice(&sum.to_be_bytes());
        }
        RawProto::Sctp => {
            segment.extend([0; 8]); // verification tag of an INIT, checksum
            segment.extend([1, 0, 0, 20]); // INIT, length
            segment.extend([0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
            let sum = crc32c(&segment);
            segment[8..12].copy_from_slice(&sum.to_le_bytes());
        }
        RawProto::Udp | RawProto::IcmpUnreachable | RawProto::Experiment => {
            put(&mut segment, 8 + 32);
            put(&mut segment, 0);
            segment.extend([b'x'; 32]);
            let sum = checksum(&pseudo(ends, 17, &segment));
            segment[6..8].copy_from_slice(&sum.to_be_bytes());
        }
    }
    segment
}

fn port_unreachable(ends: Ends, proto: RawProto, about: Ends) -> Vec<u8> {
    let quoted = segment(proto, about, flags("S"));
    let proto = number(proto, about.to);
    if ends.to.is_ipv4() {
        let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
        message.extend(ipv4(about, proto, 63, 1, 0, &quoted));
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    } else {
        let mut message = vec![1, 4, 0, 0, 0, 0, 0, 0];
        message.extend(ipv6(about, proto, 63, &quoted));
        let sum = checksum(&pseudo(ends, 58, &message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }
}

fn number(proto: RawProto, to: IpAddr) -> u8 {
    match proto {
        RawProto::Tcp => 6,
        RawProto::Udp => 17,
        RawProto::Sctp => 132,
        RawProto::IcmpUnreachable if to.is_ipv4() => 1,
        RawProto::IcmpUnreachable => 58,
        RawProto::Experiment => 253,
    }
}

/// Puts extension headers before `body`; returns the first one's number.
fn extend(extensions: &[Extension], proto: u8, body: Vec<u8>) -> (u8, Vec<u8>) {
    extensions
        .iter()
        .rev()
        .fold((proto, body), |(next, body), extension| {
            // Eight bytes each: padding options, or offset 0 and an identification.
            let (number, rest) = match extension {
                Extension::HopByHop => (0, [0, 1, 4, 0, 0, 0, 0]),
                Extension::DestinationOptions => (60, [0, 1, 4, 0, 0, 0, 0]),
                Extension::AtomicFragment => (44, [0, 0, 0, 0, 0, 0, 7]),
            };
            (number, [&[next][..], &rest, &body].concat())
        })
}

fn ipv4(ends: Ends, proto: u8, ttl: u8, id: u16, fragment: u16, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    put(&mut packet, length(20 + body.len()));
    put(&mut packet, id);
    put(&mut packet, fragment);
    packet.extend([ttl, proto, 0, 0]);
    packet.extend(octets(ends.from));
    packet.extend(octets(ends.to));
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(body);
    packet
}

fn ipv6(ends: Ends, next: u8, hops: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    put(&mut packet, length(body.len()));
    packet.extend([next, hops]);
    packet.extend(octets(ends.from));
    packet.extend(octets(ends.to));
    packet.extend(body);
    packet
}

/// A segment behind the header that its checksum covers as well.
fn pseudo(ends: Ends, proto: u8, segment: &[u8]) -> Vec<u8> {
    let mut covered = [octets(ends.from), octets(ends.to)].concat();
    put(&mut covered, u16::from(proto));
    put(&mut covered, length(segment.len()));
    covered.extend(segment);
    covered
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

fn put(bytes: &mut Vec<u8>, value: u16) {
    bytes.extend(value.to_be_bytes());
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// The Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// The checksum of SCTP (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{checksum, crc32c, flags};

    #[test]
    fn checksum_of_a_known_header() {
        // The example of RFC 1071, section 3.
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }

    #[test]
    fn flags_by_letter() {
        assert_eq!(flags("SA"), 0x12);
        assert_eq!(flags("FPU"), 0x29);
    }

    #[test]
    fn crc32c_of_the_standard_test_string() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
