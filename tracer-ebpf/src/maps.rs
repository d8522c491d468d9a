//! The maps: what the programs share with user space.

use aya_ebpf::{
    bindings::bpf_map_type::BPF_MAP_TYPE_HASH,
    btf_maps::{
        Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf, StackTrace,
    },
    macros::btf_map,
};
use droptrace_types::{
    ConntrackLayout, Counted, Detail, DetailRate, Filter, Loss, Passed, PassedKey, Places,
    RuleLayout, Sighting, StackWords, Tuple, UNLISTED_SLOTS, VerdictWords,
    XT_BLOCKS as MAX_XT_BLOCKS, XT_NETNS, XT_PIECE, XtBlock, XtGroup,
};

use crate::{
    nested::Running,
    stack::StackCopy,
    verdict::Verdicts,
    xtables::{XtCopy, XtCpu, XtSeen},
};

/// What is counted, by a digest of its key. User space makes these itself, two for each slot
/// of [`COUNTS`], sizes them and swaps them.
pub type CountMap = HashMap<u64, Counted, 1>;

/// The active map of flows and the active map of causes.
#[btf_map]
pub static COUNTS: ArrayOfMaps<CountMapShape, 2> = ArrayOfMaps::new();

/// What a map must be like to be put into a slot of [`COUNTS`].
///
/// Key and value are given by size, not by type: some kernels (6.1 among them)
/// refuse a map whose types are not known, as those that user space makes, in
/// the place of one whose types are (`bpf_map_meta_equal` compares `timer_off`,
/// <https://github.com/torvalds/linux/blob/v6.1/kernel/bpf/map_in_map.c>).
#[repr(C)]
pub struct CountMapShape {
    r#type: *const [i32; BPF_MAP_TYPE_HASH as usize],
    key_size: *const [i32; size_of::<u64>()],
    value_size: *const [i32; size_of::<Counted>()],
    max_entries: *const [i32; 1],
    map_flags: *const [i32; 0],
}

impl CountMapShape {
    /// The map in the slot.
    #[inline(always)]
    pub fn map(&self) -> &CountMap {
        const { assert!(size_of::<CountMap>() == size_of::<CountMapShape>()) };
        // SAFETY: of the same size; neither's fields are ever read, only the
        // address counts, which is that of a map in the kernel.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}

/// Packets seen closely.
#[btf_map]
pub static DETAILS: RingBuf<Detail, { 1024 * 1024 }> = RingBuf::new();

/// What is seen of the selected conversations. User space makes it small where none
/// are watched.
#[btf_map]
pub static SIGHTINGS: RingBuf<Sighting, { 1024 * 1024 }> = RingBuf::new();

/// What of their flows has passed. As [`SIGHTINGS`].
#[btf_map]
pub static PASSED: LruHashMap<PassedKey, Passed, 16384> = LruHashMap::new();

/// Connections that have had trouble, by their flow in both ways. User space makes it
/// small where packets that pass are watched, or nothing is.
#[btf_map]
pub static TROUBLED: LruHashMap<Tuple, u32, 16384> = LruHashMap::new();

/// Reasons of drops that are no trouble, by number.
#[btf_map]
pub static HARMLESS: HashMap<u32, u32, 1024, NO_PREALLOC> = HashMap::new();

/// Call chains of [`DETAILS`].
#[btf_map]
pub static STACKS: StackTrace<1024, 0, 32> = StackTrace::new();

/// Which packets to record.
#[btf_map]
pub static FILTER: Array<Filter, 1> = Array::new();

/// What a conntrack entry looks like; changes when the module is loaded.
#[btf_map]
pub static CONNTRACK: Array<ConntrackLayout, 1> = Array::new();

/// What nftables' rules look like; changes when the module is loaded.
#[btf_map]
pub static RULE_LAYOUT: Array<RuleLayout, 1> = Array::new();

/// Where on the stack stands what tells who dropped a packet.
#[btf_map]
pub static PLACES: Array<Places, 1> = Array::new();

/// For finding those places.
#[btf_map]
pub static TRIAL: Array<StackWords, 1> = Array::new();

/// The same for [`crate::verdict`].
#[btf_map]
pub static VERDICT_TRIAL: Array<VerdictWords, 1> = Array::new();

/// What was decided about the packets that nftables looks at.
#[btf_map]
pub static VERDICTS: PerCpuArray<Verdicts, 1> = PerCpuArray::new();

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

/// The program for `kfree_skb`.
#[btf_map]
pub static FIRST: ProgramArray<1> = ProgramArray::new();

/// Whether it runs.
#[btf_map]
pub static RUNNING: PerCpuArray<Running, 1> = PerCpuArray::new();

/// Flows that found no room in the map of flows: each leaves the mark of its
/// cause in the slot of its hash.
#[btf_map]
pub static UNLISTED: Array<[u32; UNLISTED_SLOTS], 1> = Array::new();

/// How many details this CPU has sent in the current second.
#[btf_map]
pub static DETAIL_RATE: PerCpuArray<DetailRate, 1> = PerCpuArray::new();

/// The packet that TCP is about to answer with a reset for want of a socket.
#[btf_map]
pub static ANSWERED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Where [`crate::stack`] searches.
#[btf_map]
pub static STACK_COPY: PerCpuArray<StackCopy, 1> = PerCpuArray::new();

/// Namespaces whose xtables rules' counters are watched, by inode number.
#[btf_map]
pub static XT_GROUPS: HashMap<u32, XtGroup, XT_NETNS> = HashMap::new();

/// Their counters.
#[btf_map]
pub static XT_BLOCKS: Array<XtBlock, MAX_XT_BLOCKS> = Array::new();

/// How those counters were on this CPU when they were last looked at.
#[btf_map]
pub static XT_SEEN: PerCpuArray<XtSeen, MAX_XT_BLOCKS> = PerCpuArray::new();

/// What else this CPU remembers for that.
#[btf_map]
pub static XT_CPU: PerCpuArray<XtCpu, 1> = PerCpuArray::new();

/// Counters as they are now.
#[btf_map]
pub static XT_COPY: PerCpuArray<XtCopy, 1> = PerCpuArray::new();

/// Kernel memory for user space.
#[btf_map]
pub static XT_MEMORY: Array<[u8; XT_PIECE], 1> = Array::new();

/// `BPF_F_NO_PREALLOC`: these maps are written by user space only, and mostly
/// stay empty.
const NO_PREALLOC: usize = 1;
