//! How the rule that decided is written.

use crate::event::{Engine, Rule};

/// Where the rule stands: `nft rule: inet filter input handle 5`, with
/// `probably` before it where that is inferred. Not safe to print.
///
/// It leaves out the rule's text, which has counters in it, and its position
/// among nftables' rules, which other rules move: the place stays the same while packets go by.
pub(super) fn place(rule: &Rule) -> String {
    let probably = if rule.exact { "" } else { "probably " };
    let engine = match rule.engine {
        Engine::Nft => "nft",
        Engine::Iptables => "iptables",
    };
    let what = if rule.policy { "policy" } else { "rule" };
    let mut words = vec![format!("{probably}{engine} {what}:")];
    words.extend(rule.family.clone());
    let number = |what: &str, number: Option<u64>| number.map(|number| format!("{what} {number}"));
    if let (Some(table), Some(chain)) = (&rule.table, &rule.chain) {
        words.extend([table.clone(), chain.clone()]);
    } else {
        words.extend(number("table handle", rule.table_handle));
        words.extend(number("chain handle", rule.chain_handle));
    }
    words.extend(number("handle", rule.handle));
    words.extend(rule.number.map(|number| format!("number {number}")));
    words.join(" ")
}
