//! Which lines appear while the run goes on.
//!
//! A flow and cause gets a full line when it is first seen. What follows of it
//! is held back and comes out as a short line now and then, ever more rarely
//! while it goes on. How many lines an interval may have is bounded; what goes
//! beyond is told by number. The summary has everything.

use std::collections::{HashMap, HashSet};

use super::{
    group::{Group, Held, group},
    key::{Key, Wild},
    ports::Ports,
};
use crate::event::{Event, EventKind, Loss, LossOf};

/// Flows and causes that are remembered.
const MOST_SEEN: usize = 4_000;
/// Causes that are remembered as explained.
const MOST_EXPLAINED: usize = 1_000;
/// Lines that may come at once after a quiet time …
const BURST: usize = 30;
/// … and lines an interval in the long run.
const PER_INTERVAL: usize = 3;
/// Intervals before the first short line, and the most between two.
const GAP: (u64, u64) = (2, 64);
/// Intervals between two lines about what had no line.
const REST_GAP: u64 = 10;

/// A line to be printed.
#[derive(Debug)]
pub(super) enum Shown<'a> {
    /// Something seen for the first time.
    Full {
        event: &'a Event,
        key: Key,
        packets: u64,
        ports: Ports,
        /// Its cause is new too, so it is explained.
        explain: bool,
    },
    /// More of something that had its line.
    More {
        time: String,
        key: Key,
        packets: u64,
        ports: Ports,
    },
    /// What could not be recorded.
    Lost(&'a Event),
    /// Packets that got no line of their own.
    Rest { time: String, packets: u64 },
}

impl Shown<'_> {
    /// When it was last seen.
    pub fn time(&self) -> &str {
        match self {
            Self::Full { event, .. } | Self::Lost(event) => &event.time,
            Self::More { time, .. } | Self::Rest { time, .. } => time,
        }
    }
}

/// What is remembered from interval to interval.
#[derive(Debug, Default)]
pub(super) struct Live {
    tick: u64,
    /// Lines of the recent past, which make the next ones fewer.
    spent: usize,
    seen: HashMap<Key, Seen>,
    explained: HashSet<Key>,
    rest: Held,
    rest_due: u64,
}

#[derive(Debug)]
struct Seen {
    held: Held,
    gap: u64,
    due: u64,
    last: u64,
}

impl Live {
    /// The lines of some records of an interval, in the order of their times.
    pub fn events<'a>(&mut self, events: impl Iterator<Item = &'a Event>) -> Vec<Shown<'a>> {
        let mut fresh = Vec::new();
        let (losses, others): (Vec<_>, Vec<_>) =
            events.partition(|event| event.kind == EventKind::Loss);
        for (key, group) in group(&others) {
            match self.seen.get_mut(&key) {
                Some(seen) => seen.hold(self.tick, &group.held),
                None => fresh.push((key, group)),
            }
        }
        // Details that were lost are for the summary only.
        let is_counted = |loss: &Loss| loss.what != LossOf::Details;
        let losses = losses
            .into_iter()
            .filter(|e| e.loss.as_ref().is_some_and(is_counted));
        let mut shown: Vec<_> = losses.map(Shown::Lost).collect();
        fresh.sort_by(|(_, a), (_, b)| a.event.time.cmp(&b.event.time));
        for (key, group) in fresh {
            shown.extend(self.first(key, group));
        }
        shown.sort_by(|a, b| a.time().cmp(b.time()));
        shown
    }

    /// The lines that are due at the end of an interval.
    pub fn interval_ends(&mut self) -> Vec<Shown<'static>> {
        let mut shown = Vec::new();
        self.more(&mut shown);
        shown.sort_by(|a: &Shown<'_>, b| a.time().cmp(b.time()));
        shown.extend(self.rest());
        self.tick += 1;
        self.spent = self.spent.saturating_sub(PER_INTERVAL);
        shown
    }

    fn first<'a>(&mut self, key: Key, group: Group<'a>) -> Option<Shown<'a>> {
        let Held {
            packets,
            ports,
            time,
        } = group.held;
        let explain = self.explain(&key);
        let room = self.spent < BURST && self.remember(&key);
        // A new cause is always told; another flow only where there is room.
        if !explain && !room {
            self.rest.add(packets, &Ports::default(), &time);
            return None;
        }
        self.spent += 1;
        Some(Shown::Full {
            event: group.event,
            key,
            packets,
            ports,
            explain,
        })
    }

    /// Whether a cause has to be explained, and remembers that it was.
    fn explain(&mut self, key: &Key) -> bool {
        let cause = Key {
            flow: None,
            wild: Wild::Nothing,
            flowless: None,
            ..key.clone()
        };
        self.explained.len() < MOST_EXPLAINED && self.explained.insert(cause)
    }

    /// Remembers a flow and cause unless there are too many; those that were
    /// quiet for long make room.
    fn remember(&mut self, key: &Key) -> bool {
        if self.seen.len() >= MOST_SEEN {
            let tick = self.tick;
            self.seen
                .retain(|_, seen| seen.held.packets > 0 || tick - seen.last < 2 * GAP.1);
        }
        let room = self.seen.len() < MOST_SEEN;
        if room {
            let (gap, _) = GAP;
            let due = self.tick + gap;
            let held = Held::default();
            self.seen.insert(
                key.clone(),
                Seen {
                    held,
                    gap,
                    due,
                    last: self.tick,
                },
            );
        }
        room
    }

    /// Adds the short lines that are due, those of most packets first.
    fn more(&mut self, shown: &mut Vec<Shown<'_>>) {
        let due = |seen: &Seen| seen.held.packets > 0 && seen.due <= self.tick;
        let mut ready: Vec<_> = self.seen.iter_mut().filter(|(_, seen)| due(seen)).collect();
        ready.sort_by(|(_, a), (_, b)| {
            (b.held.packets.cmp(&a.held.packets)).then_with(|| a.held.time.cmp(&b.held.time))
        });
        for (key, seen) in ready.into_iter().take(BURST.saturating_sub(self.spent)) {
            self.spent += 1;
            let Held {
                packets,
                ports,
                time,
            } = std::mem::take(&mut seen.held);
            seen.gap = (seen.gap * 2).min(GAP.1);
            seen.due = self.tick + seen.gap;
            shown.push(Shown::More {
                time,
                key: key.clone(),
                packets,
                ports,
            });
        }
    }

    fn rest<'a>(&mut self) -> Option<Shown<'a>> {
        if self.rest.packets == 0 || self.tick < self.rest_due {
            return None;
        }
        self.rest_due = self.tick + REST_GAP;
        let Held { packets, time, .. } = std::mem::take(&mut self.rest);
        Some(Shown::Rest { time, packets })
    }
}

impl Seen {
    fn hold(&mut self, tick: u64, more: &Held) {
        // After a pause longer than the gap it is news again.
        if self.held.packets == 0 && tick - self.last > self.gap {
            (self.gap, self.due) = (GAP.0, tick);
        }
        self.last = tick;
        self.held.add(more.packets, &more.ports, &more.time);
    }
}
