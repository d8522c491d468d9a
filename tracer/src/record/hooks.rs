//! Whether connection tracking looked at a packet before netfilter dropped it.

use super::tracked;

/// How sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It comes before the hook at which the packet was dropped.
    Yes,
    /// The packet may have been dropped before.
    Perhaps,
    /// It does not look at packets of this family in this namespace.
    No,
}

/// The first functions at the hooks at which connection tracking begins, in their
/// order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Of received packets.
    pub prerouting: Vec<String>,
    /// Of those made on this machine.
    pub output: Vec<String>,
}

/// Who calls the hooks that come later: input, forward, postrouting.
const LATER: [&str; 8] = [
    "ip_local_deliver",
    "ip_forward",
    "ip_output",
    "ip_mc_output",
    "ip6_input",
    "ip6_mc_input",
    "ip6_forward",
    "ip6_output",
];

/// Who calls the hook prerouting.
const RECEIVE: [&str; 7] = [
    "ip_rcv",
    "ip_list_rcv",
    "ip_sublist_rcv",
    "ipv6_rcv",
    "ipv6_list_rcv",
    "ip6_sublist_rcv",
    "ip6_list_rcv",
];

/// Who calls the hook output.
const SEND: [&str; 4] = [
    "__ip_local_out",
    "ip_local_out",
    "__ip6_local_out",
    "ip6_local_out",
];

/// Functions of a hook that the kernel side looks at.
const HOOKS: usize = 5;

/// The function that calls all functions at a hook, for many packets.
const AT_LIST: &str = "nf_hook_slow_list";

/// Where in a packet's way through netfilter a hook stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Prerouting.
    Received,
    /// Output.
    Made,
    /// Input, forward, postrouting.
    Later,
}

/// That of the hook at which a packet was dropped: the hook's name, where it is
/// known; else `function`, which freed the packet, and its `callers` tell.
pub fn stage(hook: Option<&str>, function: Option<&str>, callers: &[String]) -> Option<Stage> {
    match hook {
        Some("prerouting") => return Some(Stage::Received),
        Some("output") => return Some(Stage::Made),
        Some("input" | "forward" | "postrouting") => return Some(Stage::Later),
        Some(_) => return None,
        None => {}
    }
    let at_hook = |name: &str| name == tracked::FUNCTION || name == AT_LIST;
    let behind = if function.is_some_and(at_hook) {
        callers
    } else {
        let hook = callers.iter().position(|name| at_hook(name))?;
        callers.get(hook + 1..)?
    };
    let caller = behind.iter().find(|name| !at_hook(name))?.as_str();
    let stages = [
        (&RECEIVE[..], Stage::Received),
        (&SEND[..], Stage::Made),
        (&LATER[..], Stage::Later),
    ];
    let is_it = |(callers, _): &&(&[&str], Stage)| callers.contains(&caller);
    stages.iter().find(is_it).map(|(_, stage)| *stage)
}

impl Hooks {
    /// Leaves out the chain of nftables that comes first at each hook, which is the
    /// tracer's own, and hides one function behind those that were looked at.
    pub fn forget_first_chain(&mut self) {
        for names in [&mut self.prerouting, &mut self.output] {
            let is_full = names.len() == HOOKS;
            if names
                .first()
                .is_some_and(|name| name.starts_with("nft_do_chain"))
            {
                names.remove(0);
                if is_full {
                    names.push(String::new());
                }
            }
        }
    }

    /// What is said of a packet that was dropped at a hook of this stage.
    pub fn passed(&self, stage: Option<Stage>) -> Passed {
        let prerouting = self.prerouting.iter().position(|name| tracks(name));
        let output = self.output.iter().position(|name| tracks(name));
        if prerouting.is_none() && output.is_none() {
            // One that has no name, or was not looked at any more, may be it.
            let is_whole =
                |names: &[String]| names.len() < HOOKS && names.iter().all(|name| !name.is_empty());
            return if is_whole(&self.prerouting) && is_whole(&self.output) {
                Passed::No
            } else {
                Passed::Perhaps
            };
        }
        let is_first = |names: &[String], at: Option<usize>| {
            at.is_some_and(|at| names[..at].iter().all(|name| name.ends_with("defrag")))
        };
        let comes_before = match stage {
            Some(Stage::Received) => is_first(&self.prerouting, prerouting),
            Some(Stage::Made) => is_first(&self.output, output),
            Some(Stage::Later) => true,
            None => false,
        };
        if comes_before {
            Passed::Yes
        } else {
            Passed::Perhaps
        }
    }
}

