//! What the kernel programs are told about the running kernel and this run,
//! as constants, before the verifier sees them.

use crate::VerdictPlaces;

/// Stands in a [`Layout`] field for a member that the running kernel lacks.
pub const ABSENT: u32 = u32::MAX;

/// Declares [`Layout`] together with the list of members to look up, so that
/// the two cannot drift apart.
macro_rules! layout {
    ($($(#[$doc:meta])* $field:ident: $structure:literal . $path:literal $need:ident,)+) => {
        /// Byte offsets of the kernel struct members that the programs read,
        /// from the running kernel's BTF.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Layout {
            $($(#[$doc])* #[doc = concat!("`", $structure, ".", $path, "`")] pub $field: u32,)+
        }

        impl Layout {
            /// Every member absent.
            pub const ABSENT: Self = Self { $($field: ABSENT,)+ };

            /// Fills every field by asking `offset_of(structure, path)`.
            ///
            /// # Errors
            ///
            /// The first required member that `offset_of` does not know, as
            /// `(structure, path)`.
            pub fn resolve(
                mut offset_of: impl FnMut(&'static str, &'static str) -> Option<u32>,
            ) -> Result<Self, (&'static str, &'static str)> {
                Ok(Self {
                    $($field: layout!(@$need offset_of, $structure, $path),)+
                })
            }
        }
    };
    (@required $offset_of:ident, $structure:literal, $path:literal) => {
        match $offset_of($structure, $path) {
            Some(offset) => offset,
            None => return Err(($structure, $path)),
        }
    };
    (@optional $offset_of:ident, $structure:literal, $path:literal) => {
        $offset_of($structure, $path).unwrap_or(ABSENT)
    };
}

layout! {
    skb_dev: "sk_buff"."dev" required,
    skb_sk: "sk_buff"."sk" required,
    skb_cb: "sk_buff"."cb" required,
    skb_refdst: "sk_buff"."_skb_refdst" required,
    /// Without conntrack in the kernel there is none.
    skb_nfct: "sk_buff"."_nfct" optional,
    skb_len: "sk_buff"."len" required,
    skb_data_len: "sk_buff"."data_len" required,
    skb_iif: "sk_buff"."skb_iif" required,
    skb_vlan_proto: "sk_buff"."vlan_proto" required,
    skb_vlan_tci: "sk_buff"."vlan_tci" required,
    skb_mark: "sk_buff"."mark" required,
    skb_protocol: "sk_buff"."protocol" required,
    skb_network_header: "sk_buff"."network_header" required,
    skb_transport_header: "sk_buff"."transport_header" required,
    skb_queue_mapping: "sk_buff"."queue_mapping" required,
    skb_mac_header: "sk_buff"."mac_header" required,
    skb_tail: "sk_buff"."tail" required,
    skb_end: "sk_buff"."end" required,
    skb_head: "sk_buff"."head" required,
    skb_data: "sk_buff"."data" required,
    shared_frags: "skb_shared_info"."frags" required,
    shared_nr_frags: "skb_shared_info"."nr_frags" required,
    dev_ifindex: "net_device"."ifindex" required,
    dev_name: "net_device"."name" required,
    dev_net: "net_device"."nd_net.net" required,
    dev_flags: "net_device"."flags" required,
    dev_rx_handler: "net_device"."rx_handler" required,
    dev_tx_queues: "net_device"."_tx" required,
    dev_ip6: "net_device"."ip6_ptr" optional,
    ip6_disabled: "inet6_dev"."cnf.disable_ipv6" optional,
    queue_qdisc: "netdev_queue"."qdisc" required,
    qdisc_enqueue: "Qdisc"."enqueue" required,
    net_ip6_all: "net"."ipv6.devconf_all" optional,
    ip6_forwarding: "ipv6_devconf"."forwarding" optional,
    net_echo_ignore_all: "net"."ipv6.sysctl.icmpv6_echo_ignore_all" optional,
    net_echo_ignore_multicast: "net"."ipv6.sysctl.icmpv6_echo_ignore_multicast" optional,
    net_echo_ignore_anycast: "net"."ipv6.sysctl.icmpv6_echo_ignore_anycast" optional,
    /// Without `IPsec` in the kernel there is none.
    net_xfrm_policies: "net"."xfrm.policy_count" optional,
    /// As `net_xfrm_policies`.
    net_xfrm_states: "net"."xfrm.state_num" optional,
    net_cookie: "net"."net_cookie" optional,
    net_inum: "net"."ns.inum" required,
    net_loopback: "net"."loopback_dev" required,
    hooks_ipv4: "net"."nf.hooks_ipv4" optional,
    hooks_ipv6: "net"."nf.hooks_ipv6" optional,
    hooks_bridge: "net"."nf.hooks_bridge" optional,
    hooks_of_entries: "nf_hook_entries"."hooks" optional,
    hook_function: "nf_hook_entry"."hook" optional,
    hook_private: "nf_hook_entry"."priv" optional,
    hook_state_hook: "nf_hook_state"."hook" optional,
    hook_state_family: "nf_hook_state"."pf" optional,
    hook_state_net: "nf_hook_state"."net" optional,
    regs_sp: "pt_regs"."sp" optional,
    bpf_aux: "bpf_prog"."aux" required,
    bpf_aux_id: "bpf_prog_aux"."id" required,
    sk_family: "sock_common"."skc_family" required,
    sk_state: "sock_common"."skc_state" required,
    sk_net: "sock_common"."skc_net.net" required,
    sk_daddr: "sock_common"."skc_daddr" required,
    sk_rcv_saddr: "sock_common"."skc_rcv_saddr" required,
    sk_dport: "sock_common"."skc_dport" required,
    sk_num: "sock_common"."skc_num" required,
    /// Without IPv6 in the kernel there is none.
    sk_v6_daddr: "sock_common"."skc_v6_daddr" optional,
    /// As `sk_v6_daddr`.
    sk_v6_rcv_saddr: "sock_common"."skc_v6_rcv_saddr" optional,
    sk_protocol: "sock"."sk_protocol" required,
    inet_sport: "inet_sock"."inet_sport" required,
    sk_socket: "sock"."sk_socket" required,
    sk_uid: "sock"."sk_uid" required,
    /// A pointer, or before its own type existed a tagged word.
    sk_cgroup: "sock"."sk_cgrp_data" optional,
    socket_file: "socket"."file" required,
    socket_inode: "socket_alloc"."vfs_inode" required,
    inode_ino: "inode"."i_ino" required,
    task_files: "task_struct"."files" required,
    files_table: "files_struct"."fdt" required,
    table_files: "fdtable"."fd" required,
    table_len: "fdtable"."max_fds" required,
    cgroup_kn: "cgroup"."kn" optional,
    kn_id: "kernfs_node"."id" optional,
    dst_dev: "dst_entry"."dev" required,
    dst_ops: "dst_entry"."ops" required,
    dst_ops_family: "dst_ops"."family" required,
    rt_type: "rtable"."rt_type" required,
    rt6_flags: "rt6_info"."rt6i_flags" optional,
    sk_err: "sock"."sk_err" required,
    tcp_srtt: "tcp_sock"."srtt_us" required,
    tcp_retransmitted: "tcp_sock"."total_retrans" required,
    tcp_duplicates: "tcp_sock"."dsack_dups" optional,
    tcp_snd_nxt: "tcp_sock"."snd_nxt" required,
    tcp_rcv_nxt: "tcp_sock"."rcv_nxt" required,
    tcp_cb_seq: "tcp_skb_cb"."seq" required,
    tcp_cb_flags: "tcp_skb_cb"."tcp_flags" required,
    req_snt_isn: "tcp_request_sock"."snt_isn" required,
    req_rcv_isn: "tcp_request_sock"."rcv_isn" required,
}

/// As [`Layout`], of a conntrack entry. It may be a module's that is loaded
/// later than the programs, and so comes in a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConntrackLayout {
    /// 1 if the offsets are known.
    pub is_known: u32,
    /// `nf_conn.mark`, [`ABSENT`] where the kernel has none.
    pub mark: u32,
    /// `nf_conn.zone.id`, [`ABSENT`] where the kernel has none.
    pub zone: u32,
    /// `nf_conn.status`
    pub status: u32,
    /// Of the `nf_conntrack_tuple` in the original direction, inside `nf_conn`.
    pub original: u32,
    /// The same in the reply direction.
    pub reply: u32,
    /// `nf_conn.proto.tcp.state`
    pub tcp_state: u32,
    /// `nf_conn.ext`
    pub ext: u32,
    /// `nf_ct_ext.offset`, whose first element is that of the helper
    /// (`NF_CT_EXT_HELPER`).
    pub ext_offset: u32,
    /// `nf_conn_help.helper`
    pub help_helper: u32,
    /// `nf_conntrack_helper.name`; [`ABSENT`] where what leads there is not known.
    pub helper_name: u32,
}

/// A packet's conntrack entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConntrackAt {
    /// With an entry: its two `struct nf_conntrack_tuple`, of the original and of
    /// the reply direction, as they stand in memory. Without one, of a dropped
    /// packet: the first functions at the hooks prerouting and output of the
    /// packet's family and namespace, in their order.
    pub words: [[u64; 5]; 2],
    /// Name of its helper, zero-terminated; empty without one.
    pub helper: [u8; 16],
    /// Bits `IPS_*`.
    pub status: u32,
    /// Its mark.
    pub mark: u32,
    /// `enum ip_conntrack_info`, [`crate::CT_NONE`] without an entry.
    pub info: u32,
    /// Its zone.
    pub zone: u16,
    /// `enum tcp_conntrack`
    pub tcp_state: u8,
    /// 1 if the entry was read.
    pub is_known: u8,
}

/// As [`Layout`], of nftables' rules, chains and tables, for the same cause.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleLayout {
    /// 1 if the offsets are known.
    pub is_known: u32,
    /// `nft_rule_dp_last.chain`, [`ABSENT`] where the end of a chain does not tell
    /// whose it is (before Linux 6.4).
    pub last_chain: u32,
    /// `nft_pktinfo.state`
    pub packet_state: u32,
    /// `nft_rule_blob.size`
    pub blob_size: u32,
    /// `nft_rule_blob.data`
    pub blob_data: u32,
    /// `nft_chain.blob_gen_0`
    pub chain_blob_0: u32,
    /// `nft_chain.blob_gen_1`
    pub chain_blob_1: u32,
    /// `nft_chain.table`
    pub chain_table: u32,
    /// `nft_chain.handle`
    pub chain_handle: u32,
    /// Offset in bits of `nft_chain.flags`.
    pub chain_flags: u32,
    /// `nft_table.handle`
    pub table_handle: u32,
    /// Offset in bits of `nft_table.family`, six bits wide.
    pub table_family: u32,
}

