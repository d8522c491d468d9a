//! The details: which one belongs to which count.
//!
//! Counts and details come by different ways. When the counts of an interval
//! are taken away, the ring buffer already holds details of packets that are
//! counted for the next one; those wait. A detail is of the packet that made
//! its key's count, and has the same time.

use std::{collections::HashMap, mem};

use aya::{
    maps::{Map, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf},
    util::nr_cpus,
};
use droptrace_types::{Counts, Detail, DetailRate, Key};

use super::counts::map_error;

/// Details a second on each CPU at most; the ring buffer holds some thousands.
pub const DETAILS_PER_SECOND: u64 = 4000;

/// Where details come from.
pub struct Details {
    ring: RingBuf<MapData>,
    rate: PerCpuArray<MapData, DetailRate>,
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
    /// Allows [`DETAILS_PER_SECOND`].
    pub fn new(ring: Map, rate: Map) -> Result<Self, MapError> {
        let mut details = Self {
            ring: RingBuf::try_from(ring)?,
            rate: PerCpuArray::try_from(rate)?,
            early: HashMap::new(),
        };
        details.allow(DETAILS_PER_SECOND)?;
        Ok(details)
    }

    /// Allows so many a second on each CPU from now on.
    pub fn allow(&mut self, per_second: u64) -> Result<(), MapError> {
        let fresh = DetailRate {
            since_ns: 0,
            sent: 0,
            allowed: per_second,
        };
        let cpus = nr_cpus().map_err(|(_, error)| map_error("number of CPUs", error))?;
        let all = PerCpuValues::try_from(vec![fresh; cpus])
            .map_err(|error| map_error("values for each CPU", error))?;
        self.rate.set(0, all, 0)
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
