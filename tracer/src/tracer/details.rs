//! The details: which one belongs to which count.
//!
//! Counts and details come by different ways. When the counts of an interval
//! are taken away, the ring buffer already holds details of packets that are
//! counted for the next one; those wait. A detail is of the packet that made
//! its key's count, and has the same time.

use std::{collections::HashMap, mem};

use aya::maps::{Map, MapData, MapError, RingBuf};
use droptrace_types::{Counts, Detail, Key};

/// Where details come from.
pub struct Details {
    ring: RingBuf<MapData>,
    /// Those that came before their count.
    early: ByPacket,
}

type ByPacket = HashMap<(Key, u64), Box<Detail>>;

/// The details at hand when counts are taken away.
pub struct AtHand {
    early: ByPacket,
    new: ByPacket,
}

impl Details {
    pub fn new(ring: Map) -> Result<Self, MapError> {
        Ok(Self {
            ring: RingBuf::try_from(ring)?,
            early: HashMap::new(),
        })
    }

    /// Everything that has come, the details of all counts taken before among it.
    pub fn take(&mut self) -> AtHand {
        let mut new = HashMap::new();
        while let Some(item) = self.ring.next() {
            if let Some(detail) = detail_from(&item) {
                new.insert((detail.key, detail.time_ns), Box::new(detail));
            }
        }
        AtHand {
            early: mem::take(&mut self.early),
            new,
        }
    }

    /// Keeps what no count was found for until the next time, and no longer.
    pub fn keep(&mut self, rest: AtHand) {
        self.early = rest.new;
    }
}

impl AtHand {
    /// The detail of the packet that `counts` begins with.
    pub fn first_of(&mut self, key: &Key, counts: &Counts) -> Option<Box<Detail>> {
        let packet = (*key, counts.first_ns);
        self.early
            .remove(&packet)
            .or_else(|| self.new.remove(&packet))
    }
}

fn detail_from(bytes: &[u8]) -> Option<Detail> {
    if bytes.len() < size_of::<Detail>() {
        return None;
    }
    // SAFETY: long enough, and every bit pattern is a valid `Detail`.
    Some(unsafe { bytes.as_ptr().cast::<Detail>().read_unaligned() })
}
