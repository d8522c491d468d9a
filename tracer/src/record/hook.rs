//! At which netfilter hook a packet was dropped, and who sat there.

use droptrace_types::HookAt;

use super::rule;

use crate::{
    event::{Engine, Rule},
    kernel::{modules, symbols::Symbols},
    reason::plain_name,
    rules,
    tracer::program_name,
};

/// `NFPROTO_*`
const INET: u8 = 1;
const IPV4: u8 = 2;
const ARP: u8 = 3;
const NETDEV: u8 = 5;
const BRIDGE: u8 = 7;
const IPV6: u8 = 10;

/// Who a hook function belongs to, by how its name begins. What is not listed is
/// a module of its own.
const ENGINES: [(&str, Engine); 28] = [
    ("nft_do_chain", Engine::Nft),
    ("nf_route_table_", Engine::Nft),
    ("ipt_do_table", Engine::Iptables),
    ("iptable_", Engine::Iptables),
    ("ip6t_do_table", Engine::Iptables),
    ("ip6table_", Engine::Iptables),
    ("arpt_do_table", Engine::Iptables),
    ("arptable_", Engine::Iptables),
    ("ebt_", Engine::Ebtables),
    ("ipv4_conntrack_", Engine::Conntrack),
    ("ipv6_conntrack_", Engine::Conntrack),
    ("ipv4_confirm", Engine::Conntrack),
    ("ipv6_confirm", Engine::Conntrack),
    ("ipv4_helper", Engine::Conntrack),
    ("ipv6_helper", Engine::Conntrack),
    ("nf_confirm", Engine::Conntrack),
    ("nf_ct_bridge_", Engine::Conntrack),
    ("ipv6_defrag", Engine::Conntrack),
    ("ipv4_synproxy_hook", Engine::Conntrack),
    ("ipv6_synproxy_hook", Engine::Conntrack),
    ("nf_nat_", Engine::Nat),
    ("nft_nat_do_chain", Engine::Nat),
    ("ipt_nat_do_chain", Engine::Nat),
    ("nf_hook_run_bpf", Engine::Bpf),
    ("selinux_", Engine::Module),
    ("smack_", Engine::Module),
    ("apparmor_", Engine::Module),
    ("ip_vs_", Engine::Module),
];

/// The hook's name, as nft has it; `None` where it is not known.
pub fn name(at: &HookAt) -> Option<&'static str> {
    if at.is_known == 0 {
        return None;
    }
    let names: &[&str] = match at.family {
        INET | IPV4 | IPV6 => &[
            "prerouting",
            "input",
            "forward",
            "output",
            "postrouting",
            "ingress",
        ],
        BRIDGE => &[
            "prerouting",
            "input",
            "forward",
            "output",
            "postrouting",
            "brouting",
        ],
        ARP => &["input", "output", "forward"],
        NETDEV => &["ingress", "egress"],
        _ => return None,
    };
    names.get(usize::from(at.hook)).copied()
}

/// Where a packet is freed that nobody took from the queue that it was for.
const QUEUE: &str = "nf_queue";

/// Whether `function` frees packets that are for a queue to user space.
pub fn is_queue(function: &str) -> bool {
    plain_name(function) == QUEUE
}

/// A queue to user space, where `function` freed a packet that was for one.
pub fn queue(function: &str) -> Option<(Rule, Option<String>)> {
    let rule = Rule {
        function: Some(function.to_owned()),
        ..rule::by(Engine::Nfqueue)
    };
    is_queue(function).then_some((rule, None))
}

/// The hook function that said to drop, and how to look at it; `None` where it is
/// not known.
pub fn of(at: &HookAt, symbols: &Symbols) -> Option<(Rule, Option<String>)> {
    if at.is_known == 0 || at.function == 0 {
        return None;
    }
    // It must be where a function begins.
    let location = symbols.find(at.function + 1)?;
    if location.offset != 1 {
        return None;
    }
    let function = plain_name(&location.function).to_owned();
    let engine = ENGINES
        .iter()
        .find(|(prefix, _)| function.starts_with(prefix))
        .map_or(Engine::Module, |(_, engine)| *engine);
    let rule = Rule {
        family: family(at, &function).map(ToOwned::to_owned),
        module: modules::owner(at.function),
        prog_id: (at.prog_id != 0).then_some(at.prog_id),
        name: program_name(at.prog_id),
        function: Some(function),
        ..rule::by(engine)
    };
    let advice = advice(&rule);
    Some((rule, advice))
}

