//! Where the members of the kernel's structs stand that lead to its tables.

use super::{bridge, family::Family};
use crate::kernel::btf::Btf;

/// Byte offsets of struct members.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// `task_struct.nsproxy`
    pub task_nsproxy: u32,
    /// `nsproxy.net_ns`
    pub nsproxy_net: u32,
    /// `net.ns.inum`
    pub net_inum: u32,
    /// `bpf_array.pptrs`
    pub array_elements: u32,
    /// Of iptables' and ip6tables' tables, as far as they are known.
    pub ip: Option<IpLayout>,
    /// Of ebtables' tables, likewise.
    pub bridge: Option<BridgeLayout>,
}

/// What tables of iptables and ip6tables look like.
#[derive(Clone, Copy, Debug)]
pub struct IpLayout {
    /// How they are found.
    pub reach: Reach,
    /// Bytes of `xt_table`
    pub table_size: u32,
    /// `xt_table.list`
    pub table_list: u32,
    /// `xt_table.valid_hooks`
    pub table_hooks: u32,
    /// `xt_table.private`
    pub table_info: u32,
    /// `xt_table.af`
    pub table_family: u32,
    /// `xt_table.name`
    pub table_name: u32,
    /// `xt_table_info.size`
    pub info_size: u32,
    /// `xt_table_info.number`
    pub info_number: u32,
    /// `xt_table_info.hook_entry`
    pub info_entry: u32,
    /// `xt_table_info.underflow`
    pub info_underflow: u32,
    /// `xt_table_info.entries`
    pub info_entries: u32,
}

/// What tables of ebtables look like.
#[derive(Clone, Copy, Debug)]
pub struct BridgeLayout {
    /// How they are found.
    pub reach: BridgeReach,
    /// `ebt_table_info.entries_size`
    pub info_size: u32,
    /// `ebt_table_info.nentries`
    pub info_number: u32,
    /// `ebt_table_info.hook_entry`
    pub info_entry: u32,
    /// `ebt_table_info.entries`
    pub info_entries: u32,
    /// `ebt_table_info.counters`
    pub info_counters: u32,
    /// `SMP_CACHE_BYTES`: each CPU's counters begin at a multiple of it.
    pub cache_line: u32,
    /// The hooks, a bit each, at which the kernel side sees every drop.
    pub seen: u8,
}

/// How a namespace's tables of ebtables are found.
#[derive(Clone, Copy, Debug)]
pub enum BridgeReach {
    /// The namespace has a pointer to each of those that drop.
    Pointers {
        /// `net.xt.frame_filter`; that of `nat` stands behind it.
        at: u32,
    },
    /// The hooks have them as their own data (since Linux 5.13).
    /// <https://github.com/torvalds/linux/commit/4c95e0728eee33df6b029a5fca82a67daeca201e>
    Hooks {
        /// `net.nf.hooks_bridge`
        at: u32,
        /// What stands there.
        entries: HookEntries,
        /// Bytes of `ebt_table`
        table_size: u32,
        /// `ebt_table.name`
        table_name: u32,
        /// `ebt_table.private`
        table_info: u32,
    },
}

/// How a namespace's tables of iptables are found.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// The namespace has lists of them, by family.
    Lists {
        /// `net.xt.tables`
        at: u32,
    },
    /// The hooks have them as their own data (since Linux 5.13).
    /// <https://github.com/torvalds/linux/commit/ae689334225ff0e4ef112459ecd24aea932c2b00>
    Hooks {
        /// `net.nf.hooks_ipv4`
        ipv4: u32,
        /// `net.nf.hooks_ipv6`
        ipv6: u32,
        /// What stands there.
        entries: HookEntries,
    },
}

/// Where a namespace has its tables of one family.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// In a list.
    List {
        /// In `struct net`.
        at: u32,
        /// In the table.
        link: u32,
    },
    /// By two pointers.
    Pointers {
        /// In `struct net`.
        at: u32,
    },
    /// At the hooks.
    Hooks {
        /// In `struct net`.
        at: u32,
        /// What stands there.
        entries: HookEntries,
    },
}

/// What a netfilter hook has.
#[derive(Clone, Copy, Debug)]
pub struct HookEntries {
    /// `nf_hook_entries.num_hook_entries`
    pub count: u32,
    /// `nf_hook_entries.hooks`
    pub hooks: u32,
    /// Bytes of `nf_hook_entry`
    pub size: u32,
    /// `nf_hook_entry.priv`
    pub data: u32,
}

impl Layout {
    /// As the types say; `None` where they do not lead to a namespace. Those of one
    /// module do not speak of the tables of another.
    #[must_use]
    pub fn of(btf: &Btf) -> Option<Self> {
        Some(Self {
            task_nsproxy: btf.offset("task_struct", "nsproxy")?,
            nsproxy_net: btf.offset("nsproxy", "net_ns")?,
            net_inum: btf.offset("net", "ns.inum")?,
            array_elements: btf.offset("bpf_array", "pptrs")?,
            ip: IpLayout::of(btf),
            bridge: BridgeLayout::of(btf),
        })
    }