/// Where on the stack stands what tells who dropped a packet. Places are words,
/// counted as in [`StackWords`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Where `nft_do_chain` frees packets.
    pub chain: ChainPlaces,
    /// Where `nf_hook_slow` frees packets.
    pub hook: HookPlaces,
    /// Where nftables' own functions decide.
    pub verdict: VerdictPlaces,
    /// Inode number of the namespace in which they are being looked for, else 0.
    pub trial_netns: u32,
    /// Zero.
    pub pad: u32,
}

/// What stands on the stack when `nft_do_chain` frees a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainPlaces {
    /// 1 if the place of the rule is known.
    pub is_known: u32,
    /// The address to which the function that frees packets returns.
    pub location_at: u32,
    /// The rule.
    pub rule_at: u32,
    /// The rule's chain; [`ABSENT`] where it stands nowhere.
    pub chain_at: u32,
    /// The `struct nft_pktinfo`; [`ABSENT`] where it stands nowhere.
    pub packet_at: u32,
    /// Zero.
    pub pad: u32,
}

/// What stands on the stack when `nf_hook_slow` frees a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookPlaces {
    /// 1 if all places are known.
    pub is_known: u32,
    /// The address to which the function that frees packets returns.
    pub location_at: u32,
    /// The `struct nf_hook_state`.
    pub state_at: u32,
    /// The `struct nf_hook_entries`.
    pub entries_at: u32,
    /// Which of them it was.
    pub index_at: u32,
    /// Zero.
    pub pad: u32,
}

