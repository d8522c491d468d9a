//! Names of IP protocols on the command line.

use super::{FilterError, Problem};

/// The protocols one meets, by the names of `/etc/protocols`; all others have
/// their number. Compiled in, so that the same words mean the same everywhere.
const NAMES: [(&str, u8); 19] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

/// The number of the protocol with this name or number.
pub(super) fn number(text: &str) -> Result<u8, FilterError> {
    let by_name = NAMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    by_name
        .map(|(_, number)| *number)
        .or_else(|| super::endpoint::decimal(text)?.try_into().ok())
        .ok_or_else(|| {
            let problem = Problem::Proto(super::error::visible(text));
            FilterError::value("--proto", text, problem, "tcp")
        })
}
