//! From a key to the flow of a record.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use droptrace_types::{
    Decode, Direction as Way, Key, TUPLE_FRAGMENT, TUPLE_ICMP, TUPLE_PORTS, Tuple,
};

use crate::event::{Direction, Family, Flow, Icmp, Undecoded, UndecodedCause};

/// Protocols that have a name in records; others go by number.
const PROTOCOLS: [(u8, &str); 5] = [
    (1, "icmp"),
    (6, "tcp"),
    (17, "udp"),
    (58, "icmpv6"),
    (132, "sctp"),
];

/// The packet's flow; `None` where the key has none.
pub fn of(key: &Key) -> Option<Flow> {
    let mut flow = from_tuple(&key.flow)?;
    flow.direction = match Way::from_u8(key.cause.direction) {
        Way::In => Some(Direction::In),
        Way::Out => Some(Direction::Out),
        Way::Forward => Some(Direction::Forward),
        Way::Local => Some(Direction::Local),
        Way::Unknown => None,
    };
    flow.vlan = key.vlan.checked_sub(1);
    flow.about = from_tuple(&key.about).map(Box::new);
    Some(flow)
}

fn from_tuple(tuple: &Tuple) -> Option<Flow> {
    let (src, dst) = addresses(tuple)?;
    let family = if src.is_ipv4() {
        Family::Ipv4
    } else {
        Family::Ipv6
    };
    let has = |flag| tuple.flags & flag != 0;
    let port = |port| has(TUPLE_PORTS).then_some(port);
    Some(Flow {
        family,
        proto: protocol(tuple.proto),
        src,
        sport: port(tuple.src_port),
        dst,
        dport: port(tuple.dst_port),
        direction: None,
        vlan: None,
        fragment: has(TUPLE_FRAGMENT),
        icmp: has(TUPLE_ICMP).then_some(Icmp {
            r#type: low_byte(tuple.src_port),
            code: low_byte(tuple.dst_port),
        }),
        about: None,
    })
}

/// Source and destination; `None` where there is no tuple.
pub fn addresses(tuple: &Tuple) -> Option<(IpAddr, IpAddr)> {
    match tuple.family {
        4 => Some((v4(&tuple.src), v4(&tuple.dst))),
        6 => Some((v6(&tuple.src), v6(&tuple.dst))),
        _ => None,
    }
}

fn low_byte(word: u16) -> u8 {
    word.to_le_bytes()[0]
}

/// The name of an IP protocol, or its number.
pub fn protocol(number: u8) -> String {
    let named = PROTOCOLS.iter().find(|(known, _)| *known == number);
    named.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

fn v4(bytes: &[u8; 16]) -> IpAddr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()
}

fn v6(bytes: &[u8; 16]) -> IpAddr {
    Ipv6Addr::from(*bytes).into()
}

/// Why the packet has no flow; `None` where it has one.
pub fn undecoded(key: &Key) -> Option<Undecoded> {
    if key.flow.family != 0 {
        return None;
    }
    let why = match Decode::from_u8(key.cause.decode) {
        Decode::NotIp => UndecodedCause::NotIp,
        Decode::Paged => UndecodedCause::Paged,
        Decode::BadHeaders => UndecodedCause::BadHeaders,
        Decode::Message => UndecodedCause::Message,
        Decode::NoHeaders | Decode::Headers | Decode::Socket => UndecodedCause::NoHeaders,
    };
    Some(Undecoded {
        why,
        ethertype: (key.ethertype != 0).then(|| format!("{:#06x}", key.ethertype)),
        socket: socket_family(key.cause.socket_family),
    })
}

fn socket_family(family: u8) -> Option<String> {
    let name = match i32::from(family) {
        0 => return None,
        libc::AF_UNIX => "unix",
        libc::AF_INET => "inet",
        libc::AF_INET6 => "inet6",
        libc::AF_NETLINK => "netlink",
        libc::AF_PACKET => "packet",
        libc::AF_VSOCK => "vsock",
        libc::AF_BLUETOOTH => "bluetooth",
        libc::AF_CAN => "can",
        _ => return Some(family.to_string()),
    };
    Some(name.to_owned())
}