/// Words of the stack that are searched for those places.
pub const STACK_WORDS: usize = 192;
/// How many of them stand below the arguments of the tracepoint, where the
/// program has saved the registers that it uses itself.
pub const STACK_WORDS_BELOW: usize = 64;

/// The head of a `struct nft_rule_dp`: `is_last:1, dlen:12, handle:42`. What is
/// left of the word is not initialised.
/// <https://github.com/torvalds/linux/blob/v6.12/include/net/netfilter/nf_tables.h>
#[derive(Clone, Copy, Debug)]
pub struct RuleHead(pub u64);

impl RuleHead {
    /// Bytes of the head itself.
    pub const BYTES: u64 = 8;

    /// Whether it is the end of a chain instead of a rule.
    #[must_use]
    #[inline]
    pub const fn is_last(self) -> bool {
        self.0 & 1 != 0
    }

    /// Bytes of the rule's expressions, which follow.
    #[must_use]
    #[inline]
    pub const fn body_len(self) -> u64 {
        self.0 >> 1 & 0xfff
    }

    /// The rule's handle.
    #[must_use]
    #[inline]
    pub const fn handle(self) -> u64 {
        self.0 >> 13 & ((1 << 42) - 1)
    }
}

/// A part of the stack at a drop.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackWords {
    /// Address of the first word.
    pub at: u64,
    /// The words.
    pub words: [u64; STACK_WORDS],
    /// What stands at each address among them.
    pub heads: [u64; STACK_WORDS],
    /// What stands there where a chain has its handle.
    pub chains: [u64; STACK_WORDS],
    /// Address of the packet.
    pub packet: u64,
    /// Where it was freed.
    pub location: u64,
    /// Who dropped it, as nftables' own functions were seen to decide: the address of
    /// a rule's head, or of a chain plus [`crate::POLICY`].
    pub verdict: u64,
    /// What stands there.
    pub verdict_head: u64,
}

