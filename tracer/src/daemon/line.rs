//! A record on its way out of the daemon: numbered, and written once for all exporters.

use std::ops::{AddAssign, Sub};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind, Loss, LossCause, LossOf, utc};

/// Bytes that most lines do with, so that a text need not move while it grows.
const USUAL: usize = 2048;

/// A record as a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// [`Event::seq`].
    pub seq: u64,
    /// Dropped packets that it stands for: those of a drop or a loss. What other kinds
    /// count is no drop, and is not missing from the drops if the line is lost.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The JSON object, with the line's end.
    pub text: Bytes,
}

impl Line {
    /// The record under this number.
    ///
    /// # Errors
    ///
    /// If it cannot be written as JSON, which no record gives reason for.
    pub fn new(mut event: Event, seq: u64, boot_id: &str) -> serde_json::Result<Self> {
        event.seq = Some(seq);
        event.boot_id = Some(boot_id.to_owned());
        let mut text = Vec::with_capacity(USUAL);
        serde_json::to_writer(&mut text, &event)?;
        text.push(b'\n');
        let (packets, bytes) = match event.kind {
            EventKind::Drop | EventKind::Loss => (event.packets, event.bytes),
            _ => (0, 0),
        };
        Ok(Self {
            seq,
            packets,
            bytes,
            // Without the room that the text grew into: lines are kept by the thousand.
            text: text.into_boxed_slice().into(),
        })
    }
}

/// How many records, and the packets and bytes that they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Records.
    pub records: u64,
    /// [`Line::packets`].
    pub packets: u64,
    /// [`Line::bytes`].
    pub bytes: u64,
}

impl Totals {
    /// Of this record.
    #[must_use]
    pub const fn of(line: &Line) -> Self {
        Self {
            records: 1,
            packets: line.packets,
            bytes: line.bytes,
        }
    }

    /// The record that says that so much did not reach who reads it.
    #[must_use]
    pub fn lost(self, why: LossCause, seq: u64, boot_id: &str) -> Event {
        Event {
            packets: self.packets,
            bytes: self.bytes,
            loss: Some(Loss {
                what: LossOf::Records,
                why,
                count: self.records,
            }),
            seq: Some(seq),
            boot_id: Some(boot_id.to_owned()),
            ..Event::bare(EventKind::Loss, utc(Timestamp::now()))
        }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.records = self.records.saturating_add(more.records);
        self.packets = self.packets.saturating_add(more.packets);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

impl Sub for Totals {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self {
            records: self.records.saturating_sub(less.records),
            packets: self.packets.saturating_sub(less.packets),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }
}

impl FromIterator<Self> for Totals {
    fn from_iter<T: IntoIterator<Item = Self>>(all: T) -> Self {
        let mut sum = Self::default();
        for one in all {
            sum += one;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_drops_and_losses_stand_for_dropped_packets() {
        for (kind, packets) in [
            (EventKind::Drop, 3),
            (EventKind::Loss, 3),
            (EventKind::Retransmit, 0),
            (EventKind::ResetSent, 0),
            (EventKind::Verdict, 0),
        ] {
            let mut event = Event::bare(kind, "2026-01-01T00:00:00.000000000Z".to_owned());
            event.packets = 3;
            let line = Line::new(event, 1, "boot").unwrap();
            assert_eq!(line.packets, packets, "{kind:?}");
            assert!(line.text.ends_with(b"}\n"));
        }
    }
}