fn tracks(function: &str) -> bool {
    tracked::part(function) == Some(tracked::Part::Tracking)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn hooks(prerouting: &[&str]) -> Hooks {
        Hooks {
            prerouting: names(prerouting),
            output: names(&["nft_do_chain_ipv4", "ipv4_conntrack_local"]),
        }
    }

    #[test]
    fn the_stage_follows_from_who_called_the_hook() {
        let of = |function, callers: &[&str]| stage(None, Some(function), &names(callers));
        let callers = ["nft_do_chain_inet", "nf_hook_slow", "ip_local_deliver"];
        assert_eq!(of("nft_do_chain", &callers), Some(Stage::Later));
        assert_eq!(of("nf_hook_slow", &["ip_forward"]), Some(Stage::Later));
        let callers = ["nf_hook_slow_list", "ip_sublist_rcv"];
        assert_eq!(of("nf_hook_slow", &callers), Some(Stage::Received));
        assert_eq!(of("nf_hook_slow", &["__ip_local_out"]), Some(Stage::Made));
        assert_eq!(of("nf_hook_slow", &[]), None);
        let told = |hook| stage(Some(hook), Some("nf_hook_slow"), &names(&["ip_forward"]));
        assert_eq!(told("prerouting"), Some(Stage::Received));
        assert_eq!(told("ingress"), None);
        assert_eq!(of("tcp_v4_rcv", &["ip_local_deliver"]), None);
    }

    #[test]
    fn later_hooks_come_behind_connection_tracking() {
        let hooks = hooks(&["nft_do_chain_ipv4", "ipv4_conntrack_in"]);
        assert_eq!(hooks.passed(Some(Stage::Later)), Passed::Yes);
        assert_eq!(hooks.passed(None), Passed::Perhaps);
    }

    #[test]
    fn at_its_own_hook_it_must_be_the_first() {
        let passed = |prerouting: &[&str]| hooks(prerouting).passed(Some(Stage::Received));
        assert_eq!(passed(&["ipv4_conntrack_in"]), Passed::Yes);
        assert_eq!(
            passed(&["ipv4_conntrack_defrag", "ipv4_conntrack_in"]),
            Passed::Yes
        );
        assert_eq!(
            passed(&["nft_do_chain_ipv4", "ipv4_conntrack_in"]),
            Passed::Perhaps
        );
        let hooks = hooks(&["ipv4_conntrack_in"]);
        assert_eq!(hooks.passed(Some(Stage::Made)), Passed::Perhaps);
    }

    #[test]
    fn without_it_nothing_is_tracked() {
        let passed = |prerouting: &[&str]| {
            let output = Vec::new();
            let prerouting = names(prerouting);
            Hooks { prerouting, output }.passed(Some(Stage::Later))
        };
        assert_eq!(passed(&[]), Passed::No);
        assert_eq!(passed(&["nft_do_chain_inet"]), Passed::No);
        assert_eq!(passed(&["nft_do_chain_inet", ""]), Passed::Perhaps);
        assert_eq!(passed(&["nft_do_chain_inet"; 5]), Passed::Perhaps);
    }

    #[test]
    fn the_tracers_own_chain_is_left_out() {
        let hooks = |prerouting: &[&str]| Hooks {
            prerouting: prerouting.iter().map(|name| (*name).to_owned()).collect(),
            output: Vec::new(),
        };
        let conntrack = ["ipv4_conntrack_defrag", "ipv4_conntrack_in"];
        let mut own_first = hooks(&[&["nft_do_chain_inet"], &conntrack[..]].concat());
        assert_eq!(own_first.passed(Some(Stage::Received)), Passed::Perhaps);
        own_first.forget_first_chain();
        assert_eq!(own_first.passed(Some(Stage::Received)), Passed::Yes);
        let mut none_first = hooks(&conntrack);
        none_first.forget_first_chain();
        assert_eq!(none_first, hooks(&conntrack));
        // There may be one more behind those that were looked at.
        let mut full = hooks(&["nft_do_chain_inet"; HOOKS]);
        full.forget_first_chain();
        assert_eq!(full.passed(Some(Stage::Later)), Passed::Perhaps);
    }
}
