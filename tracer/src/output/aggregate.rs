//! What the records of a whole run add up to, in bounded memory.

use std::{cmp::Reverse, collections::HashMap};

use super::{
    cause,
    fold::fold,
    key::{Key, Wild},
    ports::Ports,
};
use crate::event::{Event, EventKind, LossCause, LossOf, UndecodedCause};

/// Rows that are kept apart; the rest share one.
pub(super) const MOST_ROWS: usize = 4_000;

/// The rows and totals of a run.
#[derive(Debug, Default)]
pub(super) struct Aggregate {
    all: bool,
    rows: HashMap<Key, Row>,
    /// Everything that found no row.
    pub other: Row,
    /// Whether rows were folded, so that a record may belong to a folded row.
    folded: bool,
    /// Whether folding would not help any more.
    full: bool,
    /// Packets by kind; the order of [`KINDS`].
    pub packets: [u64; KINDS.len()],
    /// Packets left out as normal clean-up.
    pub hidden: u64,
    /// Packets whose flows could not be listed, and the most such flows of
    /// one record: records may be about the same flows again.
    pub unlisted: (u64, u64),
    /// Packets without a flow by why.
    pub undecoded: Vec<(UndecodedCause, u64)>,
    /// What was lost, by what and why.
    pub lost: Vec<((LossOf, LossCause), u64)>,
}

/// The kinds that are added up.
pub(super) const KINDS: [(EventKind, &str); 4] = [
    (EventKind::Drop, "drops"),
    (EventKind::ResetSent, "resets sent"),
    (EventKind::ResetReceived, "resets received"),
    (EventKind::Retransmit, "retransmits"),
];

/// The numbers of one row.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Packets.
    pub packets: u64,
    /// The ports that a folded row stands for.
    pub ports: Ports,
    /// When the first was seen: RFC 3339 in UTC, which sorts as text.
    pub first: String,
    /// When the last was seen.
    pub last: String,
}

impl Row {
    /// Adds the numbers of another row.
    pub fn merge(&mut self, other: &Self) {
        self.packets += other.packets;
        self.ports.extend(&other.ports);
        self.span(&other.first, &other.last);
    }

    fn add(&mut self, event: &Event) {
        self.packets += event.packets;
        self.span(&event.first_seen, &event.time);
    }

    fn span(&mut self, first: &str, last: &str) {
        if self.first.is_empty() || first < self.first.as_str() {
            first.clone_into(&mut self.first);
        }
        if last > self.last.as_str() {
            last.clone_into(&mut self.last);
        }
    }
}

impl Aggregate {
    /// Nothing seen yet; with `all`, normal clean-up counts.
    pub fn new(all: bool) -> Self {
        Self {
            all,
            ..Self::default()
        }
    }

    /// Whether a record is left out.
    pub fn hides(&self, event: &Event) -> bool {
        !self.all && cause::is_benign(event)
    }

    /// Adds a record.
    pub fn add(&mut self, event: &Event) {
        if self.hides(event) {
            self.hidden += event.packets;
            return;
        }
        if let Some(loss) = &event.loss {
            count(&mut self.lost, (loss.what, loss.why), loss.count);
        }
        let Some(kind) = KINDS.iter().position(|(kind, _)| *kind == event.kind) else {
            return;
        };
        self.packets[kind] += event.packets;
        if let Some(flows) = event.flows_unlisted {
            self.unlisted.0 += event.packets;
            self.unlisted.1 = self.unlisted.1.max(flows);
        } else if let Some(undecoded) = &event.undecoded {
            count(&mut self.undecoded, undecoded.why, event.packets);
        }
        self.row(Key::of(event)).add(event);
    }

    /// The row of a key.
    fn row(&mut self, key: Key) -> &mut Row {
        if !self.rows.contains_key(&key) && self.rows.len() >= MOST_ROWS && !self.full {
            self.fold();
            // Folding is worth its time only while it makes much room.
            self.full = self.rows.len() > MOST_ROWS / 2;
        }
        if self.folded && !self.rows.contains_key(&key) {
            for (open, port) in [Wild::Src, Wild::Dst]
                .iter()
                .filter_map(|side| key.open(*side))
            {
                // Looked up twice because a row borrowed from inside the loop
                // would stay borrowed after it.
                if self.rows.contains_key(&open) {
                    let row = self.rows.entry(open).or_default();
                    row.ports.add(port);
                    return row;
                }
            }
        }
        if self.rows.contains_key(&key) || self.rows.len() < MOST_ROWS {
            self.rows.entry(key).or_default()
        } else {
            &mut self.other
        }
    }

    fn fold(&mut self) {
        self.rows = fold(std::mem::take(&mut self.rows));
        self.folded = true;
    }

    /// All rows, those of many flows that differ in a port only as one, the
    /// one of most packets first.
    pub fn rows(&mut self) -> Vec<(&Key, &Row)> {
        self.fold();
        let mut rows: Vec<_> = self.rows.iter().collect();
        // What comes after the packets is for rows to have a fixed order.
        rows.sort_by_cached_key(|(key, row)| {
            let flow = format!("{:?}", key.flow);
            (
                Reverse(row.packets),
                row.first.clone(),
                key.kind,
                key.cause.clone(),
                flow,
            )
        });
        rows
    }

    /// How much was lost.
    pub fn lost(&self, what: LossOf) -> u64 {
        let of = self.lost.iter().filter(|((lost, _), _)| *lost == what);
        of.map(|(_, count)| count).sum()
    }
}

fn count<T: PartialEq>(counts: &mut Vec<(T, u64)>, of: T, more: u64) {
    match counts.iter_mut().find(|(counted, _)| *counted == of) {
        Some((_, count)) => *count += more,
        None => counts.push((of, more)),
    }
}
