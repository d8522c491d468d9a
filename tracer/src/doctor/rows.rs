//! From facts to answers. Nothing is asked here.

use droptrace_types::ABSENT;

use super::{
    Ability, Row, Status, WATCHED,
    facts::{Facts, Processes, Tables, Types},
};
use crate::{
    kernel::modules,
    tracer::{CONVERSATION_TRACEPOINTS, Means, SEND_RESET, XT_PROGRAMS},
};

/// One row for each ability, in the order in which they are shown.
pub fn rows(facts: &Facts) -> Vec<Row> {
    ABILITIES
        .iter()
        .map(|(ability, label, judge)| {
            let mut answer = match &facts.types {
                Some(types) => judge(facts, types),
                None => no("the kernel's types are unknown"),
            };
            // What the kernel can give is no use while something is in the way.
            if let Some(obstacle) = facts.obstacles.first()
                && (answer.status != Status::No || facts.types.is_none())
            {
                answer.status = Status::No;
                answer.remedy = Some(obstacle.clone());
            }
            Row {
                ability: *ability,
                label: (*label).to_owned(),
                status: answer.status,
                means: answer.means,
                remedy: answer.remedy,
            }
        })
        .collect()
}

type Judge = fn(&Facts, &Types) -> Answer;

const ABILITIES: [(Ability, &str, Judge); 23] = [
    (Ability::Drops, "dropped packets", |facts, _| {
        by_program(facts, "kfree_skb")
    }),
    (
        Ability::DropReasons,
        "the kernel's reason for a drop",
        drop_reasons,
    ),
    (
        Ability::TcpOwnDrops,
        "segments that TCP itself drops",
        tcp_own_drops,
    ),
    (
        Ability::ResetsSent,
        "resets sent by a connection",
        |facts, _| by_program(facts, "tcp_send_reset"),
    ),
    (
        Ability::ResetsSentWithoutSocket,
        "resets sent for no connection",
        resets_sent_without_socket,
    ),
    (
        Ability::ResetReasons,
        "the kernel's reason for a reset",
        reset_reasons,
    ),
    (
        Ability::ResetsReceived,
        "resets received by a connection",
        |facts, _| by_program(facts, "tcp_receive_reset"),
    ),
    (Ability::Retransmits, "segments sent again", |facts, _| {
        by_program(facts, "tcp_retransmit_skb")
    }),
    (
        Ability::RetransmitsOfSynack,
        "SYN-ACKs sent again",
        |facts, _| by_program(facts, "tcp_retransmit_synack"),
    ),
    (
        Ability::Process,
        "process whose socket sent the packet",
        |facts, _| process(facts, "the packet's own socket"),
    ),
    (
        Ability::ProcessOfReceiver,
        "process that was to receive it",
        process_of_receiver,
    ),
    (
        Ability::ConntrackState,
        "conntrack state",
        |facts, types| conntrack(facts, types, yes("the packet's entry")),
    ),
    (
        Ability::ConntrackMarkAndZone,
        "conntrack mark and zone",
        conntrack_mark_and_zone,
    ),
    (
        Ability::FunctionNames,
        "kernel function that dropped it",
        function_names,
    ),
    (Ability::CallChain, "functions that called it", call_chain),
    (
        Ability::PagedHeaders,
        "flow of headers in memory pages",
        paged_headers,
    ),
    (
        Ability::ExactLossCount,
        "exact count of what was missed",
        exact_loss_count,
    ),
    (
        Ability::FilterByCgroup,
        "filter by control group",
        filter_by_cgroup,
    ),
    (
        Ability::Conversations,
        "verdict about conversations",
        conversations,
    ),
    (
        Ability::NetfilterHook,
        "netfilter hook and its function",
        netfilter_hook,
    ),
    (Ability::NetfilterRule, "nftables rule", netfilter_rule),
    (
        Ability::XtablesRule,
        "rule of the legacy iptables",
        |facts, types| legacy_rule(facts, types, types.tables, &IPTABLES, facts.has_iptables),
    ),
    (
        Ability::EbtablesRule,
        "rule of the legacy ebtables",
        |facts, types| {
            legacy_rule(
                facts,
                types,
                types.bridge_tables,
                &EBTABLES,
                facts.has_ebtables,
            )
        },
    ),
];

