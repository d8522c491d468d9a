//! How a record lies in a segment: a header with a checksum of its own, then the line.
//!
//! Each frame knows its place in the stream of all records ever spooled, so that what
//! is missing between two frames is known exactly, packets included, whatever took it.
//!
//! ```text
//! magic 4 | length of the line 4 | index 8 | packets before 8 | bytes before 8 |
//! packets 8 | bytes 8 | crc32 of the line 4 | crc32 of the header so far 4 | line
//! ```

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::daemon::line::Totals;

/// Says that a frame begins, and in which format.
const MAGIC: [u8; 4] = *b"DTF1";

/// Bytes before the line.
pub const HEADER: usize = 56;

/// No line is longer.
pub const MAX_LINE: usize = 1 << 20;

/// A place in the stream of all records ever spooled: how much lies before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Records, that is the number of the one that lies here.
    pub index: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Place {
    /// The place behind one record.
    #[must_use]
    pub fn behind(self, packets: u64, bytes: u64) -> Self {
        Self {
            index: self.index.saturating_add(1),
            packets: self.packets.wrapping_add(packets),
            bytes: self.bytes.wrapping_add(bytes),
        }
    }

    /// What lies between an earlier place and this one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Totals {
        Totals {
            records: self.index.saturating_sub(earlier.index),
            packets: self.packets.wrapping_sub(earlier.packets),
            bytes: self.bytes.wrapping_sub(earlier.bytes),
        }
    }
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it belongs.
    pub place: Place,
    /// Packets that the record stands for.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where its line is.
    pub line: Range<usize>,
}

impl Frame {
    /// The place behind it.
    #[must_use]
    pub fn behind(&self) -> Place {
        self.place.behind(self.packets, self.bytes)
    }
}

/// What lies at the start of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole frame.
    Whole(Frame),
    /// The start of one; its line would be there.
    Part(Frame),
    /// Too few bytes to say.
    Short,
    /// None.
    Bad,
}

/// Appends a frame.
pub fn encode(to: &mut Vec<u8>, place: Place, packets: u64, bytes: u64, line: &[u8]) {
    let start = to.len();
    to.extend_from_slice(&MAGIC);
    let length = u32::try_from(line.len()).unwrap_or(u32::MAX);
    to.extend_from_slice(&length.to_le_bytes());
    for number in [place.index, place.packets, place.bytes, packets, bytes] {
        to.extend_from_slice(&number.to_le_bytes());
    }
    to.extend_from_slice(&crc32fast::hash(line).to_le_bytes());
    let sum = crc32fast::hash(&to[start..]);
    to.extend_from_slice(&sum.to_le_bytes());
    to.extend_from_slice(line);
}

/// Reads what lies at `at`.
#[must_use]
pub fn decode(from: &[u8], at: usize) -> Found {
    let Some(header) = from.get(at..).filter(|rest| rest.len() >= HEADER) else {
        return Found::Short;
    };
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
    let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
    let length = word(4) as usize;
    if header[..4] != MAGIC || length > MAX_LINE || word(52) != crc32fast::hash(&header[..52]) {
        return Found::Bad;
    }
    let line = at + HEADER..at + HEADER + length;
    let frame = Frame {
        place: Place {
            index: long(8),
            packets: long(16),
            bytes: long(24),
        },
        packets: long(32),
        bytes: long(40),
        line: line.clone(),
    };
    match from.get(line) {
        None => Found::Part(frame),
        Some(text) if crc32fast::hash(text) == word(48) => Found::Whole(frame),
        Some(_) => Found::Bad,
    }
}

/// The first whole frame at `at` or behind it whose index is one of these; what lies
/// before it is damage.
#[must_use]
pub fn search(from: &[u8], mut at: usize, indices: &Range<u64>) -> Option<Frame> {
    while at + HEADER <= from.len() {
        if from[at..at + 4] == MAGIC
            && let Found::Whole(frame) = decode(from, at)
            && indices.contains(&frame.place.index)
        {
            return Some(frame);
        }
        at += 1;
    }
    None
}