/// A chain of the family `inet` sits on the hooks of others.
fn family(at: &HookAt, function: &str) -> Option<&'static str> {
    let family = if function == "nft_do_chain_inet" {
        INET
    } else {
        at.family
    };
    rules::family_name(family)
}

fn advice(rule: &Rule) -> Option<String> {
    let is_6 = rule.family.as_deref() == Some("ip6");
    Some(match rule.engine {
        Engine::Nft => {
            "a rule or policy of nftables on this hook, which this kernel does not tell: nft -a \
             list ruleset"
                .to_owned()
        }
        Engine::Iptables if is_6 => "see whose counters rise: ip6tables-legacy-save -c".to_owned(),
        Engine::Iptables => "see whose counters rise: iptables-legacy-save -c".to_owned(),
        Engine::Ebtables => "see whose counters rise: ebtables-legacy -L --Lc --Ln".to_owned(),
        Engine::Conntrack => {
            "connection tracking dropped it: see drop, insert_failed and early_drop in \
             conntrack -S, and nf_conntrack_count against nf_conntrack_max in \
             /proc/sys/net/netfilter"
                .to_owned()
        }
        Engine::Nat => {
            "address translation found no free address and port: see conntrack -L and the \
             ranges of the rules that translate"
                .to_owned()
        }
        Engine::Bpf => format!("see the program: bpftool prog show id {}", rule.prog_id?),
        Engine::Nfqueue | Engine::Module => {
            let module = rule.module.as_deref()?;
            format!("the kernel module {module} dropped it: ask who installed it")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: HookAt = HookAt {
        function: 0xffff_ffff_8100_0100,
        private: 0,
        prog_id: 0,
        hook: 1,
        family: IPV4,
        is_known: 1,
        pad: 0,
    };

    fn engine_of(function: &str) -> Option<Engine> {
        let text = format!("ffffffff81000100 t {function}\nffffffff81000200 t next\n");
        Some(of(&AT, &Symbols::parse(text.as_bytes()))?.0.engine)
    }

    #[test]
    fn a_hook_function_tells_whose_it_is() {
        for (function, engine) in [
            ("nft_do_chain_inet", Engine::Nft),
            ("nf_route_table_hook4", Engine::Nft),
            ("ipt_do_table", Engine::Iptables),
            ("iptable_filter_hook", Engine::Iptables),
            ("ebt_in_hook", Engine::Ebtables),
            ("ipv4_conntrack_in", Engine::Conntrack),
            ("nf_nat_ipv4_out", Engine::Nat),
            ("nf_hook_run_bpf", Engine::Bpf),
            ("somebody_elses_hook", Engine::Module),
        ] {
            assert_eq!(engine_of(function), Some(engine), "{function}");
        }
    }

    #[test]
    fn what_is_no_function_is_nobody() {
        let symbols = Symbols::parse(b"ffffffff81000000 t kfree\nffffffff81000200 t next\n");
        assert_eq!(of(&AT, &symbols), None);
        assert_eq!(of(&HookAt { is_known: 0, ..AT }, &symbols), None);
        assert_eq!(of(&HookAt { function: 0, ..AT }, &symbols), None);
    }

    #[test]
    fn hooks_have_the_names_that_nft_gives_them() {
        for (family, hook, expected) in [
            (IPV4, 0, Some("prerouting")),
            (IPV6, 4, Some("postrouting")),
            (ARP, 1, Some("output")),
            (NETDEV, 1, Some("egress")),
            (BRIDGE, 2, Some("forward")),
            (IPV4, 9, None),
            (99, 0, None),
        ] {
            assert_eq!(name(&HookAt { family, hook, ..AT }), expected);
        }
        assert_eq!(name(&HookAt { is_known: 0, ..AT }), None);
    }
}
