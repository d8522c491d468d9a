//! Which packets a [`Filter`]'s addresses, ports and protocols select: one
//! answer for both sides of the fence.
//!
//! Written for the verifier: one bounded loop that ends at the first empty
//! rule, no indexing that could panic, and hardly a branch in a turn of the
//! loop, so that the paths through one turn meet again before the next.

#![expect(
    clippy::inline_always,
    reason = "a call in a kernel program takes five registers at most"
)]

use crate::{
    EndpointRule, FILTER_RULES, Filter, IFNAME_LEN, IfName, ROLE_DST, ROLE_HOST, ROLE_PORT,
    ROLE_SRC, TUPLE_ICMP, TUPLE_PORTS, Tuple,
};

impl EndpointRule {
    /// Ends a list.
    pub const NONE: Self = Self {
        addr: [0; 2],
        mask: [0; 2],
        port_first: 0,
        port_last: 0,
        family: 0,
        role: 0,
        pad: [0; 2],
    };

    /// An address of a [`Tuple`] in the form of [`EndpointRule::addr`].
    #[must_use]
    #[inline(always)]
    pub fn halves(addr: [u8; 16]) -> [u64; 2] {
        let half = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes));
        [half(addr.first_chunk()), half(addr.last_chunk())]
    }

    /// The rule's role if it matches this endpoint of a packet of this family,
    /// else 0. All in arithmetic: a branch for every part of the answer would
    /// be as many paths for the verifier, times the rules.
    #[inline(always)]
    fn role_for(&self, family: u8, addr: [u64; 2], port: Port) -> u8 {
        // A rule for any address has zeros in `addr` and `mask`, and a factor
        // of zero for the family.
        let other_addr =
            ((addr[0] & self.mask[0]) ^ self.addr[0]) | ((addr[1] & self.mask[1]) ^ self.addr[1]);
        let other_family = u64::from(self.family) * u64::from(self.family ^ family);
        // The highest bit is set where the port is below the first or above the
        // last; a factor of zero for a rule for any port.
        let (first, last) = (u64::from(self.port_first), u64::from(self.port_last));
        let outside = (port.number.wrapping_sub(first) | last.wrapping_sub(port.number)) >> 63;
        let other_port = outside * last * port.counts;
        let differs = other_addr | other_family | other_port;
        if differs == 0 { self.role } else { 0 }
    }
}

/// The port of one endpoint of a packet.
#[derive(Clone, Copy)]
struct Port {
    /// [`Port::NONE`] where its protocol has none.
    number: u64,
    /// 0 where it has one, out of reach (a later fragment, or a header cut
    /// short), else 1.
    counts: u64,
}

impl Port {
    /// Outside every range.
    const NONE: u64 = 1 << 16;
}

impl Filter {
    /// Selects everything.
    pub const ALL: Self = Self {
        endpoints: [EndpointRule::NONE; FILTER_RULES],
        ifnames: [IfName([0; IFNAME_LEN]); FILTER_RULES],
        ifindexes: [0; FILTER_RULES],
        netns: [0; FILTER_RULES],
        protos: [0; 4],
        roles: 0,
        pad: [0; 3],
        ifnetns: 0,
    };

    /// Whether `--src`, `--dst`, `--host`, `--port` and `--proto` select a packet
    /// with this tuple.
    ///
    /// Rules of one flag are alternatives; each flag that is given has to match.
    /// A conversation is selected in both directions: a packet matches if, read
    /// as it is *or* with source and destination exchanged, its source matches a
    /// [`ROLE_SRC`] rule and its destination a [`ROLE_DST`] rule (each if there
    /// is one). [`ROLE_HOST`] and [`ROLE_PORT`] rules each need one endpoint to
    /// match, whichever; not necessarily the same one for both.
    ///
    /// Ports: a rule's ports count if the packet's are known. Where its protocol
    /// has ports that could not be read (a later fragment), they are taken to
    /// match: a record too many is better than a missing one. A packet without
    /// ports, ICMP among them, matches no rule with ports. An ICMP error is
    /// therefore to be asked about twice: for itself and for the flow it is about.
    ///
    /// A tuple without a family (nothing was decoded) is selected only if the
    /// filter asks for no address, port or protocol at all.
    #[must_use]
    #[inline(always)]
    pub fn selects(&self, tuple: &Tuple) -> bool {
        let by_proto = self.protos[0] | self.protos[1] | self.protos[2] | self.protos[3] != 0;
        if self.roles == 0 && !by_proto {
            return true;
        }
        if tuple.family == 0 || (by_proto && !self.selects_proto(tuple.proto)) {
            return false;
        }
        self.roles == 0 || self.selects_endpoints(tuple)
    }

