//! What the table says by which packets are traced: the packet filter in the
//! words of nftables.
//!
//! A packet comes first of all to a base chain, and goes on from one chain to
//! the next as long as it fits: one chain for each kind of flag, one rule in it
//! for each alternative. At the end of the way its trace is switched on.
//!
//! ```text
//! prerouting ─┬─▶ source there ─▶ destination there ─┬─▶ host ─▶ port ─▶ protocol ─▶ trace
//! output ─────┴─▶ source back ──▶ destination back ──┘
//! ```

use droptrace_types::{EndpointRule, Filter, ROLE_DST, ROLE_HOST, ROLE_PORT, ROLE_SRC};

/// Protocols that have ports.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// A chain.
#[derive(Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Its rules, in their order.
    pub rules: Vec<Rule>,
}

/// A rule: if all of it fits, then.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// What is done then.
    pub then: Then,
}

/// An end of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where it is from.
    Src,
    /// Where it goes.
    Dst,
}

/// Something that a packet is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// IP version 4 or 6.
    Version(u8),
    /// An address under a mask; of version 4 the first four bytes.
    Address {
        side: Side,
        version: u8,
        address: [u8; 16],
        mask: [u8; 16],
    },
    /// A port from a range.
    Port { side: Side, first: u16, last: u16 },
    /// A transport protocol.
    Protocol(u8),
}

/// What is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes to that chain, and comes back.
    Jump(&'static str),
    /// It goes to that chain, and not on in this one.
    Goto(&'static str),
    /// Its trace is switched on.
    Trace,
}

/// The base chains.
pub const BASE: [&str; 2] = ["prerouting", "output"];

/// The chains by which the packets of this filter are traced, each behind those
/// that its rules name; the base chains come last.
pub fn chains(filter: &Filter) -> Vec<Chain> {
    let traced = Rule {
        matches: Vec::new(),
        then: Then::Trace,
    };
    let mut chains = vec![Chain {
        name: "trace",
        rules: vec![traced],
    }];
    let protocols: Vec<u8> = (0..=u8::MAX)
        .filter(|number| filter.protos[usize::from(number / 64)] >> (number % 64) & 1 == 1)
        .collect();
    if !protocols.is_empty() {
        let of = |protocol: &u8| vec![Match::Protocol(*protocol)];
        add(&mut chains, "protocol", protocols.iter().map(of).collect());
    }
    let with_ports: Vec<u8> = WITH_PORTS
        .into_iter()
        .filter(|protocol| protocols.is_empty() || protocols.contains(protocol))
        .collect();
    let fits = |role: u8, sides: &[Side]| -> Vec<Vec<Match>> {
        let rules = filter.endpoints.iter().filter(|rule| rule.role == role);
        let at = |rule| sides.iter().map(move |side| (rule, *side));
        rules
            .flat_map(at)
            .flat_map(|(rule, side)| endpoint(rule, side, &with_ports))
            .collect()
    };
    for (role, name) in [(ROLE_PORT, "port"), (ROLE_HOST, "host")] {
        if filter.roles & role != 0 {
            add(&mut chains, name, fits(role, &[Side::Src, Side::Dst]));
        }
    }
    let mut begins = vec![chains[chains.len() - 1].name];
    if filter.roles & (ROLE_SRC | ROLE_DST) != 0 {
        let next = begins.remove(0);
        for (src, dst, names) in [
            (Side::Src, Side::Dst, ["source-there", "destination-there"]),
            (Side::Dst, Side::Src, ["source-back", "destination-back"]),
        ] {
            let mut next = next;
            for (role, side, name) in [(ROLE_DST, dst, names[1]), (ROLE_SRC, src, names[0])] {
                if filter.roles & role != 0 {
                    chains.push(alternatives(name, fits(role, &[side]), next));
                    next = name;
                }
            }
            begins.push(next);
        }
    }
    for name in BASE {
        let jump = |begin: &&'static str| Rule {
            matches: Vec::new(),
            then: Then::Jump(begin),
        };
        let rules = begins.iter().map(jump).collect();
        chains.push(Chain { name, rules });
    }
    chains
}

/// Adds a chain that leads to the last one.
fn add(chains: &mut Vec<Chain>, name: &'static str, fits: Vec<Vec<Match>>) {
    let next = chains[chains.len() - 1].name;
    chains.push(alternatives(name, fits, next));
}

fn alternatives(name: &'static str, fits: Vec<Vec<Match>>, next: &'static str) -> Chain {
    let rule = |matches| Rule {
        matches,
        then: Then::Goto(next),
    };
    Chain {
        name,
        rules: fits.into_iter().map(rule).collect(),
    }
}

/// What a packet is to have at one of its ends; with ports, an alternative for
/// each protocol that has some.
fn endpoint(rule: &EndpointRule, side: Side, with_ports: &[u8]) -> Vec<Vec<Match>> {
    let mut matches = Vec::new();
    if rule.family != 0 {
        matches.push(Match::Version(rule.family));
        if rule.mask != [0; 2] {
            matches.push(Match::Address {
                side,
                version: rule.family,
                address: bytes(rule.addr),
                mask: bytes(rule.mask),
            });
        }
    }
    if (rule.port_first, rule.port_last) == (0, 0) {
        return vec![matches];
    }
    let port = Match::Port {
        side,
        first: rule.port_first,
        last: rule.port_last,
    };
    let of = |protocol: &u8| [&matches[..], &[Match::Protocol(*protocol), port]].concat();
    with_ports.iter().map(of).collect()
}

