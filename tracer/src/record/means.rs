//! Which rule of nftables dropped a packet, where two means may have found it.

use droptrace_types::Detail;

use super::compare::Comparison;
use crate::{
    event::{Engine, Via},
    rules::{ChainAt, Found, RuleAt},
};

/// The rule, and how it was found; `None` also where two means disagree. `by` is whose
/// hook function said to drop, where that is known; `trusts_policies` that whatever
/// can decide was watched; `comparison` is where it is noted that both have found it.
pub fn tell(
    detail: &Detail,
    by: Option<Engine>,
    trusts_policies: bool,
    comparison: Option<&mut Comparison>,
) -> Option<(RuleAt, Via)> {
    let seen = numbers(&detail.rule, detail.time_ns);
    let decided = numbers(&detail.verdict, detail.time_ns);
    if let (Some(seen), Some(decided), Some(comparison)) = (&seen, &decided, comparison) {
        comparison.count(are_same(seen, decided), || {
            format!("{seen:?} on the stack, {decided:?} by nftables' functions")
        });
    }
    choose(seen, decided, by, trusts_policies)
}

fn choose(
    seen: Option<RuleAt>,
    decided: Option<RuleAt>,
    by: Option<Engine>,
    trusts_policies: bool,
) -> Option<(RuleAt, Via)> {
    match (seen, decided) {
        (Some(seen), Some(decided)) if !are_same(&seen, &decided) => {
            log::warn!(
                "two means disagree about the rule that dropped a packet, so it is not told; \
                 please report this: {seen:?} on the stack, {decided:?} by nftables' functions"
            );
            None
        }
        (Some(seen), _) => Some((seen, Via::Frame)),
        (None, decided) => {
            let decided = decided.filter(|decided| match by {
                Some(Engine::Nft) => decided.rule != 0 || trusts_policies,
                // Address translation calls the chains of nftables; where the hook
                // function is not known, a bridge has freed the packet.
                Some(Engine::Nat) | None => decided.rule != 0,
                Some(_) => false,
            });
            Some((decided?, Via::Hook))
        }
    }
}

/// A rule by its numbers, `None` where it is not known.
fn numbers(rule: &droptrace_types::RuleAt, ns: u64) -> Option<RuleAt> {
    (rule.is_known != 0).then_some(RuleAt {
        family: u8::try_from(rule.family).ok()?,
        chain: ChainAt::Handles {
            table: rule.table,
            chain: rule.chain,
        },
        rule: rule.rule,
        cookie: (rule.cookie != 0).then_some(rule.cookie),
        ns,
    })
}

/// Whether two means have found the same. A chain that one of them does not know
/// follows from the rule.
fn are_same(one: &RuleAt, other: &RuleAt) -> bool {
    let (
        ChainAt::Handles { table, chain },
        ChainAt::Handles {
            table: other_table,
            chain: other_chain,
        },
    ) = (&one.chain, &other.chain)
    else {
        return false;
    };
    let are_chains = chain == other_chain || *chain == 0 || *other_chain == 0;
    table == other_table && one.rule == other.rule && are_chains
}

/// Where no rule was seen to decide, the chain's policy did, if it drops.
pub fn is_confirmed(at: &RuleAt, via: Via, found: Option<&Found>) -> bool {
    let drops = |found: &Found| {
        let text = found.text.as_deref();
        text.is_some_and(|text| text.contains(" policy drop;"))
    };
    via != Via::Hook || at.rule != 0 || found.is_some_and(drops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(table: u64, chain: u64, rule: u64) -> RuleAt {
        RuleAt {
            family: 0,
            chain: ChainAt::Handles { table, chain },
            rule,
            cookie: None,
            ns: 0,
        }
    }

    fn rule() -> RuleAt {
        at(3, 1, 5)
    }

    fn policy() -> RuleAt {
        at(3, 1, 0)
    }

    #[test]
    fn two_means_must_agree() {
        let told = |decided| choose(Some(rule()), decided, None, true).map(|(_, via)| via);
        assert_eq!(told(None), Some(Via::Frame));
        assert_eq!(told(Some(at(3, 0, 5))), Some(Via::Frame));
        for other in [policy(), at(3, 1, 6), at(4, 1, 5), at(3, 2, 5)] {
            assert_eq!(told(Some(other.clone())), None, "{other:?}");
        }
    }

    #[test]
    fn what_was_seen_to_decide_counts_where_nothing_else_could() {
        for (by, by_rule, by_policy) in [
            (Some(Engine::Nft), true, true),
            (Some(Engine::Nat), true, false),
            (None, true, false),
            (Some(Engine::Conntrack), false, false),
            (Some(Engine::Iptables), false, false),
        ] {
            let told = |decided, trusts| choose(None, Some(decided), by, trusts).is_some();
            assert_eq!(
                (told(rule(), false), told(rule(), true)),
                (by_rule, by_rule),
                "{by:?}"
            );
            assert_eq!(
                (told(policy(), false), told(policy(), true)),
                (false, by_policy),
                "{by:?}"
            );
        }
        assert_eq!(choose(None, None, Some(Engine::Nft), true), None);
    }

    #[test]
    fn a_policy_is_one_that_drops() {
        let found = |policy: &str| Found {
            family: "inet".into(),
            table: "t".into(),
            chain: "c".into(),
            handles: [3, 1],
            path: None,
            position: None,
            text: Some(format!(
                "type filter hook input priority filter; policy {policy};"
            )),
            iptables: None,
            comment: None,
            verdict: None,
            then: true,
            namespace: None,
        };
        assert!(is_confirmed(&policy(), Via::Hook, Some(&found("drop"))));
        assert!(!is_confirmed(&policy(), Via::Hook, Some(&found("accept"))));
        assert!(!is_confirmed(&policy(), Via::Hook, None));
        assert!(is_confirmed(&rule(), Via::Hook, None));
        assert!(is_confirmed(&policy(), Via::Frame, None));
    }
}
