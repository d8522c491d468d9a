//! Which of the drops that were told may be those that were counted.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use droptrace_types::{Detail, Key, Sign};

use super::{
    heard::{Drop, Heard, Place},
    packet::{Ends, Flow},
};

/// A packet is freed so long after its message at most.
const ON_THE_WAY: Duration = Duration::from_millis(100);
/// Drops between two ends of which no more is certain; of more, none is looked at.
const MAX_UNSURE: usize = 256;
/// Where not all was told, nothing is named for so many intervals: what was lost may
/// have been about the next one.
const DOUBTS: u8 = 2;

/// What was told in one namespace.
#[derive(Debug, Default)]
pub struct Told {
    /// As it came.
    pub heard: Heard,
    /// So many drops at the beginning were told before the last counts were taken
    /// away.
    old: usize,
    /// Intervals for which nothing is named.
    doubts: u8,
    index: Index,
}

/// Finds drops.
#[derive(Debug, Default)]
struct Index {
    /// Places in the list of drops.
    by_flow: HashMap<Flow, Vec<usize>>,
    /// The same of those whose flow is not certain.
    by_ends: HashMap<Ends, Vec<usize>>,
    /// There is one of which nothing is certain.
    has_unknown: bool,
    /// How many packets were counted that were traced.
    packets: HashMap<Flow, u64>,
}

impl Told {
    /// Counts were taken away; everything was heard that was told before. False
    /// if some of it could not be kept or understood.
    pub fn counted(&mut self) -> bool {
        let is_whole = !std::mem::take(&mut self.heard.is_incomplete);
        if !is_whole {
            self.doubts = DOUBTS;
        }
        self.index = Index::default();
        for (place, drop) in self.heard.drops.iter().enumerate() {
            if let Some(flow) = drop.packet.flow() {
                self.index.by_flow.entry(flow).or_default().push(place);
            } else if let Some(ends) = drop.packet.ends() {
                self.index.by_ends.entry(ends).or_default().push(place);
            } else {
                self.index.has_unknown = true;
            }
        }
        is_whole
    }

    /// Among the counts were these packets.
    pub fn add_packets(&mut self, key: &Key, packets: u64) {
        if let Some(flow) = traced_flow(key) {
            *self.index.packets.entry(flow).or_default() += packets;
        }
    }

    /// Forgets what was about counts that were taken away at that moment.
    pub fn forget(&mut self, counted: Instant) {
        self.doubts = self.doubts.saturating_sub(1);
        self.index = Index::default();
        let is_over = |heard: Instant| heard + ON_THE_WAY < counted;
        self.heard.drops.retain(|drop| !is_over(drop.heard));
        let drops = &self.heard.drops;
        self.old = drops.partition_point(|drop| drop.heard < counted);
    }

    /// The rule that all drops with the headers of this packet name. Its transport
    /// header begins at `transport`, if it has one.
    pub fn of_packet(&self, detail: &Detail, transport: Option<usize>) -> Option<&Place> {
        let drops = self.drops_of(&detail.key)?;
        only(drops.filter(|drop| drop.packet.is_of(detail, transport)))
    }

    /// The rule that all drops of the flow of this key name.
    pub fn of_all(&self, key: &Key) -> Option<&Place> {
        only(self.drops_of(key)?)
    }

    /// The drops that may be those of this key; `None` if there may be others.
    fn drops_of(&self, key: &Key) -> Option<impl Iterator<Item = &Drop>> {
        let flow = traced_flow(key)?;
        let certain = of(self.index.by_flow.get(&flow));
        let unsure = of(self.index.by_ends.get(&flow.ends));
        let places = || certain.iter().chain(unsure);
        // What a rule has changed, and the same chain dropped, was told with other
        // headers.
        let new = places().filter(|place| **place >= self.old).count();
        let counted = self.index.packets.get(&flow).copied().unwrap_or(0);
        let is_all = u64::try_from(new).is_ok_and(|new| new >= counted);
        let is_certain = self.doubts == 0 && !self.index.has_unknown;
        (is_all && is_certain && unsure.len() <= MAX_UNSURE)
            .then(|| places().filter_map(|place| self.heard.drops.get(*place)))
    }
}

/// The flow of the packets of a key; `None` if it is not known, or they were not
/// traced.
fn traced_flow(key: &Key) -> Option<Flow> {
    let is_traced = key.cause.signs & Sign::Traced.bit() != 0;
    Flow::of(&key.flow).filter(|_| is_traced)
}

fn of(places: Option<&Vec<usize>>) -> &[usize] {
    places.map_or(&[], Vec::as_slice)
}

/// The rule that all of them name.
fn only<'a>(mut drops: impl Iterator<Item = &'a Drop>) -> Option<&'a Place> {
    let first = drops.next()?;
    drops
        .all(|drop| drop.place == first.place)
        .then_some(&first.place)
}

