//! Which rule of iptables' or ebtables' legacy backend dropped a packet.
//!
//! Every xtables rule has counters that rise when it matches, one for each CPU. The
//! kernel side compares those of the rules that drop, when a packet is dropped
//! (`tracer-ebpf/src/xtables.rs`). Here is found out, beforehand, which tables a
//! network namespace has, where their counters are, and which chain, number and
//! text belongs to each; and afterwards, whether the tables are still the same.
//!
//! No table is asked for that is not there: asking for one would load it.

mod blocks;
mod bridge;
mod family;
mod layout;
mod locate;
mod namespace;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod walk;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use droptrace_types::{XT_NETNS, XT_NETNS_BLOCKS, XtBlock, XtGroup, XtRule};

use self::{
    blocks::Slots,
    locate::Reader,
    namespace::{Known, read},
    table::Now,
};
pub use self::{
    family::Family,
    layout::Layout,
    text::{can_list, program},
};
use crate::owner::netns;

/// A namespace without tables is looked at again at most so often.
const AGAIN: Duration = Duration::from_secs(1);
/// Such namespaces that are remembered.
const MAX_WITHOUT: usize = 1024;
/// Registering a namespace again, or looking through its tables, may take one part in
/// so many of the time.
const SHARE: u32 = 4;
/// What reading a block costs the kernel side, beside what each counter does.
const COST: u32 = 8;

/// What the kernel side does for this.
pub trait Kernel: Send {
    /// Reads kernel memory.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, or there is none.
    fn read(&mut self, address: u64, into: &mut [u8]) -> io::Result<()>;

    /// Where what belongs to the calling thread and to this CPU is.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    fn whereabouts(&mut self) -> io::Result<Whereabouts>;

    /// Writes a block.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    fn set_block(&mut self, slot: u32, block: &XtBlock) -> io::Result<()>;

    /// Lets each CPU take the counters as they are. `base` is the address of its
    /// per-CPU memory.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    fn settle(&mut self, group: &XtGroup, base: u64) -> io::Result<()>;

    /// From now on, drops in this namespace are looked at; with `None`, no more.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    fn set_group(&mut self, netns: u32, group: Option<&XtGroup>) -> io::Result<()>;
}

/// Addresses.
#[derive(Clone, Copy, Debug)]
pub struct Whereabouts {
    /// The thread's `struct task_struct`.
    pub task: u64,
    /// The map of what each CPU remembers.
    pub map: u64,
}

/// What was dropped, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Dropped {
    /// In which namespace.
    pub netns: u32,
    /// By which rule, if that is known.
    pub rule: Option<XtRule>,
    /// By a hook function, for certain: a bridge also drops frames of its own accord.
    pub is_by_hook: bool,
}

/// A rule, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which tool's.
    pub family: Family,
    /// Name of the table.
    pub table: String,
    /// Name of the chain.
    pub chain: String,
    /// In the chain, from 1 on; `None` for its policy.
    pub number: Option<usize>,
    /// As `iptables-legacy -S` or `ebtables-legacy -L --Lx` prints it.
    pub text: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
    /// What it does with a packet.
    pub verdict: String,
    /// Nothing speaks for another one.
    pub exact: bool,
    /// Its counter told; else, that no other one had moved.
    pub is_counted: bool,
    /// A file that stands for the namespace; `None` for the tracer's own.
    pub namespace: Option<PathBuf>,
}

/// The tables of the machine's namespaces.
#[derive(Debug, Default)]
pub struct Tables {
    layout: Option<Layout>,
    /// Address of the kernel side's per-CPU memory.
    base: u64,
    /// Each CPU has counters of its own.
    per_cpu: bool,
    slots: Slots,
    last_serial: u32,
    known: HashMap<u32, Known>,
    /// Namespaces that had no tables, or none that could be read, and when that may
    /// be asked again.
    without: HashMap<u32, Instant>,
    /// Slots that the kernel side may have been using until now.
    leaving: Vec<Range<usize>>,
    complained: HashSet<&'static str>,
}

/// Why no rules are told.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("a network namespace could not be entered: {0}")]
    Enter(io::Error),
    #[error("the kernel's memory could not be read: {0}")]
    Memory(io::Error),
    #[error("a table is not in the form that is known")]
    Form,
    #[error("there are too many rules that drop")]
    Many,
    #[error("the kernel side refuses: {0}")]
    Refused(io::Error),
}

