//! The maps: what the programs share with user space.

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray, RingBuf, StackTrace},
    macros::btf_map,
};
use droptrace_types::{ConntrackLayout, Counts, Detail, Filter, Key, Loss, UNLISTED_SLOTS};

/// What is counted, by key. User space makes these itself, two for each slot
/// of [`COUNTS`], sizes them and swaps them.
pub type CountMap = HashMap<Key, Counts, 1>;

/// The active map of flows and the active map of causes.
#[btf_map]
pub static COUNTS: ArrayOfMaps<CountMap, 2> = ArrayOfMaps::new();

/// Packets seen closely.
#[btf_map]
pub static DETAILS: RingBuf<Detail, { 1024 * 1024 }> = RingBuf::new();

/// Call chains of [`DETAILS`].
#[btf_map]
pub static STACKS: StackTrace<1024, 0, 32> = StackTrace::new();

/// Which packets to record.
#[btf_map]
pub static FILTER: Array<Filter, 1> = Array::new();

/// What a conntrack entry looks like; changes when the module is loaded.
#[btf_map]
pub static CONNTRACK: Array<ConntrackLayout, 1> = Array::new();

/// `--reason`: selected reasons, kind in the upper half and number in the lower.
#[btf_map]
pub static REASONS: HashMap<u64, u32, 1024> = HashMap::new();

/// `--pid`: inode numbers of the processes' sockets.
#[btf_map]
pub static SOCKETS: HashMap<u64, u32, 65536, NO_PREALLOC> = HashMap::new();

/// `--cgroup`: identifiers of the selected control groups.
#[btf_map]
pub static CGROUPS: HashMap<u64, u32, 65536, NO_PREALLOC> = HashMap::new();

/// What could not be recorded, indexed by [`Loss`].
#[btf_map]
pub static LOSSES: PerCpuArray<u64, { Loss::Max as usize }> = PerCpuArray::new();

/// Flows that found no room in the map of flows: each leaves the mark of its
/// cause in the slot of its hash.
#[btf_map]
pub static UNLISTED: Array<[u32; UNLISTED_SLOTS], 1> = Array::new();

/// How many details this CPU has sent in the current second.
#[btf_map]
pub static DETAIL_RATE: PerCpuArray<Rate, 1> = PerCpuArray::new();

/// A count of the current second.
#[repr(C)]
pub struct Rate {
    /// When the second began, `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// Details sent since.
    pub sent: u64,
}

/// `BPF_F_NO_PREALLOC`: these maps are written by user space only, and mostly
/// stay empty.
const NO_PREALLOC: usize = 1;
