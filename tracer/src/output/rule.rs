//! How the rule that decided is written.

use crate::event::{Engine, Rule};

/// Where the rule stands: `nft rule: inet filter input handle 5`, with
/// `probably` before it where that is inferred. Not safe to print.
///
/// It leaves out the rule's text, which has counters in it, and its position,
/// which other rules move: the place stays the same while packets go by.
pub(super) fn place(rule: &Rule) -> String {
    let probably = if rule.exact { "" } else { "probably " };
    let engine = match rule.engine {
        Engine::Nft => "nft",
        Engine::Conntrack => return format!("{probably}connection tracking"),
        Engine::Nat => return format!("{probably}address translation"),
    };
    let what = if rule.policy { "policy" } else { "rule" };
    let mut words = vec![format!("{probably}{engine} {what}:")];
    words.extend(rule.family.clone());
    if let (Some(table), Some(chain)) = (&rule.table, &rule.chain) {
        words.extend([table.clone(), chain.clone()]);
    } else {
        let handle =
            |what, handle: Option<u64>| handle.map(|handle| format!("{what} handle {handle}"));
        words.extend(handle("table", rule.table_handle));
        words.extend(handle("chain", rule.chain_handle));
    }
    words.extend(rule.handle.map(|handle| format!("handle {handle}")));
    words.join(" ")
}
