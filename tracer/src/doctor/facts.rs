//! What is asked, once: the surroundings, the kernel's types and symbols, and
//! the kernel itself, which gets every program to verify.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, thread};

use droptrace_types::{ABSENT, Addresses, Config, ConntrackLayout, Filter, Layout};

use crate::{
    kernel::{
        btf::Btf,
        layout, modules,
        preflight::{self, Surroundings},
        reasons::Reasons,
        symbols::Symbols,
    },
    owner::cgroup,
    rules::{
        nft,
        trial::{self, Known},
    },
    tracer::{self, Loader, Means, Probed, Setup, TRACEPOINTS, Targets, Tracer, Watching},
    xtables,
};

/// Inode number of the machine's own PID namespace (`PROC_PID_INIT_INO`).
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h>
const MACHINE_PIDS: u64 = 0xEFFF_FFFC;

/// There where the kernel takes programs at its functions.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// Everything that the answers follow from.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent answers, none of which follows from another"
)]
#[derive(Clone, Debug)]
pub struct Facts {
    /// As `uname -r` says it.
    pub kernel: String,
    /// What stands in the way of tracing at all.
    pub obstacles: Vec<String>,
    /// From the kernel's BTF; `None` where it has none.
    pub types: Option<Types>,
    /// How the kernel takes each program. With [`Self::obstacles`] it could not
    /// be asked; then what its types promise.
    pub programs: Vec<Probed>,
    /// The kernel shows its symbols.
    pub sees_symbols: bool,
    /// Contents of `/proc/sys/kernel/kptr_restrict`.
    pub kptr_restrict: String,
    /// Which processes' open files can be seen.
    pub processes: Processes,
    /// Connection tracking is built in or loaded.
    pub tracks_connections: bool,
    /// Control groups of version 2 are mounted.
    pub has_cgroups: bool,
    /// The program `nft` is installed.
    pub has_nft: bool,
    /// What a trial found out, or why it could not be made.
    pub netfilter: Result<Netfilter, String>,
    /// The kernel takes programs at its functions (kprobes).
    pub has_kprobes: bool,
    /// So is the one that lists the rules of iptables' legacy backend.
    pub has_iptables: bool,
    /// And the one that lists those of ebtables'.
    pub has_ebtables: bool,
}

/// Which processes' open files can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processes {
    /// All.
    All,
    /// Those of a PID namespace inside the machine's.
    Inside,
    /// The user's own.
    Own,
}

/// What a trial found out about netfilter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netfilter {
    /// nftables is built in or loaded.
    pub has_nftables: bool,
    /// The rule that drops a packet is found.
    pub finds_rule: bool,
    /// It is seen by watching nftables' functions, or why not; not tried where it is
    /// found without, and where nftables is not there.
    pub watches_rule: Option<Result<(), String>>,
    /// So is the hook function that does.
    pub finds_function: bool,
}

/// What is known of the tables of a legacy backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// They are neither built in nor in a module that this kernel could load.
    Missing,
    /// Their module is not loaded.
    NotLoaded,
    /// It is, without its types.
    Unknown,
    /// What they look like.
    Known,
}

/// What the kernel's types tell.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent answers, none of which follows from another"
)]
#[derive(Clone, Debug)]
pub struct Types {
    /// What the programs are told, tracepoints' arguments among it.
    pub config: Config,
    /// And where the kernel's functions and variables lie.
    pub addresses: Addresses,
    /// Drop reasons that have names.
    pub reasons: usize,
    /// What TCP drops passes `kfree_skb` like everything else.
    pub tcp_drop_is_traced: bool,
    /// Packets have a place for their connection's entry.
    pub has_conntrack: bool,
    /// What such an entry looks like, as far as it is known now.
    pub conntrack: Option<ConntrackLayout>,
    /// Modules have BTF too, which can be read when they are loaded.
    pub modules_have_btf: bool,
    /// What is known of the tables of iptables and ip6tables.
    pub tables: Tables,
    /// And of those of ebtables.
    pub bridge_tables: Tables,
    /// A socket's control group can be reached.
    pub has_socket_cgroup: bool,
    /// The kernel counts for each program how often it skipped it.
    pub counts_skips: bool,
}

