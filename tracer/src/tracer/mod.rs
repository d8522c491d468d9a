//! The kernel side as user space sees it: loaded, attached, drained.

mod counts;
mod details;
mod kfuncs;
mod losses;
pub mod netfilter;
mod probe;
mod programs;
mod rules;
mod sightings;
mod syscall;
mod verdicts;
mod verify;
mod xtables;

use std::{collections::HashMap, panic::resume_unwind, thread, time::Duration};

use aya::{
    Ebpf,
    maps::{Array, MapData, MapError, ProgramArray, StackTraceMap},
};
use droptrace_types::{
    Addresses, Config, ConntrackLayout, Counted, Counts, Detail, Filter, Key, Layout, Sighting,
};

pub use details::DETAILS_PER_SECOND;
pub use losses::Losses;
pub use probe::{Probed, probe};
pub(crate) use programs::raise_memory_limit;
pub use programs::{LoadError, Loader, SEND_RESET, TRACEPOINTS, functions};
pub use rules::RuleMaps;
pub use sightings::TRACEPOINTS as CONVERSATION_TRACEPOINTS;
pub use verdicts::VerdictsError;
pub use verify::{Means, Targets};
pub use xtables::{XT_PROGRAMS, XtMaps};

use self::{
    counts::CountMaps, details::Details, losses::LossCounters, sightings::Sightings,
    verdicts::Verdicts,
};

/// What of conversations is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    /// Nothing.
    Nothing,
    /// TCP sockets that have trouble.
    Troubles,
    /// Packets that pass, and all TCP sockets.
    Packets,
}

/// How the kernel side is to be set up.
pub struct Setup<'a> {
    /// Where programs can be attached.
    pub targets: &'a Targets,
    /// Where struct members stand.
    pub layout: &'a Layout,
    /// What this run wants.
    pub config: &'a Config,
    /// Which packets to record.
    pub filter: &'a Filter,
    /// Selected reasons, kind in the upper half and number in the lower.
    pub reasons: &'a [u64],
    /// Numbers of drop reasons by which a connection has no trouble.
    pub harmless: &'a [u32],
    /// Flows that are counted one by one at a time.
    pub max_flows: u32,
    /// What of the conversations that the filter selects is watched too.
    pub conversations: Watching,
}

/// What was taken away at one interval.
#[derive(Default)]
pub struct Drained {
    /// Every key that occurred, with its first packet seen closely, for most keys.
    pub counts: Vec<(Key, Counts, Option<Box<Detail>>)>,
    /// For keys reduced to their cause: how many flows they stand for at least,
    /// by [`Key::sketch`].
    pub unlisted: HashMap<u32, u64>,
    /// What was seen of conversations, in order of time.
    pub sightings: Vec<Sighting>,
    /// What could not be recorded since the last time.
    pub losses: Losses,
}

/// All maps that user space reads or writes, filled for the start. They must
/// live until the programs are loaded, which then hold them.
struct Maps {
    _filter: Array<MapData, Filter>,
    _reasons: aya::maps::HashMap<MapData, u64, u32>,
    _harmless: aya::maps::HashMap<MapData, u32, u32>,
    counts: CountMaps,
    details: Details,
    sightings: Sightings,
    stacks: StackTraceMap<MapData>,
    conntrack: Array<MapData, ConntrackLayout>,
    rules: RuleMaps,
    sockets: aya::maps::HashMap<MapData, u64, u32>,
    cgroups: aya::maps::HashMap<MapData, u64, u32>,
    losses: LossCounters,
    addresses: Array<MapData, Addresses>,
    /// Is empty for the kernel as soon as nobody holds it.
    first: ProgramArray<MapData>,
    xtables: XtMaps,
}