/// What a legacy backend consists of.
struct Backend {
    /// What users call it.
    name: &'static str,
    /// Its module.
    module: &'static str,
    /// How the kernel is told to have it.
    option: &'static str,
    /// The program that lists the text of its rules.
    lister: &'static str,
}

const IPTABLES: Backend = Backend {
    name: "iptables",
    module: modules::XTABLES,
    option: "CONFIG_NETFILTER_XTABLES",
    lister: "iptables-legacy-save",
};

const EBTABLES: Backend = Backend {
    name: "ebtables",
    module: modules::EBTABLES,
    option: "CONFIG_BRIDGE_NF_EBTABLES, CONFIG_BRIDGE_NF_EBTABLES_LEGACY",
    lister: "ebtables-legacy",
};

/// What a row says beside its ability.
struct Answer {
    status: Status,
    means: Option<String>,
    remedy: Option<String>,
}

fn yes(means: impl Into<String>) -> Answer {
    Answer {
        status: Status::Yes,
        means: Some(means.into()),
        remedy: None,
    }
}

fn partly(means: impl Into<String>, remedy: impl Into<String>) -> Answer {
    Answer {
        status: Status::Partly,
        means: Some(means.into()),
        remedy: Some(remedy.into()),
    }
}

fn later(means: impl Into<String>, remedy: impl Into<String>) -> Answer {
    Answer {
        status: Status::Later,
        ..partly(means, remedy)
    }
}

fn no(remedy: impl Into<String>) -> Answer {
    Answer {
        status: Status::No,
        means: None,
        remedy: Some(remedy.into()),
    }
}

/// How the kernel takes a program, or why it does not.
fn program<'a>(facts: &'a Facts, name: &str) -> Result<Means, &'a str> {
    let found = facts.programs.iter().find(|(known, _)| *known == name);
    match found {
        Some((_, Ok(means))) => Ok(*means),
        Some((_, Err(why))) => Err(why),
        None => Err("it was not asked"),
    }
}

fn by_program(facts: &Facts, name: &str) -> Answer {
    match program(facts, name) {
        Ok(means) => yes(format!("{means} {name}")),
        Err(why) => no(format!("the kernel refuses the program for {name}: {why}")),
    }
}

fn conversations(facts: &Facts, _: &Types) -> Answer {
    let [packets_in, packets_out, states] = CONVERSATION_TRACEPOINTS.map(|name| {
        program(facts, name)
            .map(|found| format!("{found} {name}"))
            .map_err(|why| format!("the kernel refuses the program for {name}: {why}"))
    });
    let states = match states {
        Ok(states) => states,
        Err(why) => return no(why),
    };
    match (packets_in, packets_out) {
        (Ok(packets_in), Ok(packets_out)) => yes([packets_in, packets_out, states].join(", ")),
        (Err(why), _) | (_, Err(why)) => partly(
            states,
            format!("only where packets that pass are not watched (--verdicts all): {why}"),
        ),
    }
}

fn drop_reasons(_: &Facts, types: &Types) -> Answer {
    if types.config.drop_has_reason != 0 {
        let names = types.reasons;
        yes(format!("third argument of kfree_skb, {names} names in BTF"))
    } else {
        partly(
            "derived from the function that dropped the packet",
            "this kernel gives no reasons; newer ones do",
        )
    }
}

fn tcp_own_drops(facts: &Facts, types: &Types) -> Answer {
    if types.tcp_drop_is_traced {
        by_program(facts, "kfree_skb")
    } else {
        no("what TCP itself drops passes no tracepoint of this kernel; newer ones trace it")
    }
}

