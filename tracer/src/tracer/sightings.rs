//! What was seen of the selected conversations.

use std::os::fd::OwnedFd;

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError, RingBuf},
};
use droptrace_types::Sighting;

use super::{
    Watching,
    programs::{self, LoadError},
    verify::Verified,
};

/// The tracepoints that show conversations, which are also the names of the programs;
/// those of packets that pass first.
pub const TRACEPOINTS: [&str; 3] = ["netif_receive_skb", "net_dev_queue", "inet_sock_set_state"];

/// Those that it takes to watch this.
pub fn tracepoints(watching: Watching) -> &'static [&'static str] {
    match watching {
        Watching::Nothing => &[],
        Watching::Troubles => &TRACEPOINTS[2..],
        Watching::Packets => &TRACEPOINTS,
    }
}

/// Sightings that are kept for an interval at most; more are lost. A quarter of them
/// fills the ring buffer.
const MAX_KEPT: usize = 16_384;

/// Where sightings come from.
pub struct Sightings {
    ring: RingBuf<MapData>,
}

impl Sightings {
    pub fn new(ring: Map) -> Result<Self, MapError> {
        Ok(Self {
            ring: RingBuf::try_from(ring)?,
        })
    }

    /// Everything that has come, in order of time, and how many were too many.
    pub fn take(&mut self) -> (Vec<Sighting>, u64) {
        let mut taken = Vec::new();
        let mut lost = 0;
        while let Some(item) = self.ring.next() {
            match sighting_from(&item) {
                Some(sighting) if taken.len() < MAX_KEPT => taken.push(sighting),
                _ => lost += 1,
            }
        }
        taken.sort_by_key(|sighting| sighting.time_ns);
        (taken, lost)
    }
}

/// Attaches the programs. The answer is to be asked for statistics.
///
/// # Errors
///
/// If the kernel refuses one of them; those before stay attached.
pub fn attach(
    ebpf: &mut Ebpf,
    verified: &mut Verified,
    tracepoints: &'static [&'static str],
) -> Result<Vec<OwnedFd>, LoadError> {
    let attach = |tracepoint: &'static str| {
        let attached = programs::attach_one(ebpf, verified, tracepoint);
        attached.map_err(|error| LoadError::Program { tracepoint, error })
    };
    tracepoints.iter().copied().map(attach).collect()
}

fn sighting_from(bytes: &[u8]) -> Option<Sighting> {
    if bytes.len() < size_of::<Sighting>() {
        return None;
    }
    // SAFETY: long enough, and every bit pattern is a valid `Sighting`.
    Some(unsafe { bytes.as_ptr().cast::<Sighting>().read_unaligned() })
}