impl Maps {
    fn fill(ebpf: &mut Ebpf, setup: &Setup<'_>, counts: CountMaps) -> Result<Self, LoadError> {
        let mut filter = Array::try_from(take(ebpf, "FILTER")?)?;
        filter.set(0, setup.filter, 0)?;
        let mut reasons = aya::maps::HashMap::try_from(take(ebpf, "REASONS")?)?;
        for reason in setup.reasons {
            reasons.insert(reason, 1, 0)?;
        }
        let mut harmless = aya::maps::HashMap::try_from(take(ebpf, "HARMLESS")?)?;
        for reason in setup.harmless {
            harmless.insert(reason, 1, 0)?;
        }
        Ok(Self {
            _filter: filter,
            _reasons: reasons,
            _harmless: harmless,
            counts,
            details: Details::new(take(ebpf, "DETAILS")?, take(ebpf, "DETAIL_RATE")?)?,
            sightings: Sightings::new(take(ebpf, "SIGHTINGS")?)?,
            stacks: StackTraceMap::try_from(take(ebpf, "STACKS")?)?,
            conntrack: Array::try_from(take(ebpf, "CONNTRACK")?)?,
            rules: RuleMaps::take(ebpf)?,
            sockets: aya::maps::HashMap::try_from(take(ebpf, "SOCKETS")?)?,
            cgroups: aya::maps::HashMap::try_from(take(ebpf, "CGROUPS")?)?,
            first: ProgramArray::try_from(take(ebpf, "FIRST")?)?,
            xtables: XtMaps::take(ebpf)?,
            addresses: Array::try_from(take(ebpf, ".data")?)?,
            losses: LossCounters::new(take(ebpf, "LOSSES")?, take(ebpf, "UNLISTED")?)?,
        })
    }
}

/// The loaded and attached kernel programs. Dropping it detaches them; nothing
/// of them stays in the kernel.
pub struct Tracer {
    maps: Maps,
    watched: Vec<&'static str>,
    watches_conversations: bool,
    verdicts: Verdicts,
    /// Keeps the programs attached.
    ebpf: Ebpf,
}

impl Tracer {
    /// Loads and attaches everything.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a program or a map.
    pub fn start(loader: Loader, setup: &Setup<'_>) -> Result<Self, LoadError> {
        let mut ebpf = programs::load(loader, setup)?;
        let (counts, max_flows) = (take(&mut ebpf, "COUNTS")?, setup.max_flows);
        // One waits for the kernel while it verifies the others.
        let counts = thread::spawn(move || CountMaps::new(counts, max_flows));
        let for_conversations = sightings::tracepoints(setup.conversations);
        let wanted = verify::wanted(setup.config, for_conversations);
        let mut verified = verify::verify(&mut ebpf, setup.targets, &wanted);
        let counts = counts.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        let mut maps = Maps::fill(&mut ebpf, setup, counts)?;
        let attached = programs::attach(&mut ebpf, &mut verified, setup.config, &mut maps.first)?;
        let mut watched: Vec<_> = attached.iter().map(|program| program.name).collect();
        let programs = attached.into_iter().map(|attached| attached.program);
        maps.losses.watch(programs.collect());
        let watches_conversations = !for_conversations.is_empty()
            && match sightings::attach(&mut ebpf, &mut verified, for_conversations) {
                Ok(programs) => {
                    maps.losses.watch_conversations(programs);
                    watched.extend(for_conversations);
                    true
                }
                Err(error) => {
                    log::warn!("there is no verdict about conversations: {error}");
                    false
                }
            };
        if let Err(error) = maps.xtables.hold(&mut ebpf, &mut verified) {
            log::info!(
                "rules of the legacy backends are not told: the kernel refuses the program \
                 that reads its memory: {}",
                programs::verdict(&error)
            );
        }
        Ok(Self {
            maps,
            watched,
            watches_conversations,
            verdicts: Verdicts::default(),
            ebpf,
        })
    }

    /// The tracepoints and functions at which programs run.
    #[must_use]
    pub fn watched(&self) -> &[&'static str] {
        &self.watched
    }

    /// Whether the conversations that the filter selects are watched.
    #[must_use]
    pub const fn watches_conversations(&self) -> bool {
        self.watches_conversations
    }

