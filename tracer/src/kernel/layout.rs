//! What the kernel programs must be told about the running kernel.

use std::{fs, ops::Range};

use droptrace_types::{ABSENT, Addresses, Config, ConntrackLayout, Layout, NO_REASON, RuleLayout};

use super::{
    btf::{Argument, Btf},
    reasons::{NOT_SPECIFIED, Reasons},
    symbols::Symbols,
};

/// Whether programs are compiled; the interpreter cannot call the kernel's functions. Only
/// in the machine's own network namespace.
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";

/// A member that no kernel this program can run on lacks.
#[derive(Debug, thiserror::Error)]
#[error(
    "this kernel's BTF has no {structure}.{member}, which the kernel programs read; \
     please report this with the output of: uname -r"
)]
pub struct MissingMember {
    structure: &'static str,
    member: &'static str,
}

/// Where the struct members stand that the programs read.
///
/// # Errors
///
/// If the kernel lacks a member that is needed on every kernel.
pub fn layout(btf: &Btf) -> Result<Layout, MissingMember> {
    Layout::resolve(|structure, path| btf.offset(structure, path))
        .map_err(|(structure, member)| MissingMember { structure, member })
}

/// Members of `struct nf_conntrack_tuple` and their offsets, by which a
/// [`droptrace_types::ConntrackAt`] is read.
const TUPLE: [(&str, u32); 6] = [
    ("src.u3", 0),
    ("src.u", 16),
    ("src.l3num", 18),
    ("dst.u3", 20),
    ("dst.u", 36),
    ("dst.protonum", 38),
];

/// What a conntrack entry looks like; `None` where this BTF does not say.
#[must_use]
pub fn conntrack(btf: &Btf) -> Option<ConntrackLayout> {
    // A mere declaration has no members.
    let status = btf.offset("nf_conn", "status")?;
    let is_tuple = |(path, at)| btf.offset("nf_conntrack_tuple", path) == Some(at);
    if !TUPLE.into_iter().all(is_tuple) {
        return None;
    }
    let original =
        btf.offset("nf_conn", "tuplehash")? + btf.offset("nf_conntrack_tuple_hash", "tuple")?;
    let member = |structure, member| btf.offset(structure, member).unwrap_or(ABSENT);
    let help_helper = member("nf_conn_help", "helper");
    Some(ConntrackLayout {
        is_known: 1,
        mark: member("nf_conn", "mark"),
        zone: member("nf_conn", "zone.id"),
        status,
        original,
        reply: original + btf.size("nf_conntrack_tuple_hash")?,
        tcp_state: btf.offset("nf_conn", "proto.tcp.state")?,
        ext: btf.offset("nf_conn", "ext")?,
        ext_offset: btf.offset("nf_ct_ext", "offset")?,
        help_helper,
        helper_name: if help_helper == ABSENT {
            ABSENT
        } else {
            member("nf_conntrack_helper", "name")
        },
    })
}

/// Whether this BTF speaks of nftables.
#[must_use]
pub fn has_nftables(btf: &Btf) -> bool {
    btf.offset("nft_chain", "table").is_some()
}

/// What nftables' rules, chains and tables look like; `None` where this BTF does
/// not say, or rules do not stand in one piece of memory (before Linux 5.17).
#[must_use]
pub fn rules(btf: &Btf) -> Option<RuleLayout> {
    Some(RuleLayout {
        is_known: 1,
        last_chain: btf.offset("nft_rule_dp_last", "chain").unwrap_or(ABSENT),
        packet_state: packet_state(btf).unwrap_or(ABSENT),
        blob_size: btf.offset("nft_rule_blob", "size")?,
        blob_data: btf.offset("nft_rule_blob", "data")?,
        chain_blob_0: btf.offset("nft_chain", "blob_gen_0")?,
        chain_blob_1: btf.offset("nft_chain", "blob_gen_1")?,
        chain_table: btf.offset("nft_chain", "table")?,
        chain_handle: btf.offset("nft_chain", "handle")?,
        chain_flags: btf.bit_offset("nft_chain", "flags")?,
        table_handle: btf.offset("nft_table", "handle")?,
        table_family: btf.bit_offset("nft_table", "family")?,
    })
}

/// Where a `struct nft_pktinfo`, which is found by the packet that it begins with,
/// has the state of the hook.
fn packet_state(btf: &Btf) -> Option<u32> {
    (btf.offset("nft_pktinfo", "skb")? == 0).then(|| btf.offset("nft_pktinfo", "state"))?
}

