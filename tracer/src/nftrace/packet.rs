//! A packet's headers as the trace shows them, and whether they are those of a
//! drop.

use droptrace_types::{Decode, Detail, HEADER_LEN, TUPLE_ICMP, TUPLE_PORTS, Tuple};

/// More of a header the kernel never shows (`NFT_TRACETYPE_NETWORK_HSIZE`,
/// `NFT_TRACETYPE_TRANSPORT_HSIZE`).
const MAX_NETWORK: usize = 40;
const MAX_TRANSPORT: usize = 20;
/// So much of a transport header tells packets apart.
const ENOUGH: usize = 8;

/// The first bytes of its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    network: Vec<u8>,
    transport: Vec<u8>,
}

/// Source and destination.
pub type Ends = ([u8; 16], [u8; 16]);

/// What tells flows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Where it is from and to.
    pub ends: Ends,
    proto: u8,
    /// Ports, or ICMP type and code; `None` where there are none.
    ports: Option<(u16, u16)>,
}

impl Flow {
    /// That of a packet that was counted; `None` where it has none.
    pub fn of(tuple: &Tuple) -> Option<Self> {
        let has_ports = tuple.flags & (TUPLE_PORTS | TUPLE_ICMP) != 0;
        (tuple.family != 0).then_some(Self {
            ends: (tuple.src, tuple.dst),
            proto: tuple.proto,
            ports: has_ports.then_some((tuple.src_port, tuple.dst_port)),
        })
    }
}

impl Packet {
    /// With as much of each header as is known.
    pub fn new(network: &[u8], transport: &[u8]) -> Self {
        let first = |bytes: &[u8], most: usize| bytes[..bytes.len().min(most)].to_vec();
        Self {
            network: first(network, MAX_NETWORK),
            transport: first(transport, MAX_TRANSPORT),
        }
    }

    /// Where it is from and to; `None` where that cannot be read.
    pub fn ends(&self) -> Option<Ends> {
        let version = self.network.first()? >> 4;
        let (src, len) = if version == 4 { (12, 4) } else { (8, 16) };
        let address = |at: usize| {
            let mut address = [0; 16];
            address[..len].copy_from_slice(self.network.get(at..at + len)?);
            Some(address)
        };
        matches!(version, 4 | 6).then_some((address(src)?, address(src + len)?))
    }

    /// Its flow; `None` where that is not certain.
    pub fn flow(&self) -> Option<Flow> {
        let proto = match self.network.first()? >> 4 {
            4 => *self.network.get(9)?,
            // The chain of extension headers may be longer than what is shown.
            6 if self.network.len() == 40 => Some(*self.network.get(6)?)
                .filter(|next| !matches!(next, 0 | 43 | 44 | 51 | 60 | 135))?,
            _ => return None,
        };
        let byte = |at: usize| self.transport.get(at).copied();
        let word = |at: usize| Some(u16::from_be_bytes([byte(at)?, byte(at + 1)?]));
        let ports = match proto {
            _ if self.is_later_fragment() => None,
            6 | 17 | 33 | 132 | 136 => Some((word(0)?, word(2)?)),
            1 | 58 => Some((u16::from(byte(0)?), u16::from(byte(1)?))),
            _ => None,
        };
        Some(Flow {
            ends: self.ends()?,
            proto,
            ports,
        })
    }

    fn is_later_fragment(&self) -> bool {
        let word = |at: usize| Some([*self.network.get(at)?, *self.network.get(at + 1)?]);
        self.network.first().is_some_and(|first| first >> 4 == 4)
            && word(6).is_some_and(|word| u16::from_be_bytes(word) & 0x1fff != 0)
    }

    /// Whether these are the headers of the packet of a detail, whose transport
    /// header begins at `transport`, if it has one. A packet that came again
    /// unchanged has the same.
    pub fn is_of(&self, detail: &Detail, transport: Option<usize>) -> bool {
        let len = (detail.header_len as usize).min(HEADER_LEN);
        let header = detail.header.get(..len).unwrap_or_default();
        if detail.key.cause.decode != Decode::Headers as u8 || !header.starts_with(&self.network) {
            return false;
        }
        let Some(behind) = transport.map(|at| header.get(at..).unwrap_or_default()) else {
            return true;
        };
        let common = behind.len().min(self.transport.len());
        (common >= ENOUGH || common == self.transport.len())
            && behind[..common] == self.transport[..common]
    }
}

#[cfg(test)]
mod tests {
    use droptrace_types::TUPLE_FRAGMENT;

    use super::*;

    fn v4(proto: u8, fragment: u16) -> Vec<u8> {
        let mut header = vec![0; 20];
        (header[0], header[9]) = (0x45, proto);
        header[6..8].copy_from_slice(&fragment.to_be_bytes());
        header[12..16].copy_from_slice(&[10, 0, 0, 2]);
        header[16..20].copy_from_slice(&[10, 0, 0, 5]);
        header
    }

    fn v6(next: u8) -> Vec<u8> {
        let mut header = vec![0; 40];
        (header[0], header[6], header[23], header[39]) = (0x60, next, 2, 5);
        header
    }

    fn tuple(proto: u8, ports: (u16, u16), flags: u8) -> Tuple {
        let mut tuple = Tuple {
            proto,
            flags,
            src_port: ports.0,
            dst_port: ports.1,
            ..Tuple::NONE
        };
        let [src, dst] = [[10, 0, 0, 2], [10, 0, 0, 5]].map(u32::from_ne_bytes);
        tuple.set_v4(src, dst);
        tuple
    }

    const PORTS: [u8; 8] = [0, 1, 0, 53, 0, 8, 0, 0];

    #[test]
    fn a_flow_is_that_of_the_count() {
        for (network, transport, tuple) in [
            (v4(17, 0), &PORTS[..], tuple(17, (1, 53), TUPLE_PORTS)),
            (
                v4(17, 0x2000),
                &PORTS,
                tuple(17, (1, 53), TUPLE_PORTS | TUPLE_FRAGMENT),
            ),
            (v4(17, 3), &PORTS, tuple(17, (0, 0), TUPLE_FRAGMENT)),
            (v4(1, 0), &[8, 1, 0, 0], tuple(1, (8, 1), TUPLE_ICMP)),
            (v4(50, 0), &PORTS, tuple(50, (0, 0), 0)),
        ] {
            let packet = Packet::new(&network, transport);
            assert_eq!(packet.flow(), Flow::of(&tuple));
            assert_eq!(packet.ends(), Some((tuple.src, tuple.dst)));
        }
        assert_eq!(Flow::of(&Tuple::NONE), None);
        assert_ne!(
            Packet::new(&v4(17, 0), &PORTS).flow(),
            Flow::of(&tuple(17, (53, 1), TUPLE_PORTS))
        );
    }

    #[test]
    fn what_cannot_be_certain_is_none() {
        // Behind extension headers stands what is not shown.
        for next in [0, 43, 44, 51, 60, 135] {
            let packet = Packet::new(&v6(next), &PORTS);
            assert_eq!(packet.flow(), None);
            assert!(packet.ends().is_some());
        }
        assert!(Packet::new(&v6(17), &PORTS).flow().is_some());
        for len in 0..20 {
            assert_eq!(Packet::new(&v4(17, 0)[..len], &PORTS).flow(), None);
        }
        for len in 0..4 {
            assert_eq!(Packet::new(&v4(17, 0), &PORTS[..len]).flow(), None);
        }
        assert_eq!(Packet::new(&[0x70; 40], &PORTS).ends(), None);
    }
}