impl Facts {
    /// Asks. Attaches its programs for the moment of a trial, changes nothing, leaves
    /// nothing in the kernel.
    #[must_use]
    pub fn gather() -> Self {
        // Reading the symbols takes the kernel a while; meanwhile, the types.
        let symbols = thread::spawn(Symbols::of_running_kernel);
        let mut obstacles = match Surroundings::look() {
            Ok(surroundings) => told(surroundings.obstacles()),
            Err(error) => told([format!("cannot read /proc/self/status: {error}")]),
        };
        let btf = match Btf::of_running_kernel() {
            Ok(btf) => Some(btf),
            Err(error) => {
                if obstacles.is_empty() {
                    obstacles.push(error.to_string());
                }
                None
            }
        };
        let symbols = match symbols.join() {
            Ok(Ok(symbols)) => symbols,
            _ => Symbols::default(),
        };
        let mut programs = Vec::new();
        let mut types = None;
        let mut netfilter = Err("it could not be tried".to_owned());
        if let Some(btf) = btf {
            obstacles.extend(told(preflight::check_types(&btf).err()));
            match layout::layout(&btf) {
                Ok(layout) => {
                    let found = Types::find(&btf, &symbols, &layout);
                    programs = probe(&btf, &found, &layout, &mut obstacles);
                    if obstacles.is_empty() {
                        netfilter = try_netfilter(&btf, &found, &layout);
                    }
                    types = Some(found);
                }
                Err(error) => obstacles.push(error.to_string()),
            }
        }
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            obstacles,
            types,
            programs,
            sees_symbols: !symbols.is_empty(),
            kptr_restrict: read("/proc/sys/kernel/kptr_restrict"),
            processes: Processes::look(),
            tracks_connections: Path::new("/sys/module").join(modules::CONNTRACK).exists(),
            has_cgroups: cgroup::is_mounted(),
            has_nft: nft::is_installed(),
            netfilter,
            has_kprobes: Path::new(KPROBES).exists(),
            has_iptables: xtables::can_list(xtables::Family::Ip),
            has_ebtables: xtables::can_list(xtables::Family::Bridge),
        }
    }
}

impl Tables {
    /// Of the tables that this module has, of which the layout says what `known` takes
    /// from it.
    fn find<T>(btf: &Btf, module: &str, known: fn(&xtables::Layout) -> Option<T>) -> Self {
        let is_known = |btf: &Btf| xtables::Layout::of(btf).as_ref().and_then(known).is_some();
        let is_loaded = Path::new("/sys/module").join(module).exists();
        match Btf::with_module(module) {
            _ if is_known(btf) => Self::Known,
            Ok(module) if is_known(&module) => Self::Known,
            Err(_) if !is_loaded && !modules::is_loadable(module) => Self::Missing,
            Err(_) if !is_loaded && btf.offset("module", "btf_data").is_some() => Self::NotLoaded,
            _ => Self::Unknown,
        }
    }
}

impl Processes {
    fn look() -> Self {
        let pids = fs::metadata("/proc/self/ns/pid");
        if pids.is_ok_and(|namespace| namespace.ino() != MACHINE_PIDS) {
            Self::Inside
        } else if fs::read_dir("/proc/1/fd").is_ok() {
            Self::All
        } else {
            Self::Own
        }
    }
}