    /// Takes away everything counted since the last call.
    ///
    /// Waits for an RCU grace period (some milliseconds) if there is anything.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to hand over a map.
    pub fn drain(&mut self) -> Result<Drained, MapError> {
        // First, so that a drop is known at the latest with what comes after it.
        let (sightings, too_many) = self.maps.sightings.take();
        let counts = self.maps.counts.take()?;
        let mut details = self.maps.details.take();
        let counts: Vec<_> = counts
            .into_iter()
            .map(|Counted { key, counts }| {
                let detail = details.first_of(&key, &counts);
                (key, counts, detail)
            })
            .collect();
        self.maps.details.keep(details);
        let has_unlisted = counts.iter().any(|(key, ..)| key.sketch != 0);
        let unlisted = if has_unlisted {
            self.maps.losses.take_unlisted()?
        } else {
            HashMap::new()
        };
        let mut losses = self.maps.losses.take()?;
        losses.sightings += too_many;
        Ok(Drained {
            counts,
            unlisted,
            sightings,
            losses,
        })
    }

    /// From now on, so many packets a second on each CPU are looked at closely.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn allow_details(&mut self, per_second: u64) -> Result<(), MapError> {
        self.maps.details.allow(per_second)
    }

    /// From the next interval on, so many flows are counted one by one.
    pub fn list_flows(&mut self, max_flows: u32) {
        self.maps.counts.list_flows(max_flows);
    }

    /// How long its programs have run, while the kernel took the time.
    #[must_use]
    pub fn run_time(&self) -> Duration {
        let programs = self.ebpf.programs();
        programs
            .filter_map(|(_, program)| Some(program.info().ok()?.run_time()))
            .sum()
    }

    /// Return addresses of a [`Detail`]'s call chain, innermost first; empty
    /// where there is none.
    #[must_use]
    pub fn stack(&self, id: i32) -> Vec<u64> {
        let Ok(id) = u32::try_from(id) else {
            return Vec::new();
        };
        self.maps
            .stacks
            .get(&id, 0)
            .map(|stack| stack.frames().iter().map(|frame| frame.ip).collect())
            .unwrap_or_default()
    }

    /// Where rules are told.
    pub fn rules(&mut self) -> &mut RuleMaps {
        &mut self.maps.rules
    }

    /// The same, and how kernel memory is read.
    pub fn rules_and_memory(&mut self) -> (&mut RuleMaps, &mut XtMaps) {
        (&mut self.maps.rules, &mut self.maps.xtables)
    }

    /// Where the counters of xtables rules are told.
    pub fn xtables(&mut self) -> &mut XtMaps {
        &mut self.maps.xtables
    }

    /// Says where the kernel's functions and variables lie. Until then some drops are told
    /// without what decided, and some packets without their flow.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn set_addresses(&mut self, addresses: &Addresses) -> Result<(), MapError> {
        self.maps.addresses.set(0, addresses, 0)
    }

    /// Says what a conntrack entry looks like.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn set_conntrack(&mut self, layout: &ConntrackLayout) -> Result<(), MapError> {
        self.maps.conntrack.set(0, layout, 0)
    }

    /// Sets the sockets that `--pid` selects, by inode number.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn select_sockets(&mut self, inodes: &[u64]) -> Result<(), MapError> {
        replace(&mut self.maps.sockets, inodes)
    }

    /// Sets the control groups that `--cgroup` selects, by identifier.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn select_cgroups(&mut self, ids: &[u64]) -> Result<(), MapError> {
        replace(&mut self.maps.cgroups, ids)
    }

    /// The programs' own debug messages, if [`Config::debug`] asked for them.
    ///
    /// # Errors
    ///
    /// If the programs were loaded without them.
    pub fn logger(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>, aya_log::Error> {
        aya_log::EbpfLogger::init(&mut self.ebpf)
    }
}

/// Name of the BPF program with this identifier; `None` where there is none.
#[must_use]
pub fn program_name(id: u32) -> Option<String> {
    let mut programs = aya::programs::loaded_programs();
    if id == 0 {
        return None;
    }
    let program = programs.find_map(|program| program.ok().filter(|info| info.id() == id))?;
    program.name_as_str().map(ToOwned::to_owned)
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::MissingMap(name))
}

fn replace(
    set: &mut aya::maps::HashMap<MapData, u64, u32>,
    wanted: &[u64],
) -> Result<(), MapError> {
    let stale: Vec<u64> = set
        .keys()
        .filter_map(Result::ok)
        .filter(|key| !wanted.contains(key))
        .collect();
    for key in wanted {
        set.insert(key, 1, 0)?;
    }
    for key in stale {
        match set.remove(&key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
