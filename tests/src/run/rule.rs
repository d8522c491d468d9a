//! Reads rules as their own tools list them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::sandbox::Sandbox;
use crate::scenario::{List, Rule, Scenario};

/// Rules by the name that the scenario gave.
pub type Rules = BTreeMap<String, Listed>;

/// A rule, or the line of a chain that has its policy.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Family, table and chain, where nft listed it.
    names: Option<[String; 3]>,
    /// nft's number of it.
    handle: Option<u64>,
    /// Its place in the chain, from 1 on; none for a policy.
    number: Option<u64>,
    /// The line.
    text: String,
}

impl Listed {
    /// What stands for `"(WHAT of NAME)"` in a pattern.
    pub fn field(&self, what: &str) -> Option<Value> {
        match what {
            "handle" => Some(self.handle?.into()),
            "number" => Some(self.number?.into()),
            "text" => Some(json!({ "reads": self.text })),
            _ => None,
        }
    }

    /// What a record that names this rule must say.
    pub fn pattern(&self) -> anyhow::Result<Value> {
        let Some([family, table, chain]) = &self.names else {
            bail!("a rule that nft does not list: say field by field what the record must be");
        };
        let or_null = |number: Option<u64>| number.map_or("(null)".into(), Value::from);
        Ok(json!({
            "engine": "nft", "family": family, "table": table, "chain": chain,
            "handle": or_null(self.handle), "position": or_null(self.number),
            "text": { "reads": self.text },
            "policy": if self.number.is_none() { true.into() } else { Value::from("(null)") },
        }))
    }
}

/// Lists the rules that are to be listed now: before the traffic, or after it.
pub fn read(scenario: &Scenario, sandbox: &Sandbox, after: bool) -> anyhow::Result<Rules> {
    // Each chain is listed once, however many of its rules are asked for.
    let mut listings = BTreeMap::new();
    let mut shell = |host: &str, line: String| match listings.entry((host.to_owned(), line)) {
        Entry::Occupied(listing) => anyhow::Ok(String::clone(listing.get())),
        Entry::Vacant(place) => {
            let (host, line) = place.key();
            let text = sandbox.shell(host, line, "")?;
            Ok(place.insert(text).clone())
        }
    };
    let now = scenario.rule.iter().filter(|(_, rule)| rule.after == after);
    now.map(|(name, rule)| {
        let listed = read_one(name, rule, &mut shell).with_context(|| format!("rule.{name}"))?;
        Ok((name.clone(), listed))
    })
    .collect()
}

