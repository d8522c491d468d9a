//! What connection tracking says when it is asked after a drop: which
//! connections it knows, how full its table is, what it has counted.

mod entry;
mod table;
mod tuple;

use std::{
    collections::HashMap,
    fs::File,
    path::PathBuf,
    time::{Duration, Instant},
};

pub use self::{
    entry::{Entry, tcp_state_name},
    table::{Counted, Table},
    tuple::{Ends, Tuple},
};
use crate::owner::netns;

/// Asking may take one part in so many of the time,
const SHARE: u32 = 10;
/// beside what may be used at once: the first question may have the kernel load a module.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Namespaces of which it is remembered where they were found.
const MAX_REMEMBERED: usize = 1024;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The namespace's table as a whole.
    pub table: Table,
    /// For each tuple that was asked for, the connection that has it in one of its
    /// directions.
    pub entries: Vec<Option<Entry>>,
}

/// Asks, within the bounds of time.
#[derive(Debug)]
pub struct Conntrack {
    places: HashMap<u32, PathBuf>,
    since: Instant,
    spent: Duration,
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            since: Instant::now(),
            spent: Duration::ZERO,
        }
    }
}

impl Conntrack {
    /// Asks in the namespace with this inode number. `None` where it cannot be
    /// asked, tracks nothing, or so much was asked lately that it has to wait.
    pub fn ask(&mut self, netns: u32, tuples: &[Tuple]) -> Option<Answer> {
        let start = Instant::now();
        if self.spent > AT_ONCE + (start - self.since) / SHARE {
            return None;
        }
        let file = self.open(netns);
        let answer = file.and_then(|file| {
            let asked = netns::enter(&file, || {
                let table = Table::of_this_namespace()?;
                let entries: std::io::Result<Vec<_>> = tuples.iter().map(entry::find).collect();
                entries
                    .inspect_err(|error| log::debug!("cannot ask connection tracking: {error}"))
                    .ok()
                    .map(|entries| Answer { table, entries })
            });
            asked.ok().flatten()
        });
        self.spent += start.elapsed();
        answer
    }

    fn open(&mut self, netns: u32) -> Option<File> {
        let known = self.places.get(&netns);
        if let Some((_, file)) = known.and_then(|place| netns::open_at(place, netns)) {
            return Some(file);
        }
        let (place, file) = netns::open(netns)?;
        if self.places.len() >= MAX_REMEMBERED {
            self.places.clear();
        }
        self.places.insert(netns, place);
        Some(file)
    }
}
