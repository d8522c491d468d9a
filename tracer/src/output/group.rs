//! Which records of an interval share a line.

use std::collections::HashMap;

use super::{key::Key, ports::Ports};
use crate::event::Event;

/// What a line without details tells of records.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Packets.
    pub packets: u64,
    /// The ports that the key leaves open.
    pub ports: Ports,
    /// When the last was seen.
    pub time: String,
}

impl Held {
    /// Adds more of the same.
    pub fn add(&mut self, packets: u64, ports: &Ports, time: &str) {
        self.packets += packets;
        self.ports.extend(ports);
        if self.time.as_str() < time {
            time.clone_into(&mut self.time);
        }
    }
}

/// The records of an interval that share a line.
pub(super) struct Group<'a> {
    /// The one that speaks for all.
    pub event: &'a Event,
    /// What they add up to.
    pub held: Held,
}

/// Puts the records together that share a line, in the order of their first.
pub(super) fn group<'a>(events: &[&'a Event]) -> Vec<(Key, Group<'a>)> {
    let mut places: HashMap<Key, usize> = HashMap::new();
    let mut groups: Vec<(Key, Group<'a>)> = Vec::new();
    for &event in events {
        let key = Key::of(event);
        let mut ports = Ports::default();
        let key = match key.open(key.client()) {
            Some((open, port)) => {
                ports.add(port);
                open
            }
            None => key,
        };
        let place = *places.entry(key).or_insert_with_key(|key| {
            let held = Held::default();
            groups.push((key.clone(), Group { event, held }));
            groups.len() - 1
        });
        let (_, group) = &mut groups[place];
        // The record seen most closely speaks for the others.
        if group.event.packet.is_none() && event.packet.is_some() {
            group.event = event;
        }
        group.held.add(event.packets, &ports, &event.time);
    }
    groups
}