fn read_one(
    name: &str,
    rule: &Rule,
    mut shell: impl FnMut(&str, String) -> anyhow::Result<String>,
) -> anyhow::Result<Listed> {
    let (lines, names) = match rule.list()? {
        List::Nft {
            family,
            table,
            chain,
        } => {
            let line = format!("nft -a list chain {family} {table} {chain}");
            let names = [family, table, chain].map(ToOwned::to_owned);
            (nft(&shell(&rule.r#in, line)?), Some(names))
        }
        List::Iptables(line) => (iptables(&shell(&rule.r#in, line.to_owned())?), None),
        List::Ebtables { table, chain } => {
            let line = format!("ebtables-legacy -t {table} -L {chain} --Ln");
            (ebtables(chain, &shell(&rule.r#in, line)?), None)
        }
    };
    let counted = format!("counter name \"{name}\"");
    let with = rule.with.as_ref().unwrap_or(&counted);
    Ok(Listed {
        names,
        ..pick(lines, with, rule.nth)?
    })
}

/// The one line that has this text, or the `nth` of them.
fn pick(lines: Vec<Listed>, with: &str, nth: Option<usize>) -> anyhow::Result<Listed> {
    let mut found: Vec<Listed> = lines
        .into_iter()
        .filter(|line| line.text.contains(with))
        .collect();
    match (found.len(), nth) {
        (1, None) => Ok(found.remove(0)),
        (count, Some(nth)) if (1..=count).contains(&nth) => Ok(found.remove(nth - 1)),
        (count, _) => bail!("{count} lines of the chain have `{with}`"),
    }
}

#[cfg(test)]
impl Listed {
    /// A rule of `inet filter input`, as nft lists that chain.
    pub fn in_input(listing: &str, with: &str) -> Self {
        Self {
            names: Some(["inet", "filter", "input"].map(ToOwned::to_owned)),
            ..pick(nft(listing), with, None).unwrap()
        }
    }
}

/// The lines of what `nft -a list chain` prints: two tabs before each; a rule
/// ends with its handle, and may take several lines.
fn nft(text: &str) -> Vec<Listed> {
    let mut lines: Vec<Listed> = Vec::new();
    let mut begun = String::new();
    let mut number = 0;
    for line in text.lines().filter(|line| line.starts_with("\t\t")) {
        if !begun.is_empty() {
            begun.push(' ');
        }
        begun += line.trim();
        let rule = begun
            .rsplit_once(" # handle ")
            .and_then(|(text, handle)| Some((text.to_owned(), handle.parse().ok()?)));
        if let Some((text, handle)) = rule {
            number += 1;
            lines.push(Listed {
                handle: Some(handle),
                number: Some(number),
                text,
                ..Listed::default()
            });
            begun.clear();
        } else if begun.starts_with("type ") && begun.ends_with(';') {
            lines.push(Listed {
                text: std::mem::take(&mut begun),
                ..Listed::default()
            });
        }
    }
    lines
}

/// The lines of what `iptables -S CHAIN` prints: the chain itself, then its rules,
/// in the order in which `-L --line-numbers` counts them.
fn iptables(text: &str) -> Vec<Listed> {
    let mut number = 0;
    let line = |line: &str| {
        let is_rule = line.starts_with("-A ");
        number += u64::from(is_rule);
        Listed {
            number: is_rule.then_some(number),
            text: line.trim_end().to_owned(),
            ..Listed::default()
        }
    };
    text.lines().map(line).collect()
}

/// The lines of what `ebtables-legacy -L CHAIN --Ln` prints, in the form of commands:
/// the chain's policy, then its rules, with the numbers that stand before them.
fn ebtables(chain: &str, text: &str) -> Vec<Listed> {
    let line = |line: &str| {
        if line.starts_with("Bridge chain: ") {
            let (_, policy) = line.rsplit_once(' ')?;
            return Some(Listed {
                text: format!("-P {chain} {policy}"),
                ..Listed::default()
            });
        }
        let (number, rule) = line.split_once(". ")?;
        Some(Listed {
            number: Some(number.parse().ok()?),
            text: format!("-A {chain} {}", rule.trim_end()),
            ..Listed::default()
        })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NFT: &str = "\
table inet filter {
\tchain input { # handle 9
\t\ttype filter hook input priority filter; policy drop;
\t\tudp dport { 1, 2,
\t\t\t     3 } counter name \"many\" drop # handle 4
\t\tudp dport 7 drop comment \"# handle 3\" # handle 11
\t\tudp dport 7 drop comment \"# handle 3\" # handle 12
\t}
}
";

    const IPTABLES: &str = "-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n-A INPUT -j DEEP\n";

    #[test]
    fn a_rule_of_nft_has_its_handle_place_and_text() {
        let many = pick(nft(NFT), "counter name \"many\"", None).unwrap();
        assert_eq!((many.handle, many.number), (Some(4), Some(1)));
        assert_eq!(
            many.text,
            "udp dport { 1, 2, 3 } counter name \"many\" drop"
        );
        let second = pick(nft(NFT), "udp dport 7", Some(2)).unwrap();
        assert_eq!((second.handle, second.number), (Some(12), Some(3)));
        assert_eq!(second.text, "udp dport 7 drop comment \"# handle 3\"");
    }

    #[test]
    fn a_text_must_tell_one_line() {
        for (with, nth) in [
            ("udp dport 7", None),
            ("udp dport 7", Some(3)),
            ("tcp", None),
        ] {
            assert!(pick(nft(NFT), with, nth).is_err(), "{with} {nth:?}");
        }
    }

    #[test]
    fn a_policy_has_neither_handle_nor_place() {
        let policy = Listed::in_input(NFT, "policy drop");
        let pattern = policy.pattern().unwrap();
        assert_eq!(pattern["policy"], true);
        assert_eq!(pattern["handle"], "(null)");
        assert_eq!(pattern["table"], "filter");
        assert_eq!(policy.field("handle"), None);
    }

    const EBTABLES: &str = "Bridge table: filter\n\nBridge chain: FORWARD, entries: 2, policy: \
        DROP\n1. -p ARP -j CONTINUE \n2. -j deep\n";

    #[test]
    fn a_rule_of_ebtables_has_the_number_before_it() {
        let listed = || ebtables("FORWARD", EBTABLES);
        let first = pick(listed(), "ARP", None).unwrap();
        assert_eq!(first.number, Some(1));
        assert_eq!(first.text, "-A FORWARD -p ARP -j CONTINUE");
        assert_eq!(pick(listed(), "deep", None).unwrap().number, Some(2));
        let policy = pick(listed(), "-P", None).unwrap();
        assert_eq!(
            (policy.number, policy.text.as_str()),
            (None, "-P FORWARD DROP")
        );
        assert_eq!(listed().len(), 3);
    }

    #[test]
    fn a_rule_of_iptables_has_its_number_and_line() {
        let rule = pick(iptables(IPTABLES), "-j DEEP", None).unwrap();
        assert_eq!(rule.field("number").unwrap(), 2);
        assert_eq!(
            rule.field("text").unwrap(),
            json!({"reads": "-A INPUT -j DEEP"})
        );
        assert!(rule.pattern().is_err());
        let policy = pick(iptables(IPTABLES), "-P INPUT", None).unwrap();
        assert_eq!(policy.number, None);
    }
}
