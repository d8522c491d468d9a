//! The counts: how they are taken away without losing or doubling one.
//!
//! For each slot of the outer map there are two inner maps. The programs reach
//! only the one in the slot. To take its counts away, the other, empty one is
//! put there. That call returns only when every program that may still hold
//! the old one has ended (`maybe_wait_bpf_programs`,
//! <https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/syscall.c>),
//! so nobody writes to it while it is emptied.

use std::{io, mem, os::fd::AsFd};

use aya::maps::{ArrayOfMaps, Map, MapData, MapError};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_HASH;
use droptrace_types::{COUNTS_CAUSES, COUNTS_FLOWS, Counted, Counts, Key};

use super::syscall;

/// Causes that are told apart at a time while the map of flows is full.
const MAX_CAUSES: u32 = 1024;
/// Elements of a map that is never used.
const SMALLEST: u32 = 1;
/// Elements read by one call at first.
const BATCH: usize = 512;
/// Elements read by one call at most; a hash bucket is never that full.
const MAX_BATCH: usize = 1 << 16;

/// Both slots.
pub struct CountMaps {
    outer: ArrayOfMaps<MapData>,
    flows: Pair,
    causes: Pair,
    digests: Vec<u64>,
    values: Vec<Counted>,
}

/// Two maps of one slot.
struct Pair {
    slot: u32,
    /// Elements that the next map has.
    size: u32,
    active: MapData,
    idle: MapData,
    /// Elements that the idle one has.
    idle_size: u32,
    active_size: u32,
}

impl Pair {
    fn new(outer: &mut ArrayOfMaps<MapData>, slot: u32, size: u32) -> Result<Self, MapError> {
        let active = create(size)?;
        outer.set(slot, &active, 0)?;
        Ok(Self {
            slot,
            size,
            active,
            // Made in its size when it is needed, which takes the kernel a while.
            idle: create(SMALLEST)?,
            idle_size: SMALLEST,
            active_size: size,
        })
    }

    fn swap(&mut self, outer: &mut ArrayOfMaps<MapData>) -> Result<(), MapError> {
        if self.idle_size != self.size {
            self.idle = create(self.size)?;
            self.idle_size = self.size;
        }
        outer.set(self.slot, &self.idle, 0)?;
        mem::swap(&mut self.active, &mut self.idle);
        mem::swap(&mut self.active_size, &mut self.idle_size);
        Ok(())
    }
}

impl CountMaps {
    /// Fills the slots of the outer map. The kernel waits for an RCU grace period at each.
    pub fn new(outer: Map, max_flows: u32) -> Result<Self, MapError> {
        let mut outer = ArrayOfMaps::try_from(outer)?;
        let flows = Pair::new(&mut outer, COUNTS_FLOWS, max_flows)?;
        let causes = Pair::new(&mut outer, COUNTS_CAUSES, MAX_CAUSES)?;
        Ok(Self {
            outer,
            flows,
            causes,
            digests: Vec::new(),
            values: Vec::new(),
        })
    }

    /// From the next time on that something is taken away, so many flows have room.
    pub fn list_flows(&mut self, max_flows: u32) {
        self.flows.size = max_flows;
    }

    /// Takes everything away that was counted. Costs two look-ups if nothing was.
    pub fn take(&mut self) -> Result<Vec<Counted>, MapError> {
        let mut taken = Vec::new();
        for pair in [&mut self.flows, &mut self.causes] {
            // SAFETY: the map's key, plain data.
            let is_empty = unsafe { syscall::is_empty::<u64>(pair.active.fd().as_fd()) };
            if is_empty.map_err(|error| map_error("bpf_map_get_next_key", error))? {
                continue;
            }
            pair.swap(&mut self.outer)?;
            empty(&pair.idle, &mut self.digests, &mut self.values, &mut taken)?;
        }
        Ok(taken)
    }
}

fn create(size: u32) -> Result<MapData, MapError> {
    let (key, value) = (syscall::size_of::<u64>(), syscall::size_of::<Counted>());
    let map = aya_obj::Map::new_from_params(BPF_MAP_TYPE_HASH as u32, key, value, size, 0);
    MapData::create(map, "counts", None)
}

fn empty(
    map: &MapData,
    digests: &mut Vec<u64>,
    values: &mut Vec<Counted>,
    taken: &mut Vec<Counted>,
) -> Result<(), MapError> {
    let mut from = None;
    let mut size = digests.len().max(BATCH);
    loop {
        digests.resize(size, 0);
        values.resize(size, EMPTY);
        // SAFETY: key and value of this map, both plain data (`Pod`), and
        // slices of the same length.
        match unsafe { syscall::take_batch(map.fd().as_fd(), from, digests, values) } {
            Ok((count, next)) => {
                taken.extend_from_slice(values.get(..count).unwrap_or_default());
                if next.is_none() {
                    return Ok(());
                }
                from = next;
            }
            // A bucket holds more than fit; nothing of it was taken.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && size < MAX_BATCH => {
                size *= 2;
            }
            Err(error) => return Err(map_error("bpf_map_lookup_and_delete_batch", error)),
        }
    }
}

const EMPTY: Counted = {
    use droptrace_types::{Cause, Tuple};
    let cause = Cause {
        location: 0,
        rule: 0,
        reason: 0,
        netns: 0,
        ifindex: 0,
        kind: 0,
        direction: 0,
        decode: 0,
        socket_family: 0,
        signs: 0,
        signs_read: 0,
    };
    let key = Key {
        cause,
        flow: Tuple::NONE,
        about: Tuple::NONE,
        vlan: 0,
        ethertype: 0,
        sketch: 0,
    };
    let counts = Counts {
        packets: 0,
        bytes: 0,
        first_ns: 0,
        last_ns: 0,
    };
    Counted { key, counts }
};

/// In the shape of aya's own errors.
pub fn map_error(call: &'static str, io_error: io::Error) -> MapError {
    MapError::SyscallError(aya::sys::SyscallError { call, io_error })
}
