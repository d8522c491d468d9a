//! What ICMP types and codes are called.

use crate::event::{Family, Icmp};

/// The usual name of an ICMP message; `None` for rarer ones.
pub(super) fn name(family: Family, icmp: Icmp) -> Option<&'static str> {
    match family {
        Family::Ipv4 => name_v4(icmp),
        Family::Ipv6 => name_v6(icmp),
    }
}

fn name_v4(icmp: Icmp) -> Option<&'static str> {
    Some(match (icmp.r#type, icmp.code) {
        (0, _) => "echo reply",
        (3, 0) => "net unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 4) => "fragmentation needed",
        (3, 9 | 10 | 13) => "prohibited",
        (3, _) => "unreachable",
        (5, _) => "redirect",
        (8, _) => "echo request",
        (9, _) => "router advertisement",
        (10, _) => "router solicitation",
        (11, 0) => "time to live exceeded",
        (11, 1) => "reassembly time exceeded",
        (12, _) => "parameter problem",
        (13, _) => "timestamp request",
        (14, _) => "timestamp reply",
        _ => return None,
    })
}

fn name_v6(icmp: Icmp) -> Option<&'static str> {
    Some(match (icmp.r#type, icmp.code) {
        (1, 0) => "no route",
        (1, 1 | 5 | 6) => "prohibited",
        (1, 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (1, _) => "unreachable",
        (2, _) => "packet too big",
        (3, 0) => "hop limit exceeded",
        (3, 1) => "reassembly time exceeded",
        (4, _) => "parameter problem",
        (128, _) => "echo request",
        (129, _) => "echo reply",
        (130, _) => "multicast listener query",
        (131 | 143, _) => "multicast listener report",
        (132, _) => "multicast listener done",
        (133, _) => "router solicitation",
        (134, _) => "router advertisement",
        (135, _) => "neighbour solicitation",
        (136, _) => "neighbour advertisement",
        (137, _) => "redirect",
        _ => return None,
    })
}
