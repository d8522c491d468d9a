//! How the rule that decided is written.

use super::layout::Look;
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
    };
    let what = if rule.policy { "policy" } else { "rule" };
    let mut words = vec![format!("{probably}{engine} {what}:")];
    words.extend(rule.family.clone());
    match (&rule.table, &rule.chain) {
        (Some(table), Some(chain)) => words.extend([table.clone(), chain.clone()]),
        _ => words.push(format!(
            "table handle {} chain handle {}",
            rule.table_handle, rule.chain_handle
        )),
    }
    words.extend(rule.handle.map(|handle| format!("handle {handle}")));
    words.join(" ")
}

/// What it says: the chains that lead to it, its text, and that as iptables
/// prints it. Not safe to print.
pub(super) fn texts(rule: &Rule, look: &Look) -> Vec<String> {
    let path = rule.path.join(look.glyph(" → ", " -> "));
    let mut texts = Vec::from_iter((!path.is_empty()).then_some(path));
    texts.extend(rule.text.clone());
    texts.extend(rule.iptables.clone());
    texts
}