#[cfg(test)]
mod tests {
    use droptrace_types::{Cause, Decode, TUPLE_PORTS, Tuple};

    use super::*;
    use crate::nftrace::packet::Packet;

    const TRACED: u32 = Sign::Traced.bit();

    /// The key of datagrams from 10.0.0.2:1 to 10.0.0.5.
    fn key(port: u16, signs: u32) -> Key {
        let mut flow = Tuple {
            proto: 17,
            flags: TUPLE_PORTS,
            src_port: 1,
            dst_port: port,
            ..Tuple::NONE
        };
        let [src, dst] = [[10, 0, 0, 2], [10, 0, 0, 5]].map(u32::from_ne_bytes);
        flow.set_v4(src, dst);
        Key {
            cause: Cause {
                location: 1,
                rule: 0,
                reason: 0,
                netns: 1,
                ifindex: 1,
                kind: 0,
                direction: 1,
                decode: Decode::Headers as u8,
                socket_family: 0,
                signs,
                signs_read: 0,
            },
            flow,
            about: Tuple::NONE,
            vlan: 0,
            ethertype: 0,
            sketch: 0,
        }
    }

    /// Such a datagram, with this identifier.
    fn packet(port: u16, id: u8) -> Packet {
        let mut network = [0; 20];
        (network[0], network[5], network[9]) = (0x45, id, 17);
        network[12..16].copy_from_slice(&[10, 0, 0, 2]);
        network[16..20].copy_from_slice(&[10, 0, 0, 5]);
        let [high, low] = port.to_be_bytes();
        Packet::new(&network, &[0, 1, high, low, 0, 8, 0, 0])
    }

    fn drop(packet: Packet, rule: u64, heard: Instant) -> Drop {
        Drop {
            place: Place {
                family: 1,
                table: "t".to_owned(),
                chain: "c".to_owned(),
                rule,
            },
            packet,
            heard,
        }
    }

    /// What is told of drops by these rules, in this order.
    fn told(rules: &[u64]) -> Told {
        let mut told = Told::default();
        for (id, rule) in (0..).zip(rules) {
            told.heard
                .drops
                .push(drop(packet(53, id), *rule, Instant::now()));
        }
        told.counted();
        told
    }

    fn rule_of_all(told: &Told, key: &Key) -> Option<u64> {
        told.of_all(key).map(|place| place.rule)
    }

    #[test]
    fn all_drops_of_the_flow_must_name_the_rule() {
        let key = key(53, TRACED);
        for (rules, expected) in [
            (&[7, 7, 7][..], Some(7)),
            (&[7, 8, 7], None),
            (&[7, 7], None),
            (&[], None),
        ] {
            let mut told = told(rules);
            told.add_packets(&key, 3);
            assert_eq!(rule_of_all(&told, &key), expected, "{rules:?}");
        }
    }

    #[test]
    fn packets_that_were_not_traced_have_no_rule() {
        let told = told(&[7]);
        assert_eq!(rule_of_all(&told, &key(53, 0)), None);
        assert_eq!(rule_of_all(&told, &key(54, TRACED)), None);
        assert_eq!(rule_of_all(&told, &key(53, TRACED)), Some(7));
    }

    #[test]
    fn a_packet_changed_under_way_takes_the_rule_from_its_flow() {
        // One is told with port 53 and counted with port 99.
        let mut told = told(&[7]);
        told.heard
            .drops
            .push(drop(packet(99, 9), 8, Instant::now()));
        told.counted();
        told.add_packets(&key(99, TRACED), 2);
        assert_eq!(rule_of_all(&told, &key(99, TRACED)), None);
    }

    #[test]
    fn what_was_lost_leaves_a_doubt_for_two_intervals() {
        let mut told = told(&[7]);
        told.heard.is_incomplete = true;
        for expected in [None, None, Some(7)] {
            told.counted();
            assert_eq!(rule_of_all(&told, &key(53, TRACED)), expected);
            let counted = told.heard.drops[0].heard;
            told.forget(counted);
        }
    }

    #[test]
    fn what_was_told_before_the_last_counts_casts_doubt_and_proves_nothing() {
        let key = key(53, TRACED);
        let mut told = told(&[7]);
        let counted = told.heard.drops[0].heard + ON_THE_WAY;
        told.forget(counted);
        told.counted();
        told.add_packets(&key, 1);
        assert_eq!(rule_of_all(&told, &key), None);
        told.heard.drops.push(drop(packet(53, 5), 8, counted));
        told.counted();
        told.add_packets(&key, 1);
        assert_eq!(rule_of_all(&told, &key), None);
        // And is forgotten.
        told.forget(counted + ON_THE_WAY);
        told.counted();
        assert_eq!(rule_of_all(&told, &key), Some(8));
        told.forget(counted + 2 * ON_THE_WAY + Duration::from_nanos(1));
        assert!(told.heard.drops.is_empty());
    }
}
