//! What several means say of one drop, compared: that they differ is a bug.

use crate::{
    event::{Compared, OtherRule, Rule, Via},
    nftrace::Place,
    rules,
};

/// Disagreements that are told in words.
const MAX_TOLD: usize = 20;

/// How often means named the same rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Records whose rule was named by two means.
    pub named: u64,
    /// Those of them in which both named the same.
    pub agreed: u64,
    /// What was named otherwise, in words; some at most.
    pub differences: Vec<String>,
}

impl Comparison {
    /// Compares a rule with what another means says of the same drop, and says in
    /// the rule how that came out.
    pub fn add(&mut self, rule: &mut Rule, via: Via, other: OtherRule) {
        // Without its rule set, a rule has numbers that nobody can compare.
        if rule.table.is_none() {
            return;
        }
        let agrees = is_same(rule, &other);
        self.count(agrees, || {
            let told = OtherRule {
                family: rule.family.clone(),
                table: rule.table.clone(),
                chain: rule.chain.clone(),
                handle: rule.handle,
            };
            format!(
                "{}: {}; {}: {}",
                name(rule.via),
                words(&told),
                name(via),
                words(&other)
            )
        });
        rule.compared.push(Compared {
            via,
            agrees,
            other: (!agrees).then_some(other),
        });
    }

    /// Takes note of a rule that two means have named; `both` says how, in words.
    pub fn count(&mut self, agrees: bool, both: impl FnOnce() -> String) {
        self.named += 1;
        self.agreed += u64::from(agrees);
        if !agrees && self.differences.len() < MAX_TOLD {
            self.differences.push(both());
        }
    }

    /// The share, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let share = (self.agreed * 100).checked_div(self.named).unwrap_or(100);
        format!(
            "rules: {} named by two means, {} agree ({share} %)",
            self.named, self.agreed
        )
    }
}

/// Whether both are the same rule. A policy may be known without its chain.
fn is_same(rule: &Rule, other: &OtherRule) -> bool {
    let has_chain = rule.chain.is_some() || !rule.policy;
    (&rule.family, &rule.table, rule.handle) == (&other.family, &other.table, other.handle)
        && (!has_chain || rule.chain == other.chain)
}

/// What the trace says.
pub fn traced(place: &Place) -> OtherRule {
    OtherRule {
        family: rules::family_name(place.family).map(ToOwned::to_owned),
        table: Some(place.table.clone()),
        chain: Some(place.chain.clone()),
        handle: (place.rule != 0).then_some(place.rule),
    }
}

fn name(via: Via) -> &'static str {
    match via {
        Via::Frame => "frame",
        Via::Hook => "hook",
        Via::Counter => "counter",
        Via::Trace => "trace",
        Via::Lookup => "lookup",
    }
}

fn words(rule: &OtherRule) -> String {
    let or_unknown = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".to_owned());
    let [family, table, chain] = [&rule.family, &rule.table, &rule.chain].map(or_unknown);
    match rule.handle {
        Some(handle) => format!("{family} {table} {chain} handle {handle}"),
        None => format!("{family} {table} {chain} policy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Engine, record::rule};

    fn framed(chain: Option<&str>, handle: Option<u64>) -> Rule {
        Rule {
            family: Some("inet".into()),
            table: Some("filter".into()),
            chain: chain.map(ToOwned::to_owned),
            handle,
            policy: handle.is_none(),
            ..rule::by(Engine::Nft)
        }
    }

    fn place(chain: &str, rule: u64) -> OtherRule {
        traced(&Place {
            family: 1,
            table: "filter".into(),
            chain: chain.into(),
            rule,
        })
    }

    #[test]
    fn the_same_rule_by_two_means_agrees() {
        let mut comparison = Comparison::default();
        for (chain, handle, other) in [
            (Some("input"), Some(4), place("input", 4)),
            (Some("input"), None, place("input", 0)),
            (None, None, place("input", 0)),
        ] {
            let mut rule = framed(chain, handle);
            comparison.add(&mut rule, Via::Trace, other);
            assert!(rule.compared[0].agrees);
            assert_eq!(rule.compared[0].other, None);
        }
        assert_eq!(
            comparison.summary(),
            "rules: 3 named by two means, 3 agree (100 %)"
        );
        assert!(comparison.differences.is_empty());
    }

    #[test]
    fn another_rule_is_told_with_both_answers() {
        let mut comparison = Comparison::default();
        let wrong = [place("input", 5), place("deep", 4), place("input", 0)];
        for other in wrong {
            let mut rule = framed(Some("input"), Some(4));
            comparison.add(&mut rule, Via::Trace, other.clone());
            assert!(!rule.compared[0].agrees);
            assert_eq!(rule.compared[0].other, Some(other));
        }
        let mut good = framed(Some("input"), Some(4));
        comparison.add(&mut good, Via::Trace, place("input", 4));
        assert_eq!(
            comparison.summary(),
            "rules: 4 named by two means, 1 agree (25 %)"
        );
        assert_eq!(
            comparison.differences[0],
            "frame: inet filter input handle 4; trace: inet filter input handle 5"
        );
        assert!(comparison.differences[2].ends_with("trace: inet filter input policy"));
    }

    #[test]
    fn a_rule_without_names_is_not_compared() {
        let mut comparison = Comparison::default();
        let mut rule = Rule {
            table: None,
            ..framed(None, Some(4))
        };
        comparison.add(&mut rule, Via::Trace, place("input", 4));
        assert_eq!(comparison, Comparison::default());
        assert!(rule.compared.is_empty());
    }
}