impl Types {
    fn find(btf: &Btf, symbols: &Symbols, layout: &Layout) -> Self {
        let in_module = || layout::conntrack(&Btf::with_module(modules::CONNTRACK).ok()?);
        // What TCP drops passes the tracepoint since it gives reasons.
        // <https://github.com/torvalds/linux/blob/v5.18/net/ipv4/tcp_input.c>
        let reasons = Reasons::from_btf(btf);
        let tcp_drop_is_traced = !reasons.named("TCP_OFOMERGE").is_empty();
        Self {
            config: layout::config(btf, &reasons),
            addresses: layout::addresses(symbols),
            reasons: reasons.drops(),
            tcp_drop_is_traced,
            has_conntrack: layout.skb_nfct != ABSENT,
            conntrack: layout::conntrack(btf).or_else(in_module),
            tables: Tables::find(btf, modules::XTABLES, |layout| layout.ip),
            bridge_tables: Tables::find(btf, modules::EBTABLES, |layout| layout.bridge),
            // A member that is there where modules have types.
            modules_have_btf: btf.offset("module", "btf_data").is_some(),
            has_socket_cgroup: [layout.sk_cgroup, layout.cgroup_kn, layout.kn_id]
                .iter()
                .all(|offset| *offset != ABSENT),
            counts_skips: btf.offset("bpf_prog_info", "recursion_misses").is_some(),
        }
    }
}

fn setup<'a>(targets: &'a Targets, config: &'a Config, layout: &'a Layout) -> Setup<'a> {
    Setup {
        targets,
        layout,
        config,
        filter: &Filter::ALL,
        reasons: &[],
        max_flows: 1,
        harmless: &[],
        conversations: Watching::Nothing,
    }
}

/// Makes the trial that every run begins with.
fn try_netfilter(btf: &Btf, types: &Types, layout: &Layout) -> Result<Netfilter, String> {
    let mut tracer = Targets::of(btf, &types.config)
        .and_then(|targets| {
            Tracer::start(Loader::default(), &setup(&targets, &types.config, layout))
        })
        .map_err(|error| error.to_string())?;
    tracer
        .set_addresses(&types.addresses)
        .map_err(|error| error.to_string())?;
    let mut known = Known::new(&types.addresses, layout);
    let in_module = || layout::rules(&Btf::with_module(modules::NFTABLES).ok()?);
    if let Some(rules) = layout::rules(btf).or_else(in_module) {
        let told = tracer.rules().set_layout(&rules);
        known.has_rules = told.is_ok();
    }
    known.has_nftables = known.has_rules || modules::is_loaded(modules::NFTABLES);
    let mut places = trial::find(tracer.rules(), &known).map_err(|error| error.to_string())?;
    let finds_rule = places.chain.is_known != 0;
    let watches_rule = (known.has_nftables && !finds_rule).then(|| {
        let watched = trial::verdicts::watch(&mut tracer, &mut places);
        watched.map_err(|error| error.to_string())
    });
    Ok(Netfilter {
        has_nftables: known.has_nftables,
        finds_rule,
        watches_rule,
        finds_function: places.hook.is_known != 0,
    })
}

/// Lets the kernel verify every program, or says what its types promise.
fn probe(btf: &Btf, types: &Types, layout: &Layout, obstacles: &mut Vec<String>) -> Vec<Probed> {
    let functions = tracer::functions(&types.config);
    if obstacles.is_empty() {
        let probed = Targets::of(btf, &types.config).and_then(|targets| {
            tracer::probe(Loader::default(), &setup(&targets, &types.config, layout))
        });
        match probed {
            Ok(programs) => {
                let refused = programs.iter().find_map(|(name, means)| {
                    let why = means.as_ref().err()?;
                    let is_needed = TRACEPOINTS.contains(name);
                    is_needed.then(|| format!("the kernel refuses the program for {name}: {why}"))
                });
                obstacles.extend(refused);
                return programs;
            }
            Err(error) => obstacles.push(error.to_string()),
        }
    }
    let promised = |is_there: bool, means| {
        if is_there {
            Ok(means)
        } else {
            Err("this kernel does not have it".to_owned())
        }
    };
    let tracepoints = TRACEPOINTS.iter().map(|name| {
        let is_there = btf.tracepoint_arguments(name).is_some();
        (*name, promised(is_there, Means::BtfTracepoint))
    });
    let functions = functions
        .iter()
        .map(|name| (*name, promised(btf.function(name).is_some(), Means::Fentry)));
    tracepoints.chain(functions).collect()
}

fn told(things: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
    things.into_iter().map(|thing| thing.to_string()).collect()
}

fn read(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}