fn bytes(halves: [u64; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&halves[0].to_be_bytes());
    bytes[8..].copy_from_slice(&halves[1].to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use droptrace_types::{TUPLE_ICMP, TUPLE_PORTS, Tuple};

    use super::*;
    use crate::filter::{self, Selection};

    /// Whether the chains trace a packet, as the kernel would go through them.
    fn traces(chains: &[Chain], name: &str, packet: &Tuple) -> bool {
        let chain = chains.iter().find(|chain| chain.name == name).unwrap();
        for rule in &chain.rules {
            if !rule.matches.iter().all(|wanted| fits(wanted, packet)) {
                continue;
            }
            match rule.then {
                Then::Trace => return true,
                Then::Jump(next) if traces(chains, next, packet) => return true,
                Then::Jump(_) => {}
                Then::Goto(next) => return traces(chains, next, packet),
            }
        }
        false
    }

    fn fits(wanted: &Match, packet: &Tuple) -> bool {
        let has_ports = packet.flags & TUPLE_PORTS != 0;
        match *wanted {
            Match::Version(version) => packet.family == version,
            Match::Protocol(protocol) => packet.proto == protocol,
            Match::Port { side, first, last } => {
                let port = if side == Side::Src {
                    packet.src_port
                } else {
                    packet.dst_port
                };
                assert!(has_ports, "the protocol is to be looked at first");
                (first..=last).contains(&port)
            }
            Match::Address {
                side,
                version,
                address,
                mask,
            } => {
                assert_eq!(
                    version, packet.family,
                    "the version is to be looked at first"
                );
                let is = if side == Side::Src {
                    packet.src
                } else {
                    packet.dst
                };
                let len = if version == 4 { 4 } else { 16 };
                (0..len).all(|i| is[i] & mask[i] == address[i])
            }
        }
    }

    fn packets() -> Vec<Tuple> {
        let addresses = ["10.0.0.2", "10.0.0.5", "192.0.2.9", "fd00::2", "fd00::5"];
        let mut packets = Vec::new();
        for src in addresses {
            for dst in addresses {
                let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
                let mut tuple = Tuple::NONE;
                match (src, dst) {
                    (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) => {
                        tuple.set_v4(src.to_bits().to_be(), dst.to_bits().to_be());
                    }
                    (std::net::IpAddr::V6(src), std::net::IpAddr::V6(dst)) => {
                        (tuple.src, tuple.dst, tuple.family) = (src.octets(), dst.octets(), 6);
                    }
                    _ => continue,
                }
                for (proto, flags) in [
                    (6, TUPLE_PORTS),
                    (17, TUPLE_PORTS),
                    (1, TUPLE_ICMP),
                    (50, 0),
                ] {
                    for (src_port, dst_port) in [(0, 0), (40000, 53), (53, 40000), (8, 443)] {
                        packets.push(Tuple {
                            proto,
                            flags,
                            src_port,
                            dst_port,
                            ..tuple
                        });
                    }
                }
            }
        }
        packets
    }

    /// For each filter the table traces what the filter selects, and nothing else.
    #[test]
    fn what_is_traced_is_what_the_filter_selects() {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for (src, dst, host, port, proto) in [
            ("", "10.0.0.5", "", "", ""),
            ("", "10.0.0.5:53", "", "", ""),
            ("10.0.0.2", "10.0.0.5", "", "", "udp"),
            ("10.0.0.0/24 fd00::2", ":53 fd00::5", "", "", ""),
            ("", "", "10.0.0.5 fd00::/16", "", ""),
            ("", "", "10.0.0.5", "53", "tcp udp"),
            ("", "", "0.0.0.0/0", "", ""),
            ("", "", "", "50-60 443", ""),
            ("", "", "", "", "icmp 50"),
            ("", "10.0.0.5:53", "", "", "icmp"),
        ] {
            let selection = Selection {
                src: words(src),
                dst: words(dst),
                host: words(host),
                port: words(port),
                proto: words(proto),
                ..Selection::default()
            };
            let filter = filter::resolve(&selection).unwrap();
            let chains = chains(&filter);
            let mut selected = 0;
            for packet in packets() {
                let wanted = filter.selects(&packet);
                selected += u32::from(wanted);
                for base in BASE {
                    assert_eq!(
                        traces(&chains, base, &packet),
                        wanted,
                        "{selection:?} {packet:?}"
                    );
                }
            }
            assert!(selected > 0 || proto == "icmp", "{selection:?}");
        }
    }

    #[test]
    fn a_chain_comes_behind_those_that_it_names() {
        let selection = Selection {
            src: vec!["10.0.0.2".to_owned()],
            dst: vec!["10.0.0.5:53".to_owned()],
            host: vec!["10.0.0.0/8".to_owned()],
            port: vec!["53".to_owned()],
            proto: vec!["udp".to_owned()],
            ..Selection::default()
        };
        let chains = chains(&filter::resolve(&selection).unwrap());
        assert_eq!(chains.len(), 10);
        for (i, chain) in chains.iter().enumerate() {
            for rule in &chain.rules {
                if let Then::Jump(name) | Then::Goto(name) = rule.then {
                    assert!(chains[..i].iter().any(|chain| chain.name == name), "{name}");
                }
            }
        }
    }
}
