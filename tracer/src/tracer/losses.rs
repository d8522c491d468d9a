//! What the kernel side could not record, counted by itself and by the kernel.

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
};

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use droptrace_types::{Loss, UNLISTED_SLOTS};

use super::{counts::map_error, syscall};

/// What was lost in a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets for which no map had room.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Drops for which the kernel skipped the program.
    pub skipped_drops: u64,
    /// Resets and retransmits for which the kernel skipped the program.
    pub skipped_others: u64,
    /// Details for which the ring buffer had no room.
    pub details_ring_full: u64,
    /// Details held back by the rate limit.
    pub details_rate_limited: u64,
    /// What was seen of conversations and could not be told.
    pub sightings: u64,
}

/// Where the losses are counted.
pub struct LossCounters {
    counters: PerCpuArray<MapData, u64>,
    unlisted: MapData,
    /// The sketch as last read; a place of its own because of its size.
    sketch: Box<[u32]>,
    /// That for `kfree_skb` first.
    programs: Vec<OwnedFd>,
    /// Those that watch conversations.
    conversations: Vec<OwnedFd>,
    /// Sums as of the last time.
    before: Losses,
}

impl LossCounters {
    pub fn new(counters: Map, unlisted: Map) -> Result<Self, MapError> {
        let Map::Array(unlisted) = unlisted else {
            return Err(MapError::InvalidMapType { map_type: 0 });
        };
        Ok(Self {
            counters: PerCpuArray::try_from(counters)?,
            unlisted,
            sketch: vec![0; UNLISTED_SLOTS].into_boxed_slice(),
            programs: Vec::new(),
            conversations: Vec::new(),
            before: Losses::default(),
        })
    }

    /// Counts from now on also what the kernel kept from these programs, that for
    /// `kfree_skb` first.
    pub fn watch(&mut self, programs: Vec<OwnedFd>) {
        self.programs = programs;
    }

    /// The same for the programs that watch conversations.
    pub fn watch_conversations(&mut self, programs: Vec<OwnedFd>) {
        self.conversations = programs;
    }

    /// What was lost since the last call.
    pub fn take(&mut self) -> Result<Losses, MapError> {
        let now = Losses {
            packets: self.sum(Loss::Packets)?,
            bytes: self.sum(Loss::Bytes)?,
            // Read in this order, what comes in between is not missing from the sum.
            skipped_drops: skipped(&self.programs[..1])?
                .saturating_sub(self.sum(Loss::DropsNotSkipped)?)
                .max(self.before.skipped_drops),
            skipped_others: skipped(&self.programs[1..])?,
            details_ring_full: self.sum(Loss::DetailRingFull)?,
            details_rate_limited: self.sum(Loss::DetailRateLimited)?,
            sightings: self.sum(Loss::Sightings)? + skipped(&self.conversations)?,
        };
        let before = std::mem::replace(&mut self.before, now);
        Ok(Losses {
            packets: now.packets - before.packets,
            bytes: now.bytes - before.bytes,
            skipped_drops: now.skipped_drops - before.skipped_drops,
            skipped_others: now.skipped_others - before.skipped_others,
            details_ring_full: now.details_ring_full - before.details_ring_full,
            details_rate_limited: now.details_rate_limited - before.details_rate_limited,
            sightings: now.sightings - before.sightings,
        })
    }

    fn sum(&self, loss: Loss) -> Result<u64, MapError> {
        Ok(self.counters.get(&(loss as u32), 0)?.iter().sum())
    }

    /// For each cause, by its mark, how many flows were not listed at least;
    /// clears the sketch. A mark set in between is missed: the number stays a
    /// lower bound.
    pub fn take_unlisted(&mut self) -> Result<HashMap<u32, u64>, MapError> {
        let map = self.unlisted.fd().as_fd();
        // SAFETY: the map's value, plain data.
        unsafe { syscall::read_only_element(map, self.sketch.as_mut_ptr()) }
            .map_err(|error| map_error("bpf_map_lookup_elem", error))?;
        let mut flows = HashMap::new();
        for mark in self.sketch.iter().filter(|mark| **mark != 0) {
            *flows.entry(*mark).or_insert(0) += 1;
        }
        self.sketch.fill(0);
        // SAFETY: as above.
        unsafe { syscall::write_only_element(map, self.sketch.as_ptr()) }
            .map_err(|error| map_error("bpf_map_update_elem", error))?;
        Ok(flows)
    }
}

fn skipped(programs: &[OwnedFd]) -> Result<u64, MapError> {
    programs.iter().try_fold(0, |sum, program| {
        syscall::recursion_misses(program.as_fd())
            .map(|misses| sum + misses)
            .map_err(|error| map_error("bpf_obj_get_info_by_fd", error))
    })
}
