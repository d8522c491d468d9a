//! Where the members of the kernel's structs stand that lead to its tables.

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
    /// How tables are found.
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

/// How a namespace's tables are found.
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
        /// `nf_hook_entries.num_hook_entries`
        count: u32,
        /// `nf_hook_entries.hooks`
        hooks: u32,
        /// Bytes of `nf_hook_entry`
        size: u32,
        /// `nf_hook_entry.priv`
        data: u32,
    },
}

impl Layout {
    /// As the types say; `None` where they do not speak of tables.
    #[must_use]
    pub fn of(btf: &Btf) -> Option<Self> {
        Some(Self {
            task_nsproxy: btf.offset("task_struct", "nsproxy")?,
            nsproxy_net: btf.offset("nsproxy", "net_ns")?,
            net_inum: btf.offset("net", "ns.inum")?,
            array_elements: btf.offset("bpf_array", "pptrs")?,
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

impl Reach {
    fn of(btf: &Btf) -> Option<Self> {
        if let Some(at) = btf.offset("net", "xt.tables") {
            return Some(Self::Lists { at });
        }
        Some(Self::Hooks {
            ipv4: btf.offset("net", "nf.hooks_ipv4")?,
            ipv6: btf.offset("net", "nf.hooks_ipv6")?,
            count: btf.offset("nf_hook_entries", "num_hook_entries")?,
            hooks: btf.offset("nf_hook_entries", "hooks")?,
            size: btf.size("nf_hook_entry")?,
            data: btf.offset("nf_hook_entry", "priv")?,
        })
    }
}