impl Trouble {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Enter(_) => "enter",
            Self::Memory(_) => "memory",
            Self::Form => "form",
            Self::Many => "many",
            Self::Refused(_) => "refused",
        }
    }
}

impl Tables {
    /// Learns what tables look like, and registers those that there are: in the
    /// tracer's own namespace, in those with a name, and in those of processes. What
    /// is not known yet may be learnt later.
    pub fn learn(&mut self, more: &Layout, kernel: &mut impl Kernel) {
        let mut layout = self.layout.unwrap_or_else(|| more.without_tables());
        if !layout.learn(more) {
            return;
        }
        let base = kernel.whereabouts().and_then(|whereabouts| {
            let mut reader = Reader {
                kernel,
                layout: &layout,
            };
            reader.long(whereabouts.map.wrapping_add(layout.array_elements.into()))
        });
        match base {
            Ok(base) => {
                self.base = base;
                self.per_cpu = cpus() > 1;
                self.layout = Some(layout);
            }
            Err(error) => {
                self.complain(&Trouble::Memory(error));
                return;
            }
        }
        for (inode, path, file) in netns::all(XT_NETNS) {
            self.register(inode, path, &file, kernel);
        }
    }

    /// The rules that dropped packets since the last call, by their words in the
    /// counts' keys. `skipped` says that the kernel side did not see all drops.
    /// Also sees to it that what has changed is registered anew.
    pub fn find(
        &mut self,
        dropped: &[Dropped],
        skipped: bool,
        kernel: &mut impl Kernel,
    ) -> HashMap<u64, Found> {
        let Some(layout) = self.layout else {
            return HashMap::new();
        };
        for row in std::mem::take(&mut self.leaving) {
            self.slots.give_back(row);
        }
        let nameless = dropped.iter().filter(|drop| drop.rule.is_none());
        let unexplained: HashSet<u32> = nameless
            .clone()
            .filter(|drop| drop.is_by_hook)
            .map(|drop| drop.netns)
            .collect();
        let nameless: HashSet<u32> = nameless.map(|drop| drop.netns).collect();
        let mut found = HashMap::new();
        let mut changed = HashSet::new();
        let mut now = HashMap::new();
        for drop in dropped {
            let Some(at) = drop.rule else { continue };
            let known = self.known.get(&drop.netns);
            let Some(known) = known.filter(|known| known.group.serial == at.serial) else {
                continue;
            };
            let Some((table, decider)) = known.watched(at) else {
                continue;
            };
            let now = *now.entry((drop.netns, table.info)).or_insert_with(|| {
                let mut reader = Reader {
                    kernel,
                    layout: &layout,
                };
                table.now(self.per_cpu, &mut reader)
            });
            if now == Now::Uncertain {
                changed.insert(drop.netns);
                continue;
            }
            let exact = now == Now::Same && !skipped && !unexplained.contains(&drop.netns);
            let namespace = (known.path != Path::new(netns::OWN)).then(|| known.path.clone());
            if let Some(told) = table.found(decider, exact, namespace) {
                found.insert(at.pack(), told);
            }
        }
        self.keep_up(&layout, changed, &unexplained, skipped, kernel);
        for inode in nameless {
            let is_too_soon = |then: &Instant| *then > Instant::now();
            if !self.known.contains_key(&inode)
                && !self.without.get(&inode).is_some_and(is_too_soon)
            {
                self.register_found(inode, kernel);
            }
        }
        found
    }

    /// Registers anew what has changed. In the namespaces of `unexplained` drops, a
    /// table is compared as a whole: its memory may be that of one that is gone.
    fn keep_up(
        &mut self,
        layout: &Layout,
        mut changed: HashSet<u32>,
        unexplained: &HashSet<u32>,
        skipped: bool,
        kernel: &mut impl Kernel,
    ) {
        let now = Instant::now();
        for (inode, known) in &mut self.known {
            if skipped && let Err(error) = kernel.settle(&known.group, self.base) {
                log::debug!("counters of rules stay unsettled: {error}");
            }
            let mut reader = Reader { kernel, layout };
            if !known.is_at_rest(*inode, &mut reader).unwrap_or(false) {
                changed.insert(*inode);
            } else if unexplained.contains(inode) && known.not_before <= now {
                let start = Instant::now();
                if known.is_same(self.per_cpu, &mut reader) {
                    known.not_before = now + start.elapsed() * SHARE;
                } else {
                    changed.insert(*inode);
                }
            }
        }
        changed.retain(|inode| {
            self.known
                .get(inode)
                .is_none_or(|known| known.not_before <= now)
        });
        for inode in changed {
            self.register_found(inode, kernel);
        }
    }