fn resets_sent_without_socket(facts: &Facts, types: &Types) -> Answer {
    if types.config.reset_has_reason != 0 {
        return by_program(facts, "tcp_send_reset");
    }
    let [v4, v6] = SEND_RESET.map(|name| program(facts, name));
    let [name4, name6] = SEND_RESET;
    match (v4, v6) {
        (Ok(means), Ok(_)) => yes(format!("{means} {name4} and {name6}")),
        (Ok(means), Err(why)) => partly(
            format!("{means} {name4}"),
            format!("not over IPv6, where the kernel refuses fentry: {why}"),
        ),
        (Err(why), Ok(means)) => partly(
            format!("{means} {name6}"),
            format!("not over IPv4, where the kernel refuses fentry: {why}"),
        ),
        (Err(why), Err(_)) => no(format!(
            "this kernel's tracepoint fires only where a socket exists, and fentry does not \
             help: {why}"
        )),
    }
}

fn reset_reasons(_: &Facts, types: &Types) -> Answer {
    if types.config.reset_has_reason != 0 {
        yes("third argument of tcp_send_reset")
    } else {
        no(
            "this kernel gives no reasons for resets; newer ones do. Class and summary derive \
             from the functions that led to the reset",
        )
    }
}

fn process(facts: &Facts, socket: &str) -> Answer {
    let means = format!("{socket} and /proc");
    match facts.processes {
        Processes::All => yes(means),
        Processes::Own => partly(
            means,
            "only processes of the same user: /proc hides the others' open files; run it as \
             root, or give it CAP_SYS_PTRACE",
        ),
        Processes::Inside => partly(
            means,
            "only processes of this PID namespace; run it in the machine's own (of a \
             container: --pid=host)",
        ),
    }
}

fn process_of_receiver(facts: &Facts, types: &Types) -> Answer {
    if types.config.drop_has_socket != 0 {
        return process(facts, "fourth argument of kfree_skb");
    }
    let found = process(facts, "the kernel's stack");
    Answer {
        status: Status::Partly,
        remedy: Some(found.remedy.unwrap_or_else(|| {
            "where the socket is found there; newer kernels' tracepoint tells it".to_owned()
        })),
        ..found
    }
}

/// `known` where packets have entries now.
fn conntrack(facts: &Facts, types: &Types, known: Answer) -> Answer {
    if !types.has_conntrack {
        return no("this kernel is built without connection tracking");
    }
    if facts.tracks_connections || known.status == Status::No {
        return known;
    }
    Answer {
        status: Status::Later,
        remedy: Some(
            "nf_conntrack is not loaded, so no packet is tracked; nothing to restart when it is"
                .to_owned(),
        ),
        ..known
    }
}

fn conntrack_mark_and_zone(facts: &Facts, types: &Types) -> Answer {
    let known = match types.conntrack {
        Some(entry) if entry.mark == ABSENT || entry.zone == ABSENT => partly(
            "nf_conn in BTF",
            "this kernel's entries have not both (CONFIG_NF_CONNTRACK_MARK, \
             CONFIG_NF_CONNTRACK_ZONES)",
        ),
        Some(_) => yes("nf_conn in BTF"),
        // What is not loaded has a chance to bring its types.
        None if types.modules_have_btf && !facts.tracks_connections => {
            yes("nf_conn in the module's BTF")
        }
        None => no(
            "what an entry looks like is unknown: this kernel's modules are built without BTF \
             (CONFIG_DEBUG_INFO_BTF_MODULES)",
        ),
    };
    conntrack(facts, types, known)
}

fn function_names(facts: &Facts, _: &Types) -> Answer {
    if facts.sees_symbols {
        yes("/proc/kallsyms")
    } else {
        no(hidden_symbols(facts))
    }
}

fn hidden_symbols(facts: &Facts) -> &'static str {
    if facts.kptr_restrict == "2" {
        "the kernel hides its symbols from everybody: sysctl kernel.kptr_restrict=1 would show \
         them to root"
    } else {
        "the kernel hides its symbols from this user; run it as root, or give it CAP_SYSLOG"
    }
}

fn call_chain(facts: &Facts, _: &Types) -> Answer {
    const MEANS: &str = "the kernel's stack at the event";
    if facts.sees_symbols {
        yes(MEANS)
    } else {
        let why = hidden_symbols(facts);
        partly(MEANS, format!("addresses without names: {why}"))
    }
}

