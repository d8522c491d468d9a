//! Which rule of nftables dropped a packet, where two means may have found it.

use droptrace_types::Detail;

use crate::{
    event::{Engine, Via},
    rules::{Found, RuleAt},
};

/// The rule, and how it was found; `None` also where two means disagree. `by` is whose
/// hook function said to drop, where that is known; `trusts_policies` that whatever
/// can decide was watched.
pub fn tell(detail: &Detail, by: Option<Engine>, trusts_policies: bool) -> Option<(RuleAt, Via)> {
    let seen = numbers(&detail.rule, detail.time_ns);
    let decided = numbers(&detail.verdict, detail.time_ns);
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
        table: rule.table,
        chain: rule.chain,
        rule: rule.rule,
        cookie: (rule.cookie != 0).then_some(rule.cookie),
        ns,
    })
}

/// Whether two means have found the same. A chain that one of them does not know
/// follows from the rule.
pub fn are_same(one: &RuleAt, other: &RuleAt) -> bool {
    let are_chains = one.chain == other.chain || one.chain == 0 || other.chain == 0;
    one.table == other.table && one.rule == other.rule && are_chains
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

    const RULE: RuleAt = RuleAt {
        family: 0,
        table: 3,
        chain: 1,
        rule: 5,
        cookie: None,
        ns: 0,
    };
    const POLICY: RuleAt = RuleAt { rule: 0, ..RULE };

    #[test]
    fn two_means_must_agree() {
        let told = |decided| choose(Some(RULE), decided, None, true).map(|(_, via)| via);
        assert_eq!(told(None), Some(Via::Frame));
        assert_eq!(told(Some(RuleAt { chain: 0, ..RULE })), Some(Via::Frame));
        for other in [
            POLICY,
            RuleAt { rule: 6, ..RULE },
            RuleAt { table: 4, ..RULE },
            RuleAt { chain: 2, ..RULE },
        ] {
            assert_eq!(told(Some(other)), None, "{other:?}");
        }
    }

    #[test]
    fn what_was_seen_to_decide_counts_where_nothing_else_could() {
        for (by, rule, policy) in [
            (Some(Engine::Nft), true, true),
            (Some(Engine::Nat), true, false),
            (None, true, false),
            (Some(Engine::Conntrack), false, false),
            (Some(Engine::Iptables), false, false),
        ] {
            let told = |decided, trusts| choose(None, Some(decided), by, trusts).is_some();
            assert_eq!(
                (told(RULE, false), told(RULE, true)),
                (rule, rule),
                "{by:?}"
            );
            assert_eq!(
                (told(POLICY, false), told(POLICY, true)),
                (false, policy),
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
            chain_handle: 1,
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
        assert!(is_confirmed(&POLICY, Via::Hook, Some(&found("drop"))));
        assert!(!is_confirmed(&POLICY, Via::Hook, Some(&found("accept"))));
        assert!(!is_confirmed(&POLICY, Via::Hook, None));
        assert!(is_confirmed(&RULE, Via::Hook, None));
        assert!(is_confirmed(&POLICY, Via::Frame, None));
    }
}
