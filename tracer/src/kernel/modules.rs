//! Kernel modules whose types matter: read when they appear, which may be long
//! after the start.

use std::path::Path;

use droptrace_types::{ABSENT, ConntrackLayout};

use super::btf::{Btf, FOLDER};

/// Its conntrack entries are decoded.
pub const CONNTRACK: &str = "nf_conntrack";

/// Its rules are decoded.
pub const NFTABLES: &str = "nf_tables";

/// They have drop reasons of their own.
const WITH_REASONS: [&str; 2] = ["mac80211", "openvswitch"];

/// Those that have not appeared yet.
pub struct Modules {
    awaited: Vec<&'static str>,
}

impl Modules {
    /// Awaits the modules that `kernel`, the kernel's own BTF, does not already
    /// speak of.
    #[must_use]
    pub fn new(kernel: &Btf) -> Self {
        let mut awaited = WITH_REASONS.to_vec();
        let is_whole = |layout: ConntrackLayout| layout.helper_name != ABSENT;
        if !super::layout::conntrack(kernel).is_some_and(is_whole) {
            awaited.push(CONNTRACK);
        }
        if !super::layout::has_nftables(kernel) {
            awaited.push(NFTABLES);
        }
        Self { awaited }
    }

    /// Those that have appeared since the last call, with the kernel's types
    /// and theirs. Costs a look at a few files.
    pub fn appeared(&mut self) -> Vec<(&'static str, Btf)> {
        let is_there = |module: &&str| Path::new(FOLDER).join(module).exists();
        let (here, still_awaited) = self.awaited.iter().partition(|module| is_there(module));
        self.awaited = still_awaited;
        let here: Vec<&'static str> = here;
        here.into_iter()
            .filter_map(|module| match Btf::with_module(module) {
                Ok(btf) => Some((module, btf)),
                Err(error) => {
                    log::warn!("the kernel module {module} stays unknown: {error}");
                    None
                }
            })
            .collect()
    }
}
