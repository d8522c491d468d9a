//! What connection tracking tells connections apart by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

/// `AF_INET` and `AF_INET6` as the kernel writes them into a tuple.
const V4: u16 = 2;
const V6: u16 = 10;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// IP protocol number.
    pub proto: u8,
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// What tells more than the addresses.
    pub ends: Ends,
}

/// What a protocol has beside addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Nothing.
    None,
    /// Ports of sender and receiver.
    Ports(u16, u16),
    /// An ICMP or `ICMPv6` message.
    Icmp {
        /// Identifier.
        id: u16,
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
}

impl Ends {
    /// From the part of a `struct nf_conntrack_tuple` that depends on the protocol.
    #[must_use]
    pub fn of(proto: u8, src: [u8; 2], dst: [u8; 2]) -> Self {
        let number = u16::from_be_bytes;
        match proto {
            TCP | UDP | DCCP | SCTP | UDPLITE => Self::Ports(number(src), number(dst)),
            ICMP | ICMPV6 => Self::Icmp {
                id: number(src),
                kind: dst[0],
                code: dst[1],
            },
            _ => Self::None,
        }
    }
}

impl Tuple {
    /// From a `struct nf_conntrack_tuple` as it stands in memory; `None` where that
    /// is none.
    #[must_use]
    pub fn from_kernel(words: &[u64; 5]) -> Option<Self> {
        let mut bytes = [0; 40];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let family = u16::from_ne_bytes([bytes[18], bytes[19]]);
        let proto = bytes[38];
        Some(Self {
            proto,
            src: address(family, bytes[..16].try_into().ok()?)?,
            dst: address(family, bytes[20..36].try_into().ok()?)?,
            ends: Ends::of(proto, [bytes[16], bytes[17]], [bytes[36], bytes[37]]),
        })
    }
}

fn address(family: u16, bytes: [u8; 16]) -> Option<IpAddr> {
    match family {
        V4 => Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
        V6 => Some(Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: [u8; 40]) -> [u64; 5] {
        let word = |i: usize| u64::from_ne_bytes(bytes[i * 8..i * 8 + 8].try_into().unwrap());
        [word(0), word(1), word(2), word(3), word(4)]
    }

    #[test]
    fn a_tuple_of_the_kernel_is_read() {
        let mut bytes = [0; 40];
        bytes[..4].copy_from_slice(&[10, 0, 0, 2]);
        bytes[16..18].copy_from_slice(&40000_u16.to_be_bytes());
        bytes[18..20].copy_from_slice(&V4.to_ne_bytes());
        bytes[20..24].copy_from_slice(&[10, 0, 0, 5]);
        bytes[36..38].copy_from_slice(&443_u16.to_be_bytes());
        bytes[38] = TCP;
        let tuple = Tuple::from_kernel(&words(bytes)).unwrap();
        assert_eq!(tuple.src.to_string(), "10.0.0.2");
        assert_eq!(tuple.dst.to_string(), "10.0.0.5");
        assert_eq!(tuple.ends, Ends::Ports(40000, 443));
        bytes[38] = ICMP;
        bytes[36..38].copy_from_slice(&[8, 0]);
        let tuple = Tuple::from_kernel(&words(bytes)).unwrap();
        let (id, kind, code) = (40000, 8, 0);
        assert_eq!(tuple.ends, Ends::Icmp { id, kind, code });
        bytes[38] = 47;
        assert_eq!(Tuple::from_kernel(&words(bytes)).unwrap().ends, Ends::None);
    }

    #[test]
    fn what_is_no_tuple_is_none() {
        assert_eq!(Tuple::from_kernel(&[0; 5]), None);
        assert_eq!(Tuple::from_kernel(&[u64::MAX; 5]), None);
    }
}
