//! Kernel modules whose types matter: read when they appear, which may be long
//! after the start.

use std::{fs, path::Path};

use droptrace_types::{ABSENT, ConntrackLayout};

use super::btf::{Btf, FOLDER};

/// Its conntrack entries are decoded.
pub const CONNTRACK: &str = "nf_conntrack";

/// Its rules are decoded.
pub const NFTABLES: &str = "nf_tables";

/// Its tables are read.
pub const XTABLES: &str = "x_tables";

/// So are its.
pub const EBTABLES: &str = "ebtables";

/// They have drop reasons of their own.
const WITH_REASONS: [&str; 2] = ["mac80211", "openvswitch"];

/// Whether the module is loaded. Of what is built in this says nothing.
#[must_use]
pub fn is_loaded(module: &str) -> bool {
    Path::new("/sys/module")
        .join(module)
        .join("refcnt")
        .exists()
}

/// Whether the running kernel could load the module, as far as its list of modules
/// is there and tells.
#[must_use]
pub fn is_loadable(module: &str) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let list = format!("/lib/modules/{}/modules.dep", release.trim());
    let is_listed = |list: String| is_in(&list, module);
    Path::new("/proc/modules").exists() && fs::read_to_string(list).map_or(true, is_listed)
}

/// From the text of `modules.dep`.
fn is_in(list: &str, module: &str) -> bool {
    let files = list.lines().filter_map(|line| line.split(':').next());
    let mut names = files.filter_map(|file| file.rsplit('/').next()?.split('.').next());
    names.any(|name| name == module)
}

/// The loaded modules of nftables, by name.
#[must_use]
pub fn of_nftables() -> Vec<String> {
    nftables_in(&fs::read_to_string("/proc/modules").unwrap_or_default())
}

/// From the text of `/proc/modules`.
fn nftables_in(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let of_nftables = names.filter(|name| *name == NFTABLES || name.starts_with("nft_"));
    let mut names: Vec<String> = of_nftables.map(ToOwned::to_owned).collect();
    names.sort_unstable();
    names
}

/// The loaded module whose code is at an address; `None` where it is the kernel's
/// own.
#[must_use]
pub fn owner(address: u64) -> Option<String> {
    owner_in(&fs::read_to_string("/proc/modules").ok()?, address)
}

/// From the text of `/proc/modules`: the module that begins nearest before.
fn owner_in(text: &str, address: u64) -> Option<String> {
    let modules = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let name = words.next()?;
        let size: u64 = words.next()?.parse().ok()?;
        let start = words.nth(3)?.strip_prefix("0x")?;
        let start = u64::from_str_radix(start, 16).ok()?;
        (start != 0 && (start..start + size).contains(&address)).then_some((start, name))
    });
    modules.max().map(|(_, name)| name.to_owned())
}

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
        if kernel.offset("xt_table", "private").is_none() {
            awaited.push(XTABLES);
        }
        if kernel.offset("ebt_table", "private").is_none() {
            awaited.push(EBTABLES);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_module_around_it() {
        let text = "nf_nat 61440 2 nft_nat,nft_chain_nat, Live 0xffffffffc0b00000\n\
            nf_conntrack 188416 4 nf_nat,nft_ct, Live 0xffffffffc0a00000 (E)\n\
            hidden 4096 0 - Live 0x0000000000000000\nbroken line\n";
        let owner = |address| owner_in(text, address);
        assert_eq!(owner(0xffff_ffff_c0b0_0010).as_deref(), Some("nf_nat"));
        assert_eq!(
            owner(0xffff_ffff_c0a0_0000).as_deref(),
            Some("nf_conntrack")
        );
        assert_eq!(owner(0xffff_ffff_8100_0000), None);
        assert_eq!(owner(0x10), None);
    }

    #[test]
    fn a_module_is_listed_by_its_file() {
        let list = "kernel/net/bridge/netfilter/ebtables.ko.xz: kernel/net/netfilter/x_tables.ko\n\
            kernel/net/bridge/netfilter/ebtable_nat.ko:\n";
        assert!(is_in(list, "ebtables"));
        assert!(is_in(list, "ebtable_nat"));
        assert!(!is_in(list, "x_tables"));
        assert!(!is_in("", "ebtables"));
    }

    #[test]
    fn modules_of_nftables_are_told_from_others() {
        let text = "nft_ct 20480 1 - Live 0x0\nnf_conntrack 188416 1 nft_ct, Live 0x0\n\
            nf_tables 303104 60 nft_ct, Live 0x0\n";
        assert_eq!(nftables_in(text), ["nf_tables", "nft_ct"]);
    }
}