    /// Registers a namespace where it was before, or wherever it is.
    fn register_found(&mut self, inode: u32, kernel: &mut impl Kernel) {
        let before = self.known.get(&inode).map(|known| known.path.clone());
        let opened = before
            .and_then(|path| netns::open_at(&path, inode))
            .or_else(|| netns::open(inode));
        match opened {
            Some((path, file)) => self.register(inode, path, &file, kernel),
            None => self.forget(inode, kernel),
        }
    }

    /// Registers the tables that a namespace has now.
    fn register(&mut self, inode: u32, path: PathBuf, file: &File, kernel: &mut impl Kernel) {
        let Some(layout) = self.layout else { return };
        let start = Instant::now();
        let per_cpu = self.per_cpu;
        let read = netns::enter(file, || read(&layout, per_cpu, kernel))
            .unwrap_or_else(|error| Err(Trouble::Enter(error)));
        let result = read.and_then(|found| {
            if let Some(trouble) = &found.trouble {
                self.complain(trouble);
            }
            if found.tables.is_empty() {
                return Ok(false);
            }
            let known = Known {
                path,
                net: found.net,
                signs: found.signs,
                tables: found.tables,
                watched: Vec::new(),
                slots: 0..0,
                group: XtGroup::default(),
                not_before: Instant::now() + start.elapsed() * SHARE,
            };
            self.watch(inode, known, kernel).map(|()| true)
        });
        if let Err(trouble) = &result {
            self.complain(trouble);
        }
        if !result.unwrap_or(false) {
            self.forget(inode, kernel);
            if self.without.len() >= MAX_WITHOUT {
                self.without.clear();
            }
            self.without.insert(inode, Instant::now() + AGAIN);
        }
    }

    /// Lets the kernel side watch a namespace's counters.
    fn watch(
        &mut self,
        inode: u32,
        mut known: Known,
        kernel: &mut impl Kernel,
    ) -> Result<(), Trouble> {
        if self.last_serial >= XtRule::MAX_SERIAL
            || (!self.known.contains_key(&inode) && self.known.len() >= XT_NETNS)
        {
            return Err(Trouble::Many);
        }
        self.last_serial += 1;
        let mut all = Vec::new();
        for (index, table) in known.tables.iter().enumerate() {
            let some = table.blocks(self.last_serial, self.per_cpu);
            for (block, rules) in some.ok_or(Trouble::Many)? {
                all.push(block);
                known.watched.push((index, rules));
            }
        }
        if all.len() > XT_NETNS_BLOCKS as usize {
            return Err(Trouble::Many);
        }
        known.slots = self.slots.take(all.len()).ok_or(Trouble::Many)?;
        let as_u32 = |number| u32::try_from(number).map_err(|_| Trouble::Many);
        known.group = XtGroup {
            first: as_u32(known.slots.start)?,
            count: as_u32(all.len())?,
            serial: self.last_serial,
            cost: all.iter().map(|block| COST + block.count).sum(),
            policies: all.iter().fold(0, |hooks, block| hooks | block.policies),
        };
        let group = known.group;
        let mut set = || {
            for (slot, block) in (group.first..).zip(&all) {
                kernel.set_block(slot, block)?;
            }
            kernel.settle(&group, self.base)?;
            kernel.set_group(inode, (group.count > 0).then_some(&group))
        };
        if let Err(error) = set() {
            self.leaving.push(known.slots);
            return Err(Trouble::Refused(error));
        }
        self.without.remove(&inode);
        if let Some(old) = self.known.insert(inode, known) {
            self.leaving.push(old.slots);
        }
        Ok(())
    }

    fn forget(&mut self, inode: u32, kernel: &mut impl Kernel) {
        if let Some(known) = self.known.remove(&inode) {
            self.leaving.push(known.slots);
            // One that is gone has no drops.
            let _ = kernel.set_group(inode, None);
        }
    }

    /// Says once what is wrong.
    fn complain(&mut self, trouble: &Trouble) {
        if self.complained.insert(trouble.kind()) {
            log::info!("records do not name all rules of the legacy backends: {trouble}");
        }
    }
}

/// How many CPUs there may ever be.
fn cpus() -> usize {
    aya::util::nr_cpus().unwrap_or(1)
}
