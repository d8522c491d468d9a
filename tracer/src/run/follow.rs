//! Keeps the sockets of `--pid` and the groups of `--cgroup` up to date while
//! they change.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::Failure;
use crate::{
    cli::Select,
    owner::{cgroup, sockets},
    tracer::Tracer,
};

/// A process's new socket is selected after this time at most.
const EVERY: Duration = Duration::from_millis(50);

/// Follows processes and control groups.
pub struct Follow {
    pids: Vec<u32>,
    cgroups: Vec<PathBuf>,
    sockets: Vec<u64>,
    groups: Vec<u64>,
}

impl Follow {
    /// Checks that they exist.
    pub fn new(select: &Select) -> Result<Self, Failure> {
        for pid in &select.pid {
            if !Path::new(&format!("/proc/{pid}")).exists() {
                return Err(Failure::Usage(format!(
                    "--pid {pid}: there is no such process (see `ps -e`)"
                )));
            }
        }
        for path in &select.cgroup {
            cgroup::tree(path).map_err(Failure::usage)?;
        }
        Ok(Self {
            pids: select.pid.clone(),
            cgroups: select.cgroup.clone(),
            sockets: Vec::new(),
            groups: Vec::new(),
        })
    }

    /// How often to call [`Self::update`]; `None` if there is nothing to follow.
    pub fn every(&self) -> Option<Duration> {
        let nothing = self.pids.is_empty() && self.cgroups.is_empty();
        (!nothing).then_some(EVERY)
    }

    /// Looks again, and tells the kernel programs what has changed.
    pub fn update(&mut self, tracer: &mut Tracer) -> anyhow::Result<()> {
        if !self.pids.is_empty() {
            let sockets = sockets::held_by(&self.pids);
            if sockets != self.sockets {
                tracer.select_sockets(&sockets)?;
                self.sockets = sockets;
            }
        }
        if !self.cgroups.is_empty() {
            let mut groups: Vec<u64> = self
                .cgroups
                .iter()
                .filter_map(|path| cgroup::tree(path).ok())
                .flatten()
                .collect();
            groups.sort_unstable();
            if groups != self.groups {
                tracer.select_cgroups(&groups)?;
                self.groups = groups;
            }
        }
        Ok(())
    }
}