/// Who sat on the netfilter hook that dropped a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookAt {
    /// Address of the hook function, 0 where it is not known.
    pub function: u64,
    /// What it was registered with, often what it works on.
    pub private: u64,
    /// Identifier of the BPF program that it ran, 0 for none.
    pub prog_id: u32,
    /// Hook number.
    pub hook: u8,
    /// Family, `NFPROTO_*`.
    pub family: u8,
    /// 1 if hook and family are known.
    pub is_known: u8,
    /// Zero.
    pub pad: u8,
}

/// A rule, by the handles that the kernel gives.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleAt {
    /// Handle of its table, unique in the namespace.
    pub table: u64,
    /// Handle of its chain, unique in the table; 0 where it is not known.
    pub chain: u64,
    /// Its own handle, unique in the table; 0 for the chain's policy.
    pub rule: u64,
    /// Cookie of the network namespace, which never comes again; 0 where the
    /// kernel shows none.
    pub cookie: u64,
    /// Family of the table, `NFPROTO_*`; 0 where it is not known.
    pub family: u32,
    /// 1 if the rule is known.
    pub is_known: u32,
}

impl RuleAt {
    /// No rule.
    pub const UNKNOWN: Self = Self {
        table: 0,
        chain: 0,
        rule: 0,
        cookie: 0,
        family: 0,
        is_known: 0,
    };
}

/// How this run is to be traced, beside the [`crate::Filter`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bits `FILTER_BY_*`.
    pub filters: u32,
    /// `kfree_skb` has a reason as its third argument.
    pub drop_has_reason: u32,
    /// `kfree_skb` has the receiving socket as its fourth argument.
    pub drop_has_socket: u32,
    /// `tcp_send_reset` has a reason as its third argument.
    pub reset_has_reason: u32,
    /// `tcp_retransmit_skb` has an error as its third argument.
    pub retransmit_has_error: u32,
    /// The reason number by which `kfree_skb` says nothing; [`crate::NO_REASON`]
    /// where it gives none at all.
    pub not_specified: u32,
    /// The reason number of what netfilter drops; [`ABSENT`] where it gives none.
    pub netfilter_drop: u32,
    /// Offset in bits of `sk_buff.vlan_present`; [`ABSENT`] where a tag is
    /// present if its protocol is set.
    pub vlan_present: u32,
    /// Offset in bits of `sk_buff.pkt_type`.
    pub pkt_type: u32,
    /// Offset in bits of `sk_buff.ip_summed`.
    pub ip_summed: u32,
    /// Offset in bits of `sk_buff.csum_valid`.
    pub csum_valid: u32,
    /// Offset in bits of `sk_buff.csum_complete_sw`.
    pub csum_complete_sw: u32,
    /// Offset in bits of `sk_buff.tc_at_ingress`.
    pub tc_at_ingress: u32,
    /// Offset in bits of `sk_buff.nf_trace`; [`ABSENT`] where it does not matter.
    pub nf_trace: u32,
    /// Bytes of `struct nf_hook_entry`.
    pub hook_size: u32,
    /// Bytes of `struct netdev_queue`.
    pub queue_size: u32,
    /// Offset in bits of `sock_common.skc_reuseport`.
    pub reuseport: u32,
    /// Bytes of `struct page`; 0 where packet pages cannot be reached, as they cannot where
    /// [`Addresses`] do not say where they begin.
    pub page_size: u32,
    /// Bytes of `skb_frag_t`, which stands for a page of a packet.
    pub frag_size: u32,
    /// Offset in it of the offset inside the page.
    pub frag_offset: u32,
    /// Offset in it of the length.
    pub frag_len: u32,
    /// 1 if programs that the kernel does not run inside themselves have a stack of
    /// their own, one for each CPU.
    pub has_private_stack: u32,
    /// What the kernel's BTF numbers the function `bpf_preempt_disable`; 0 where the programs
    /// cannot call it, or need not. So with the next two.
    pub preempt_disable: u32,
    /// `bpf_preempt_enable`.
    pub preempt_enable: u32,
    /// `bpf_rdonly_cast`, where its result can be of no type.
    pub rdonly_cast: u32,
    /// Bits `WATCH_*`: how conversations are watched.
    pub watch: u32,
    /// 0 if the kernel preempts no program at a tracepoint.
    pub preempts: u32,
    /// 1 if the programs write messages for developers.
    pub debug: u32,
}

