//! How what decided is written.

use super::layout::Look;
use crate::event::{Engine, Rule};

/// Where the rule stands: `nft rule: inet filter input handle 5`, with
/// `probably` before it where that is inferred; or who decided: `bpf: program 7
/// my_filter`. Not safe to print.
///
/// It leaves out the rule's text, which has counters in it, and its position
/// among nftables' rules, which other rules move: the place stays the same while packets go by.
pub(super) fn place(rule: &Rule) -> String {
    let probably = if rule.exact { "" } else { "probably " };
    let engine = engine(rule.engine);
    let what = if rule.policy {
        " policy"
    } else if rule.handle.is_some() || rule.number.is_some() {
        " rule"
    } else {
        ""
    };
    let mut words = vec![format!("{probably}{engine}{what}:")];
    words.extend(rule.family.clone());
    match (
        &rule.table,
        &rule.chain,
        rule.table_handle,
        rule.chain_handle,
    ) {
        (Some(table), Some(chain), ..) => words.extend([table.clone(), chain.clone()]),
        (_, _, Some(table), Some(chain)) => {
            words.push(format!("table handle {table} chain handle {chain}"));
        }
        _ => {}
    }
    words.extend(rule.handle.map(|handle| format!("handle {handle}")));
    words.extend(rule.number.map(|number| format!("number {number}")));
    words.extend(rule.prog_id.map(|id| format!("program {id}")));
    words.extend(rule.name.clone());
    if rule.prog_id.is_none() {
        words.extend(rule.function.clone());
        words.extend(rule.module.as_ref().map(|module| format!("of {module}")));
    }
    words.join(" ")
}

fn engine(engine: Engine) -> &'static str {
    match engine {
        Engine::Nft => "nft",
        Engine::Iptables => "iptables",
        Engine::Ebtables => "ebtables",
        Engine::Conntrack => "conntrack",
        Engine::Nat => "nat",
        Engine::Nfqueue => "nfqueue",
        Engine::Bpf => "bpf",
        Engine::Module => "hook function",
    }
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