/// What the kernel's tracepoints and packets offer. The rest of the result is
/// as in [`Config::DEFAULT`].
#[must_use]
pub fn config(btf: &Btf, reasons: &Reasons) -> Config {
    let number = |name| reasons.named(name).first().map(|known| known.code);
    let not_specified = number(NOT_SPECIFIED).unwrap_or(NO_REASON);
    let bit = |member| btf.bit_offset("sk_buff", member).unwrap_or(ABSENT);
    let argument =
        |tracepoint: &str, n: usize| btf.tracepoint_arguments(tracepoint)?.get(n).copied();
    let mut config = Config {
        drop_has_reason: u32::from(argument("kfree_skb", 2) == Some(Argument::Enum)),
        drop_has_socket: u32::from(argument("kfree_skb", 3) == Some(Argument::Pointer)),
        reset_has_reason: u32::from(argument("tcp_send_reset", 2) == Some(Argument::Enum)),
        retransmit_has_error: u32::from(argument("tcp_retransmit_skb", 2) == Some(Argument::Other)),
        not_specified,
        netfilter_drop: number("NETFILTER_DROP").unwrap_or(ABSENT),
        vlan_present: bit("vlan_present"),
        pkt_type: bit("pkt_type"),
        csum_valid: bit("csum_valid"),
        csum_complete_sw: bit("csum_complete_sw"),
        ip_summed: bit("ip_summed"),
        tc_at_ingress: bit("tc_at_ingress"),
        reuseport: btf
            .bit_offset("sock_common", "skc_reuseport")
            .unwrap_or(ABSENT),
        queue_size: btf.size("netdev_queue").unwrap_or(0),
        hook_size: btf.size("nf_hook_entry").unwrap_or(0),
        preempts: u32::from(preempts_programs(btf)),
        has_private_stack: u32::from(btf.offset("bpf_prog_aux", "priv_stack_ptr").is_some()),
        ..Config::DEFAULT
    };
    lay_out_pages(&mut config, btf);
    number_kfuncs(&mut config, btf);
    config
}

/// Where the kernel's functions and variables lie, as far as its symbols tell;
/// [`Addresses::kill_queues`] is left to the run.
#[must_use]
pub fn addresses(symbols: &Symbols) -> Addresses {
    let function = |name| symbols.function(name).unwrap_or_default();
    let of_hooks = function("nf_hook_slow");
    let of_queues = function("nf_queue");
    let of_bridges = bridge_pre(symbols).unwrap_or_default();
    // One without the other would lead astray.
    let bases = ["vmemmap_base", "page_offset_base"].map(|name| symbols.variable(name));
    let (vmemmap_base, page_offset_base) = match bases {
        [Some(of_pages), Some(of_memory)] => (of_pages, of_memory),
        _ => (0, 0),
    };
    Addresses {
        vmemmap_base,
        page_offset_base,
        nf_hook_slow: of_hooks.start,
        nf_hook_slow_end: of_hooks.end,
        nf_queue: of_queues.start,
        nf_queue_end: of_queues.end,
        nf_hook_run_bpf: function("nf_hook_run_bpf").start,
        bridge_pre: of_bridges.start,
        bridge_pre_end: of_bridges.end,
        ..Addresses::UNKNOWN
    }
}

/// The functions of the kernel's that programs may call.
fn number_kfuncs(config: &mut Config, btf: &Btf) {
    let interprets = fs::read_to_string(JIT).is_ok_and(|state| state.trim() == "0");
    if interprets {
        return;
    }
    config.rdonly_cast = btf.function("bpf_rdonly_cast").unwrap_or(0);
    // The verifier must know that a function which it verifies once does not sleep.
    // <https://github.com/torvalds/linux/blob/v6.15/include/linux/bpf_verifier.h>
    if btf.bit_offset("bpf_subprog_info", "might_sleep").is_none() {
        return;
    }
    let both = ["bpf_preempt_disable", "bpf_preempt_enable"].map(|name| btf.function(name));
    if config.preempts != 0
        && let [Some(disable), Some(enable)] = both
    {
        (config.preempt_disable, config.preempt_enable) = (disable, enable);
    }
}

/// Whether a program at a tracepoint may be preempted. A kernel that lets it waits for such
/// programs by an SRCU of tracepoints' own before it forgets one; others wait until no CPU
/// has preemption switched off.
/// <https://github.com/torvalds/linux/blob/v6.18/kernel/tracepoint.c>
fn preempts_programs(btf: &Btf) -> bool {
    let waits_by = |member| btf.offset("tp_transition_snapshot", member).is_some();
    !waits_by("rcu") || waits_by("srcu_gp")
}

/// The function in which a bridge frees what a hook drops at prerouting, or the one
/// that has it inlined; `None` where bridges are a module that is not loaded yet, and
/// where the compiler has moved a part of it elsewhere.
/// <https://github.com/torvalds/linux/blob/v6.12/net/bridge/br_input.c>
fn bridge_pre(symbols: &Symbols) -> Option<Range<u64>> {
    let names = ["nf_hook_bridge_pre", "br_handle_frame"];
    if names.iter().any(|name| symbols.is_split(name)) {
        return None;
    }
    names.iter().find_map(|name| symbols.function(name))
}

/// How a packet's pages are described.
fn lay_out_pages(config: &mut Config, btf: &Btf) {
    // The type of the descriptor was `struct bio_vec` before it got its own.
    let member = |names: [&str; 2]| names.iter().find_map(|name| btf.offset("skb_frag_t", name));
    if let (Some(page_size), Some(frag_size), Some(frag_offset), Some(frag_len)) = (
        btf.size("page"),
        btf.size("skb_frag_t"),
        member(["offset", "bv_offset"]),
        member(["len", "bv_len"]),
    ) {
        *config = Config {
            page_size,
            frag_size,
            frag_offset,
            frag_len,
            ..*config
        };
    }
}