    /// Where a namespace has its tables of a family; `None` where that is not known.
    #[must_use]
    pub fn way(&self, family: Family) -> Option<Way> {
        if family == Family::Bridge {
            return Some(match self.bridge?.reach {
                BridgeReach::Pointers { at } => Way::Pointers { at },
                BridgeReach::Hooks { at, entries, .. } => Way::Hooks { at, entries },
            });
        }
        let ip = self.ip?;
        Some(match ip.reach {
            Reach::Lists { at } => Way::List {
                // An array of `struct list_head`.
                at: at + u32::from(family.number()) * 16,
                link: ip.table_list,
            },
            Reach::Hooks {
                ipv4,
                ipv6,
                entries,
            } => {
                let at = if family == Family::Ip { ipv4 } else { ipv6 };
                Way::Hooks { at, entries }
            }
        })
    }

    /// The same, where the kernel side sees what bridges drop at prerouting.
    #[must_use]
    pub fn with_prerouting(self) -> Self {
        Self {
            bridge: self.bridge.map(|known| BridgeLayout {
                seen: known.seen | bridge::PRE_ROUTING,
                ..known
            }),
            ..self
        }
    }

    /// The same without what it knows of tables.
    #[must_use]
    pub const fn without_tables(self) -> Self {
        Self {
            ip: None,
            bridge: None,
            ..self
        }
    }

    /// Adds what another one knows; whether that was anything new.
    pub fn learn(&mut self, other: &Self) -> bool {
        let has_new = (self.ip.is_none() && other.ip.is_some())
            || (self.bridge.is_none() && other.bridge.is_some());
        self.ip = self.ip.or(other.ip);
        self.bridge = self.bridge.or(other.bridge);
        has_new
    }
}

impl IpLayout {
    fn of(btf: &Btf) -> Option<Self> {
        Some(Self {
            reach: Reach::of(btf)?,
            table_size: btf.size("xt_table")?,
            table_list: btf.offset("xt_table", "list")?,
            table_hooks: btf.offset("xt_table", "valid_hooks")?,
            table_info: btf.offset("xt_table", "private")?,
            table_family: btf.offset("xt_table", "af")?,
            table_name: btf.offset("xt_table", "name")?,
            info_size: btf.offset("xt_table_info", "size")?,
            info_number: btf.offset("xt_table_info", "number")?,
            info_entry: btf.offset("xt_table_info", "hook_entry")?,
            info_underflow: btf.offset("xt_table_info", "underflow")?,
            info_entries: btf.offset("xt_table_info", "entries")?,
        })
    }
}

impl BridgeLayout {
    fn of(btf: &Btf) -> Option<Self> {
        let cache_line = cache_line(btf)?;
        if let Some(at) = btf.offset("net", "xt.frame_filter") {
            let is_next = btf.offset("net", "xt.frame_nat") == Some(at + 8);
            return is_next.then_some(Self::without_types(at, cache_line));
        }
        Some(Self {
            reach: BridgeReach::Hooks {
                at: btf.offset("net", "nf.hooks_bridge")?,
                entries: HookEntries::of(btf)?,
                table_size: btf.size("ebt_table")?,
                table_name: btf.offset("ebt_table", "name")?,
                table_info: btf.offset("ebt_table", "private")?,
            },
            info_size: btf.offset("ebt_table_info", "entries_size")?,
            info_number: btf.offset("ebt_table_info", "nentries")?,
            info_entry: btf.offset("ebt_table_info", "hook_entry")?,
            info_entries: btf.offset("ebt_table_info", "entries")?,
            info_counters: btf.offset("ebt_table_info", "counters")?,
            cache_line,
            seen: bridge::OF_HOOK_SLOW,
        })
    }

    /// Where the namespace itself has tables, the kernel's types speak of them by name
    /// only, and modules may have none. What their rules hang on has had this form ever
    /// since; every table proves it, by what is found there.
    /// <https://github.com/torvalds/linux/blob/v5.10/include/linux/netfilter_bridge/ebtables.h>
    const fn without_types(at: u32, cache_line: u32) -> Self {
        Self {
            reach: BridgeReach::Pointers { at },
            info_size: 0,
            info_number: 4,
            info_entry: 8,
            info_entries: 64,
            info_counters: 72_u32.next_multiple_of(cache_line),
            cache_line,
            seen: bridge::OF_HOOK_SLOW,
        }
    }
}

/// `SMP_CACHE_BYTES`, as a struct shows it of which one begins at 0 and the next is
/// aligned to it: its place tells, if what stands before it does not fill the half.
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/ptr_ring.h>
fn cache_line(btf: &Btf) -> Option<u32> {
    let next = btf.offset("ptr_ring", "consumer_head")?;
    let before = btf.offset("ptr_ring", "producer_lock")? + btf.size("spinlock_t")?;
    (next.is_power_of_two() && before <= next / 2).then_some(next)
}

impl Reach {
    fn of(btf: &Btf) -> Option<Self> {
        if let Some(at) = btf.offset("net", "xt.tables") {
            return Some(Self::Lists { at });
        }
        Some(Self::Hooks {
            ipv4: btf.offset("net", "nf.hooks_ipv4")?,
            ipv6: btf.offset("net", "nf.hooks_ipv6")?,
            entries: HookEntries::of(btf)?,
        })
    }
}

impl HookEntries {
    fn of(btf: &Btf) -> Option<Self> {
        Some(Self {
            count: btf.offset("nf_hook_entries", "num_hook_entries")?,
            hooks: btf.offset("nf_hook_entries", "hooks")?,
            size: btf.size("nf_hook_entry")?,
            data: btf.offset("nf_hook_entry", "priv")?,
        })
    }
}