fn paged_headers(facts: &Facts, types: &Types) -> Answer {
    if types.config.page_size != 0 && types.addresses.vmemmap_base != 0 {
        yes("vmemmap_base and page_offset_base in /proc/kallsyms")
    } else if facts.sees_symbols {
        no(
            "only x86-64 kernels that list their variables (CONFIG_KALLSYMS_ALL) show where a \
            page is; such a packet is counted, without its flow",
        )
    } else {
        no(hidden_symbols(facts))
    }
}

fn exact_loss_count(_: &Facts, types: &Types) -> Answer {
    yes(if types.counts_skips {
        "recursion_misses of each program"
    } else {
        "this kernel skips no program"
    })
}

const STACK: &str = "the kernel's stack at the drop";
const NOT_LOADED: &str = "nf_tables is not loaded; nothing to restart when it is";

fn netfilter_hook(facts: &Facts, _: &Types) -> Answer {
    match &facts.netfilter {
        Ok(found) if found.finds_function => yes(STACK),
        Ok(found) if !found.has_nftables => later(STACK, NOT_LOADED),
        Ok(_) => no("this kernel gives no occasion to find out where it keeps the hook function"),
        Err(error) => no(error),
    }
}

fn netfilter_rule(facts: &Facts, types: &Types) -> Answer {
    let means = format!("{STACK}, and nft");
    if !facts.has_nft {
        return no("the program nft is missing, which lists the rules: install nftables");
    }
    let watched = format!("{WATCHED}, and nft");
    let found = match &facts.netfilter {
        Ok(found) => found,
        Err(error) => return no(error),
    };
    // Without reasons, it is the caller that frees the packet.
    let is_left = found.has_nftables || types.config.drop_has_reason == 0;
    let why = match &found.watches_rule {
        _ if found.finds_rule => return yes(means),
        _ if !is_left => return later(means, NOT_LOADED),
        Some(Ok(())) => return yes(watched),
        None if facts.has_kprobes => return later(watched, NOT_LOADED),
        Some(Err(why)) => why,
        None => "this kernel takes no kprobes",
    };
    no(format!(
        "this kernel's nftables has left the rule when the packet is freed, and cannot be \
         watched before: {why}"
    ))
}

fn legacy_rule(
    facts: &Facts,
    types: &Types,
    tables: Tables,
    backend: &Backend,
    has_lister: bool,
) -> Answer {
    const COUNTERS: &str = "the rules' own counters";
    let Backend {
        name,
        module,
        option,
        lister,
    } = backend;
    let means = format!("{COUNTERS}, and {lister}");
    if types.addresses.nf_hook_slow == 0 {
        return no(hidden_symbols(facts));
    }
    let refused = XT_PROGRAMS
        .iter()
        .find_map(|name| program(facts, name).err());
    if let Some(why) = refused {
        return no(format!(
            "the kernel refuses the programs that read its memory: {why}"
        ));
    }
    match tables {
        Tables::Known if has_lister => yes(means),
        Tables::Known => partly(
            COUNTERS,
            format!(
                "by chain and number only: the program {lister} is missing, which lists their text"
            ),
        ),
        Tables::Unknown => no(
            "what a table looks like is unknown: this kernel's modules are built without BTF \
             (CONFIG_DEBUG_INFO_BTF_MODULES)",
        ),
        Tables::Missing => no(format!("this kernel has no tables of {name} ({option})")),
        Tables::NotLoaded => later(
            means,
            format!("{module} is not loaded; nothing to restart when it is"),
        ),
    }
}

fn filter_by_cgroup(facts: &Facts, types: &Types) -> Answer {
    if !types.has_socket_cgroup {
        no("this kernel's sockets have no control group (CONFIG_SOCK_CGROUP_DATA)")
    } else if !facts.has_cgroups {
        no("control groups of version 2 are not mounted: mount -t cgroup2 none /sys/fs/cgroup")
    } else {
        yes("the packet's own socket")
    }
}