    /// As [`Filter::selects`], but ports and protocols do not matter.
    #[must_use]
    #[inline(always)]
    pub fn selects_addresses(&self, tuple: &Tuple) -> bool {
        let any = Port {
            number: Port::NONE,
            counts: 0,
        };
        tuple.family != 0 && self.selects_ends(tuple, any, any)
    }

    #[inline(always)]
    fn selects_proto(&self, proto: u8) -> bool {
        let [low, middle, high, top] = self.protos;
        let word = match proto >> 6 {
            0 => low,
            1 => middle,
            2 => high,
            _ => top,
        };
        word >> (proto & 63) & 1 != 0
    }

    #[inline(always)]
    fn selects_endpoints(&self, tuple: &Tuple) -> bool {
        let (src_port, dst_port) = ports(tuple);
        self.selects_ends(tuple, src_port, dst_port)
    }

    #[inline(always)]
    fn selects_ends(&self, tuple: &Tuple, src_port: Port, dst_port: Port) -> bool {
        let (src, dst) = (
            EndpointRule::halves(tuple.src),
            EndpointRule::halves(tuple.dst),
        );
        // Roles that no rule has matched yet at this endpoint.
        let mut src_unmet = self.roles;
        let mut dst_unmet = self.roles;
        for rule in &self.endpoints {
            if rule.role == 0 {
                break;
            }
            src_unmet &= !rule.role_for(tuple.family, src, src_port);
            dst_unmet &= !rule.role_for(tuple.family, dst, dst_port);
        }
        let there = src_unmet & ROLE_SRC | dst_unmet & ROLE_DST;
        let back = dst_unmet & ROLE_SRC | src_unmet & ROLE_DST;
        let either = src_unmet & dst_unmet & (ROLE_HOST | ROLE_PORT);
        (there == 0 || back == 0) && either == 0
    }
}

/// Ports of source and destination.
#[inline(always)]
fn ports(tuple: &Tuple) -> (Port, Port) {
    let is_icmp = tuple.flags & TUPLE_ICMP != 0;
    let is_known = tuple.flags & TUPLE_PORTS != 0;
    let counts = u64::from(is_icmp || is_known || !has_ports(tuple.proto));
    let port = |known: u16| Port {
        number: if is_known {
            u64::from(known)
        } else {
            Port::NONE
        },
        counts,
    };
    (port(tuple.src_port), port(tuple.dst_port))
}

