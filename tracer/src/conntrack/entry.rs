//! One connection, as connection tracking tells it over netlink.
//!
//! <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nfnetlink_conntrack.h>

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd as _,
};

use super::tuple::{Ends, Tuple};
use crate::rules::watch::netfilter_socket;

/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS: usize = 16 + 4;
/// `NFNL_SUBSYS_CTNETLINK` and the message: `IPCTNL_MSG_CT_NEW`, `IPCTNL_MSG_CT_GET`.
const MESSAGE_NEW: u16 = 1 << 8;
const MESSAGE_GET: u16 = MESSAGE_NEW | 1;
const NESTED: u16 = 1 << 15;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_PROTOINFO: u16 = 4;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Identifier, type and code; those of `ICMPv6` are the next three.
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;

const ICMP: u8 = 1;

/// Names of the states of a TCP connection (`enum tcp_conntrack`), by number.
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nf_conntrack_tcp.h>
const TCP_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

/// The name of a TCP connection's state.
#[must_use]
pub fn tcp_state_name(state: u8) -> Option<&'static str> {
    TCP_STATES.get(usize::from(state)).copied()
}

/// A connection in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its first packet, as it came.
    pub original: Tuple,
    /// State of a TCP connection (`enum tcp_conntrack`).
    pub tcp_state: Option<u8>,
}

/// The connection of the calling thread's network namespace that has `tuple` in
/// one of its directions; of zone 0.
///
/// # Errors
///
/// If the kernel does not answer, or refuses.
pub fn find(tuple: &Tuple) -> io::Result<Option<Entry>> {
    let socket = netfilter_socket(0)?;
    let request = request(tuple);
    // SAFETY: the buffer is valid for its length.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            request.as_ptr().cast(),
            request.len(),
            0,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = [0_u8; 4096];
    // SAFETY: the buffer is valid for its length.
    let len = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            answer.as_mut_ptr().cast(),
            answer.len(),
            0,
        )
    };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    parse(answer.get(..len).unwrap_or_default())
}

fn request(tuple: &Tuple) -> Vec<u8> {
    let (family, ip) = match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => (
            libc::AF_INET,
            [
                attribute(CTA_IP_V4_SRC, &src.octets()),
                attribute(CTA_IP_V4_DST, &dst.octets()),
            ],
        ),
        (src, dst) => (
            libc::AF_INET6,
            [
                attribute(CTA_IP_V6_SRC, &v6(src).octets()),
                attribute(CTA_IP_V6_DST, &v6(dst).octets()),
            ],
        ),
    };
    let mut proto = attribute(CTA_PROTO_NUM, &[tuple.proto]);
    match tuple.ends {
        Ends::None => {}
        Ends::Ports(src, dst) => {
            proto.extend(attribute(CTA_PROTO_SRC_PORT, &src.to_be_bytes()));
            proto.extend(attribute(CTA_PROTO_DST_PORT, &dst.to_be_bytes()));
        }
        Ends::Icmp { id, kind, code } => {
            let first = icmp_attribute(tuple.proto);
            proto.extend(attribute(first, &id.to_be_bytes()));
            proto.extend(attribute(first + 1, &[kind]));
            proto.extend(attribute(first + 2, &[code]));
        }
    }
    let parts = [
        attribute(CTA_TUPLE_IP | NESTED, &ip.concat()),
        attribute(CTA_TUPLE_PROTO | NESTED, &proto),
    ];
    let body = attribute(CTA_TUPLE_ORIG | NESTED, &parts.concat());
    let len = u32::try_from(HEADERS + body.len()).unwrap_or_default();
    let flags = u16::try_from(libc::NLM_F_REQUEST).unwrap_or_default();
    let mut request = len.to_ne_bytes().to_vec();
    request.extend(MESSAGE_GET.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Sequence number and port; then family, version, resource.
    request.extend([0; 8]);
    request.extend([u8::try_from(family).unwrap_or_default(), 0, 0, 0]);
    request.extend(body);
    request
}

fn icmp_attribute(proto: u8) -> u16 {
    if proto == ICMP {
        CTA_PROTO_ICMP_ID
    } else {
        CTA_PROTO_ICMPV6_ID
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// A netlink attribute, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or_default();
    let mut attribute = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The connection in the kernel's answer; `None` where it knows none.
fn parse(answer: &[u8]) -> io::Result<Option<Entry>> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "an answer without a connection");
    let kind = answer.get(4..).and_then(|rest| rest.first_chunk());
    let kind = u16::from_ne_bytes(*kind.ok_or_else(broken)?);
    if i32::from(kind) == libc::NLMSG_ERROR {
        let error = answer.get(16..).and_then(|rest| rest.first_chunk());
        let error = i32::from_ne_bytes(*error.ok_or_else(broken)?).saturating_neg();
        return match error {
            libc::ENOENT => Ok(None),
            error => Err(io::Error::from_raw_os_error(error)),
        };
    }
    if kind != MESSAGE_NEW {
        return Err(broken());
    }
    let body = answer.get(HEADERS..).unwrap_or_default();
    let original = tuple(inner(body, CTA_TUPLE_ORIG).ok_or_else(broken)?).ok_or_else(broken)?;
    let tcp = inner(body, CTA_PROTOINFO).and_then(|info| inner(info, CTA_PROTOINFO_TCP));
    let state = tcp.and_then(|tcp| inner(tcp, CTA_PROTOINFO_TCP_STATE)?.first());
    Ok(Some(Entry {
        original,
        tcp_state: state.copied(),
    }))
}