/// What stands in the object for [`Config::preempt_disable`] and so on: numbers of helpers that
/// no kernel has. User space puts the functions in their place before loading.
pub mod kfunc {
    /// `bpf_preempt_disable`
    pub const PREEMPT_DISABLE: u32 = 0x7000_0000;
    /// `bpf_preempt_enable`
    pub const PREEMPT_ENABLE: u32 = 0x7000_0001;
    /// `bpf_rdonly_cast`
    pub const RDONLY_CAST: u32 = 0x7000_0002;
}

impl Config {
    /// Select everything, know nothing.
    pub const DEFAULT: Self = Self {
        filters: 0,
        drop_has_reason: 0,
        drop_has_socket: 0,
        reset_has_reason: 0,
        retransmit_has_error: 0,
        not_specified: crate::NO_REASON,
        netfilter_drop: ABSENT,
        vlan_present: ABSENT,
        pkt_type: ABSENT,
        csum_valid: ABSENT,
        csum_complete_sw: ABSENT,
        ip_summed: ABSENT,
        tc_at_ingress: ABSENT,
        nf_trace: ABSENT,
        hook_size: 0,
        queue_size: 0,
        reuseport: ABSENT,
        page_size: 0,
        frag_size: 0,
        frag_offset: 0,
        frag_len: 0,
        has_private_stack: 0,
        preempt_disable: 0,
        preempt_enable: 0,
        rdonly_cast: 0,
        watch: 0,
        preempts: 1,
        debug: 0,
    };
}

/// Where functions and variables of the kernel lie in memory; 0 where that is not known.
/// The programs are told when they run already, since reading the kernel's symbols takes a
/// while.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The variable `vmemmap_base`.
    pub vmemmap_base: u64,
    /// The variable `page_offset_base`.
    pub page_offset_base: u64,
    /// The function `nf_hook_slow`.
    pub nf_hook_slow: u64,
    /// The function behind it.
    pub nf_hook_slow_end: u64,
    /// The function `nf_queue`, which frees what no program takes from a queue.
    pub nf_queue: u64,
    /// The function behind it.
    pub nf_queue_end: u64,
    /// The hook function that runs BPF programs.
    pub nf_hook_run_bpf: u64,
    /// The function in which a bridge frees what a hook drops at prerouting.
    pub bridge_pre: u64,
    /// The function behind it.
    pub bridge_pre_end: u64,
    /// The function `sk_stream_kill_queues`, which frees what a closed TCP socket
    /// had not read; 0 where what ends a connection is counted by flow as all else.
    pub kill_queues: u64,
    /// The function behind it.
    pub kill_queues_end: u64,
}

impl Addresses {
    /// Of nothing.
    pub const UNKNOWN: Self = Self {
        vmemmap_base: 0,
        page_offset_base: 0,
        nf_hook_slow: 0,
        nf_hook_slow_end: 0,
        nf_queue: 0,
        nf_queue_end: 0,
        nf_hook_run_bpf: 0,
        bridge_pre: 0,
        bridge_pre_end: 0,
        kill_queues: 0,
        kill_queues_end: 0,
    };
}

/// [`Config::filters`]: by addresses, ports or protocol.
pub const FILTER_BY_FLOW: u32 = 1;
/// [`Config::filters`]: by interface.
pub const FILTER_BY_INTERFACE: u32 = 2;
/// [`Config::filters`]: by network namespace.
pub const FILTER_BY_NETNS: u32 = 4;
/// [`Config::filters`]: by reason.
pub const FILTER_BY_REASON: u32 = 8;
/// [`Config::filters`]: by socket (`--pid`).
pub const FILTER_BY_SOCKET: u32 = 16;
/// [`Config::filters`]: by control group.
pub const FILTER_BY_CGROUP: u32 = 32;