/// TCP, UDP, DCCP, SCTP and UDP-Lite have ports; behind an IPv6 extension header
/// (hop-by-hop, routing, fragment, destination options) there may be any.
#[inline(always)]
fn has_ports(proto: u8) -> bool {
    matches!(proto, 6 | 17 | 33 | 132 | 136 | 0 | 43 | 44 | 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TUPLE_FRAGMENT;

    const CLIENT: [u8; 4] = [10, 0, 0, 2];
    const SERVER: [u8; 4] = [10, 0, 0, 5];
    const OTHER: [u8; 4] = [192, 0, 2, 9];

    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const ICMP: u8 = 1;
    const ESP: u8 = 50;

    fn packet(src: [u8; 4], src_port: u16, dst: [u8; 4], dst_port: u16) -> Tuple {
        let mut tuple = Tuple {
            src_port,
            dst_port,
            ..Tuple::NONE
        };
        tuple.src[..4].copy_from_slice(&src);
        tuple.dst[..4].copy_from_slice(&dst);
        Tuple {
            family: 4,
            proto: TCP,
            flags: TUPLE_PORTS,
            ..tuple
        }
    }

    fn with(tuple: Tuple, proto: u8, flags: u8) -> Tuple {
        Tuple {
            proto,
            flags,
            ..tuple
        }
    }

    fn back(tuple: Tuple) -> Tuple {
        Tuple {
            src: tuple.dst,
            dst: tuple.src,
            src_port: tuple.dst_port,
            dst_port: tuple.src_port,
            ..tuple
        }
    }

    fn rule(role: u8, addr: [u8; 4], prefix: u32, ports: (u16, u16)) -> EndpointRule {
        let mask = u64::from(u32::MAX.checked_shl(32 - prefix).unwrap_or(0)) << 32;
        EndpointRule {
            addr: [u64::from(u32::from_be_bytes(addr)) << 32 & mask, 0],
            mask: [mask, 0],
            port_first: ports.0,
            port_last: ports.1,
            family: 4,
            role,
            pad: [0; 2],
        }
    }

    fn host(role: u8, addr: [u8; 4]) -> EndpointRule {
        rule(role, addr, 32, (0, 0))
    }

    fn port(role: u8, first: u16, last: u16) -> EndpointRule {
        EndpointRule {
            port_first: first,
            port_last: last,
            role,
            ..EndpointRule::NONE
        }
    }

    fn of_rules(rules: &[EndpointRule]) -> Filter {
        let mut filter = Filter::ALL;
        for (to, rule) in filter.endpoints.iter_mut().zip(rules) {
            *to = *rule;
            filter.roles |= rule.role;
        }
        filter
    }

    /// The packet and its answer are selected alike.
    fn both(filter: &Filter, tuple: Tuple) -> bool {
        let selected = filter.selects(&tuple);
        assert_eq!(filter.selects(&back(tuple)), selected, "only one direction");
        selected
    }

    #[test]
    fn nothing_asked_for_selects_everything() {
        assert!(Filter::ALL.selects(&packet(CLIENT, 1, SERVER, 2)));
        assert!(Filter::ALL.selects(&Tuple::NONE));
    }

    #[test]
    fn a_destination_selects_both_directions_but_not_the_other_role() {
        let filter = of_rules(&[rule(ROLE_DST, SERVER, 32, (443, 443))]);
        assert!(both(&filter, packet(CLIENT, 53412, SERVER, 443)));
        assert!(!both(&filter, packet(CLIENT, 53412, SERVER, 80)));
        assert!(!both(&filter, packet(CLIENT, 443, SERVER, 53412)));
        assert!(!both(&filter, packet(CLIENT, 53412, OTHER, 443)));
    }

    #[test]
    fn source_and_destination_have_to_match_in_one_orientation() {
        let filter = of_rules(&[
            rule(ROLE_SRC, CLIENT, 32, (1000, 2000)),
            rule(ROLE_DST, SERVER, 32, (443, 443)),
        ]);
        assert!(both(&filter, packet(CLIENT, 1000, SERVER, 443)));
        assert!(both(&filter, packet(CLIENT, 2000, SERVER, 443)));
        assert!(!both(&filter, packet(CLIENT, 2001, SERVER, 443)));
        assert!(!both(&filter, packet(CLIENT, 999, SERVER, 443)));
        assert!(!both(&filter, packet(SERVER, 1000, CLIENT, 443)));
        assert!(!both(&filter, packet(CLIENT, 1000, OTHER, 443)));
    }

    /// Both roles on one side do not add up to a conversation.
    #[test]
    fn one_endpoint_does_not_stand_in_for_two() {
        let filter = of_rules(&[host(ROLE_SRC, CLIENT), host(ROLE_DST, CLIENT)]);
        assert!(!both(&filter, packet(CLIENT, 1, SERVER, 2)));
        assert!(both(&filter, packet(CLIENT, 1, CLIENT, 2)));
    }

    #[test]
    fn rules_of_one_flag_are_alternatives() {
        let filter = of_rules(&[host(ROLE_DST, SERVER), host(ROLE_DST, OTHER)]);
        assert!(both(&filter, packet(CLIENT, 1, SERVER, 2)));
        assert!(both(&filter, packet(CLIENT, 1, OTHER, 2)));
        assert!(!both(&filter, packet(CLIENT, 1, CLIENT, 2)));
    }

    #[test]
    fn hosts_and_ports_are_both_required_at_either_end() {
        let filter = of_rules(&[host(ROLE_HOST, SERVER), port(ROLE_PORT, 443, 445)]);
        assert!(both(&filter, packet(CLIENT, 9, SERVER, 443)));
        assert!(both(&filter, packet(CLIENT, 445, SERVER, 9)));
        assert!(!both(&filter, packet(CLIENT, 9, SERVER, 446)));
        assert!(!both(&filter, packet(CLIENT, 9, OTHER, 443)));
    }

    #[test]
    fn a_network_is_matched_under_its_mask() {
        let filter = of_rules(&[rule(ROLE_HOST, [10, 0, 0, 0], 8, (0, 0))]);
        assert!(both(&filter, packet([10, 255, 1, 2], 1, OTHER, 2)));
        assert!(!both(&filter, packet([11, 0, 0, 0], 1, OTHER, 2)));
        let any_ipv4 = of_rules(&[rule(ROLE_HOST, [0; 4], 0, (0, 0))]);
        assert!(both(&any_ipv4, packet(CLIENT, 1, OTHER, 2)));
        assert!(!both(
            &any_ipv4,
            Tuple {
                family: 6,
                ..packet(CLIENT, 1, OTHER, 2)
            }
        ));
    }

    #[test]
    fn an_ipv6_address_is_matched_in_both_halves() {
        let mut address = [0; 16];
        (address[0], address[15]) = (0xfd, 5);
        let rule = EndpointRule {
            addr: EndpointRule::halves(address),
            mask: [u64::MAX; 2],
            family: 6,
            role: ROLE_DST,
            ..EndpointRule::NONE
        };
        let tuple = |dst: [u8; 16]| Tuple {
            dst,
            family: 6,
            proto: TCP,
            ..Tuple::NONE
        };
        assert!(both(&of_rules(&[rule]), tuple(address)));
        for changed in [0, 7, 8, 15] {
            let mut other = address;
            other[changed] ^= 0x10;
            assert!(!both(&of_rules(&[rule]), tuple(other)), "byte {changed}");
        }
        assert!(!both(
            &of_rules(&[rule]),
            Tuple {
                family: 4,
                ..tuple(address)
            }
        ));
    }

    #[test]
    fn hidden_ports_are_taken_to_match_and_missing_ones_are_not() {
        let later_fragment = with(packet(CLIENT, 0, SERVER, 0), UDP, TUPLE_FRAGMENT);
        let cut_short = with(packet(CLIENT, 0, SERVER, 0), TCP, 0);
        let encrypted = with(packet(CLIENT, 0, SERVER, 0), ESP, 0);
        let ping = with(packet(CLIENT, 8, SERVER, 0), ICMP, TUPLE_ICMP);
        let ping_fragment = with(packet(CLIENT, 0, SERVER, 0), ICMP, TUPLE_FRAGMENT);
        for ports in [
            of_rules(&[rule(ROLE_DST, SERVER, 32, (8, 443))]),
            of_rules(&[port(ROLE_PORT, 8, 443)]),
        ] {
            assert!(both(&ports, later_fragment));
            assert!(both(&ports, cut_short));
            assert!(!both(&ports, encrypted));
            assert!(!both(&ports, ping));
            assert!(!both(&ports, ping_fragment));
        }
        let address = of_rules(&[host(ROLE_DST, SERVER)]);
        for tuple in [later_fragment, cut_short, encrypted, ping, ping_fragment] {
            assert!(both(&address, tuple));
        }
        let elsewhere = of_rules(&[rule(ROLE_DST, OTHER, 32, (8, 443))]);
        assert!(!both(&elsewhere, later_fragment));
    }

    #[test]
    fn the_first_fragment_is_matched_by_its_ports() {
        let filter = of_rules(&[port(ROLE_PORT, 53, 53)]);
        let first = with(
            packet(CLIENT, 53, SERVER, 9),
            UDP,
            TUPLE_PORTS | TUPLE_FRAGMENT,
        );
        assert!(both(&filter, first));
        assert!(!both(
            &filter,
            Tuple {
                src_port: 54,
                ..first
            }
        ));
    }

    #[test]
    fn every_protocol_number_has_its_own_bit() {
        for wanted in 0..=u8::MAX {
            let mut filter = Filter::ALL;
            filter.protos[usize::from(wanted / 64)] = 1 << (wanted % 64);
            for proto in 0..=u8::MAX {
                let tuple = with(packet(CLIENT, 1, SERVER, 2), proto, 0);
                assert_eq!(
                    filter.selects(&tuple),
                    proto == wanted,
                    "{proto} by {wanted}"
                );
            }
        }
    }

    #[test]
    fn a_protocol_is_required_beside_an_endpoint() {
        let mut filter = of_rules(&[host(ROLE_DST, SERVER)]);
        filter.protos[0] = 1 << UDP;
        assert!(!both(&filter, packet(CLIENT, 1, SERVER, 2)));
        assert!(both(
            &filter,
            with(packet(CLIENT, 1, SERVER, 2), UDP, TUPLE_PORTS)
        ));
        assert!(!both(
            &filter,
            with(packet(CLIENT, 1, OTHER, 2), UDP, TUPLE_PORTS)
        ));
    }

    #[test]
    fn an_undecoded_packet_is_not_selected_by_what_it_may_have_been() {
        assert!(!of_rules(&[port(ROLE_PORT, 1, u16::MAX)]).selects(&Tuple::NONE));
        assert!(!of_rules(&[rule(ROLE_HOST, [0; 4], 0, (0, 0))]).selects(&Tuple::NONE));
        let mut by_proto = Filter::ALL;
        by_proto.protos[0] = 1;
        assert!(!by_proto.selects(&Tuple::NONE));
    }

    #[test]
    fn the_last_of_a_full_list_counts_and_what_follows_an_empty_rule_does_not() {
        let mut rules = [host(ROLE_DST, OTHER); FILTER_RULES];
        rules[FILTER_RULES - 1] = host(ROLE_DST, SERVER);
        assert!(both(&of_rules(&rules), packet(CLIENT, 1, SERVER, 2)));
        let mut cut = of_rules(&rules);
        cut.endpoints[3] = EndpointRule::NONE;
        assert!(!both(&cut, packet(CLIENT, 1, SERVER, 2)));
    }
}