fn tuple(attributes: &[u8]) -> Option<Tuple> {
    let ip = inner(attributes, CTA_TUPLE_IP)?;
    let proto = inner(attributes, CTA_TUPLE_PROTO)?;
    let v4 = |kind| {
        inner(ip, kind)?
            .try_into()
            .ok()
            .map(|bytes: [u8; 4]| Ipv4Addr::from(bytes))
    };
    let v6 = |kind| {
        inner(ip, kind)?
            .try_into()
            .ok()
            .map(|bytes: [u8; 16]| Ipv6Addr::from(bytes))
    };
    let (src, dst) = match (v4(CTA_IP_V4_SRC), v4(CTA_IP_V4_DST)) {
        (Some(src), Some(dst)) => (src.into(), dst.into()),
        _ => (v6(CTA_IP_V6_SRC)?.into(), v6(CTA_IP_V6_DST)?.into()),
    };
    let number = *inner(proto, CTA_PROTO_NUM)?.first()?;
    let two = |kind| inner(proto, kind)?.try_into().ok();
    let one = |kind| inner(proto, kind)?.first().copied();
    let first = icmp_attribute(number);
    let ends = match (two(CTA_PROTO_SRC_PORT), two(CTA_PROTO_DST_PORT)) {
        (Some(src), Some(dst)) => Ends::of(number, src, dst),
        _ => match (two(first), one(first + 1), one(first + 2)) {
            (Some(id), Some(kind), Some(code)) => Ends::of(number, id, [kind, code]),
            _ => Ends::None,
        },
    };
    Some(Tuple {
        proto: number,
        src,
        dst,
        ends,
    })
}

/// The value of the first attribute of that kind.
fn inner(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let (len, kind) = (rest.first_chunk()?, rest.get(2..)?.first_chunk()?);
        let len = usize::from(u16::from_ne_bytes(*len)).max(4);
        if u16::from_ne_bytes(*kind) & !NESTED == wanted {
            return rest.get(4..len);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(ends: Ends, proto: u8) -> Tuple {
        Tuple {
            proto,
            src: Ipv4Addr::new(10, 0, 0, 2).into(),
            dst: Ipv4Addr::new(10, 0, 0, 5).into(),
            ends,
        }
    }

    /// An answer with the tuple of a request, and more attributes.
    fn answer(request: &[u8], more: &[u8]) -> Vec<u8> {
        let mut answer = [request, more].concat();
        answer[4..6].copy_from_slice(&MESSAGE_NEW.to_ne_bytes());
        answer
    }

    #[test]
    fn what_was_asked_for_comes_back() {
        let icmp = Ends::Icmp {
            id: 7,
            kind: 8,
            code: 0,
        };
        for tuple in [flow(Ends::Ports(40000, 443), 6), flow(icmp, 1)] {
            let found = parse(&answer(&request(&tuple), &[])).unwrap().unwrap();
            assert_eq!((found.original, found.tcp_state), (tuple, None));
        }
        let tuple = Tuple {
            src: Ipv6Addr::LOCALHOST.into(),
            dst: Ipv6Addr::LOCALHOST.into(),
            ..flow(Ends::Ports(1, 2), 17)
        };
        let found = parse(&answer(&request(&tuple), &[])).unwrap().unwrap();
        assert_eq!(found.original, tuple);
    }

    #[test]
    fn the_state_of_a_tcp_connection_is_read() {
        let state = attribute(CTA_PROTOINFO_TCP_STATE, &[3]);
        let tcp = attribute(CTA_PROTOINFO_TCP | NESTED, &state);
        let info = attribute(CTA_PROTOINFO | NESTED, &tcp);
        let request = request(&flow(Ends::Ports(40000, 443), 6));
        let found = parse(&answer(&request, &info)).unwrap().unwrap();
        assert_eq!(
            found.tcp_state.and_then(tcp_state_name),
            Some("ESTABLISHED")
        );
        assert_eq!(tcp_state_name(200), None);
    }

    #[test]
    fn an_unknown_connection_is_none_and_a_refusal_an_error() {
        let error = |number: i32| {
            let mut message = vec![0_u8; 36];
            message[4] = 2;
            message[16..20].copy_from_slice(&(-number).to_ne_bytes());
            parse(&message)
        };
        assert_eq!(error(libc::ENOENT).unwrap(), None);
        assert!(error(libc::EPERM).is_err());
    }

    #[test]
    fn broken_answers_are_errors() {
        let whole = answer(&request(&flow(Ends::Ports(40000, 443), 6)), &[]);
        for len in 0..whole.len() - 8 {
            assert!(parse(&whole[..len]).is_err(), "{len}");
        }
        let mut broken = whole;
        broken[20..24].copy_from_slice(&[0, 0, 9, 0]);
        assert!(parse(&broken).is_err());
    }
}
