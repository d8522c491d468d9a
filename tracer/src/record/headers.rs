//! A packet's headers as bytes, and where they end: what follows is payload,
//! which is not recorded.

use std::fmt::Write as _;

use droptrace_types::{Decode, Detail, HEADER_LEN};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

/// The headers in hexadecimal; `None` where they were not read, or not whole.
pub fn hex(detail: &Detail) -> Option<String> {
    let len = (detail.header_len as usize).min(HEADER_LEN);
    if detail.key.cause.decode != Decode::Headers as u8 {
        return None;
    }
    let headers = whole(detail.header.get(..len)?)?;
    Some(headers.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// The flags of a TCP segment without payload; `None` for other packets, and where the
/// headers were not read whole.
pub fn flags_of_empty_segment(detail: &Detail) -> Option<u8> {
    let len = (detail.header_len as usize).min(HEADER_LEN);
    let headers = whole(detail.header.get(..len)?)?;
    let is_empty = headers.len() == detail.len as usize;
    (detail.key.flow.proto == TCP && is_empty).then_some(detail.tcp_flags)
}

/// Where the transport header of a detail's packet begins; `None` where there is
/// none, or it was not read.
pub fn transport_of(detail: &Detail) -> Option<usize> {
    let len = (detail.header_len as usize).min(HEADER_LEN);
    transport(detail.header.get(..len)?)
}

/// Where the transport header begins; `None` where there is none, or not in
/// `bytes`.
pub fn transport(bytes: &[u8]) -> Option<usize> {
    let (start, proto) = network(bytes)?;
    proto.map(|_| start)
}

/// `bytes` up to the end of the transport header.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (transport, proto) = network(bytes)?;
    let header = |len: usize| bytes.get(..transport.checked_add(len)?);
    match proto {
        Some(TCP) => header(usize::from(bytes.get(transport + 12)? >> 4) * 4),
        Some(UDP | UDPLITE | ICMP | ICMPV6) => header(8),
        Some(SCTP) => header(12),
        _ => header(0),
    }
}

/// Where the transport header begins, and its protocol, which a later fragment
/// has not.
fn network(bytes: &[u8]) -> Option<(usize, Option<u8>)> {
    match bytes.first()? >> 4 {
        4 => v4(bytes),
        6 => v6(bytes),
        _ => None,
    }
}

fn v4(bytes: &[u8]) -> Option<(usize, Option<u8>)> {
    let len = usize::from(bytes.first()? & 0xf) * 4;
    let offset = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x1fff;
    Some((len, (offset == 0).then_some(*bytes.get(9)?)))
}

/// Behind the extension headers.
fn v6(bytes: &[u8]) -> Option<(usize, Option<u8>)> {
    let mut next = *bytes.get(6)?;
    let mut at = 40;
    loop {
        let word = |i| bytes.get(at + i).copied();
        let len = match next {
            // Hop-by-hop, routing, destination options, mobility.
            0 | 43 | 60 | 135 => (usize::from(word(1)?) + 1) * 8,
            // Authentication.
            51 => (usize::from(word(1)?) + 2) * 4,
            // Fragment.
            44 => {
                if u16::from_be_bytes([word(2)?, word(3)?]) & 0xfff8 != 0 {
                    return Some((at + 8, None));
                }
                8
            }
            _ => return Some((at, Some(next))),
        };
        next = word(0)?;
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4_packet(proto: u8, fragment: u16, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45; 20];
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = proto;
        packet.extend(rest);
        packet
    }

    #[test]
    fn payload_is_cut_off() {
        let mut tcp = [0; 30];
        tcp[12] = 6 << 4;
        assert_eq!(whole(&v4_packet(TCP, 0, &tcp)).unwrap().len(), 20 + 24);
        assert_eq!(whole(&v4_packet(UDP, 0, &[0; 30])).unwrap().len(), 20 + 8);
        assert_eq!(whole(&v4_packet(47, 0, &[0; 30])).unwrap().len(), 20);
    }

    #[test]
    fn a_later_fragment_has_no_transport_header() {
        assert_eq!(whole(&v4_packet(UDP, 1, &[0; 30])).unwrap().len(), 20);
    }

    #[test]
    fn extension_headers_are_headers() {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = 0;
        packet.extend([UDP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([0; 20]);
        assert_eq!(whole(&packet).unwrap().len(), 40 + 16 + 8);
    }

    #[test]
    fn what_is_cut_short_is_not_shown() {
        let packet = v4_packet(TCP, 0, &[0xff; 30]);
        for len in 0..50 {
            assert_eq!(whole(&packet[..len]), None);
        }
        assert_eq!(whole(&[0x60; 40]), Some(&[0x60; 40][..]));
    }
}
