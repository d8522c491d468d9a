//! Rules that iptables-nft made, as iptables prints them.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    sync::LazyLock,
    time::Duration,
};

use super::program::{self, ProgramError};

/// The tables that iptables-nft calls its own, and the base chains it makes in
/// them. <https://git.netfilter.org/iptables/tree/iptables/nft.c>
const TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
const BASE_CHAINS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
/// What iptables-nft's rules are made of. To print a rule, iptables-nft asks for
/// the kernel modules of its parts as it did when it made it; where this one is not
/// even loaded, it made none since the machine was started.
const MODULE: &str = "/sys/module/nft_compat";
/// Shows where it is built in.
const FUNCTION: &str = " nft_target_eval_xt";

/// Whether iptables-nft takes a table for its own.
pub fn is_own<'a>(family: &str, table: &str, base_chains: impl Iterator<Item = &'a str>) -> bool {
    let mut base_chains = base_chains.peekable();
    program_for(family).is_some()
        && TABLES.contains(&table)
        && base_chains.peek().is_some()
        && base_chains.all(|chain| BASE_CHAINS.contains(&chain))
}

/// Whether iptables-nft can print rules without a kernel module being loaded.
pub fn may_be_asked() -> bool {
    static IS_BUILT_IN: LazyLock<bool> = LazyLock::new(|| {
        let symbols = File::open("/proc/kallsyms").map(BufReader::new);
        let mut lines = symbols
            .into_iter()
            .flat_map(BufRead::lines)
            .map_while(Result::ok);
        lines.any(|line| line.ends_with(FUNCTION))
    });
    Path::new(MODULE).exists() || *IS_BUILT_IN
}

fn program_for(family: &str) -> Option<&'static str> {
    match family {
        "ip" => Some("iptables-nft-save"),
        "ip6" => Some("ip6tables-nft-save"),
        _ => None,
    }
}

/// All tables of a family, as iptables-nft-save prints them.
///
/// # Errors
///
/// If there is no such program, or it fails, or takes or prints too much.
pub fn save_within(family: &str, time: Duration) -> Result<String, ProgramError> {
    let program = program_for(family).unwrap_or_default();
    program::output(program, "iptables", &[], time)
}

/// The rules of a table's chains, as iptables prints them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Saved<'a> {
    /// `-P INPUT DROP`, by chain.
    pub policies: HashMap<&'a str, String>,
    /// `-A INPUT -j DROP`, by chain, in order.
    pub rules: HashMap<&'a str, Vec<&'a str>>,
}

/// The tables in what [`save_within`] printed; those are left out in which a line does
/// not belong, as after a comment with a line break.
pub fn parse(text: &str) -> HashMap<&str, Saved<'_>> {
    let mut tables = HashMap::new();
    let mut open: Option<(&str, Option<Saved>)> = None;
    for line in text.split('\n') {
        open = match open {
            None => line
                .strip_prefix('*')
                .map(|name| (name, Some(Saved::default()))),
            Some((name, saved)) if line == "COMMIT" => {
                if let Some(saved) = saved {
                    tables.insert(name, saved);
                }
                None
            }
            Some((name, saved)) => Some((name, saved.and_then(|saved| saved.with(line)))),
        };
    }
    tables
}

impl<'a> Saved<'a> {
    fn with(mut self, line: &'a str) -> Option<Self> {
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (name, policy) = (words.next()?, words.next()?);
            if policy != "-" {
                let policy = format!("-P {name} {policy}");
                self.policies.insert(name, policy);
            }
        } else {
            let chain = line.strip_prefix("-A ")?.split(' ').next()?;
            self.rules.entry(chain).or_default().push(line);
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = include_str!("../../../tests/fixtures/iptables_nft_save.txt");

    #[test]
    fn rules_are_told_by_chain_and_in_order() {
        let tables = parse(SAVED);
        let filter = &tables["filter"];
        assert_eq!(filter.policies["FORWARD"], "-P FORWARD DROP");
        assert_eq!(filter.policies.get("DEEP"), None);
        assert_eq!(
            filter.rules["INPUT"],
            [
                "-A INPUT -p tcp -m tcp --dport 443 -j DROP",
                "-A INPUT -m comment --comment \"a\\\"b c\" -j DEEP"
            ]
        );
        assert_eq!(filter.rules["DEEP"].len(), 1);
        assert_eq!(tables["mangle"].rules["PREROUTING"].len(), 1);
    }

    #[test]
    fn a_table_with_a_line_that_does_not_belong_is_left_out() {
        let forged = SAVED.replace("a\\\"b c", "a\nb");
        let tables = parse(&forged);
        assert!(!tables.contains_key("filter") && tables.contains_key("mangle"));
        for end in 0..SAVED.len() {
            parse(&SAVED[..end]);
        }
    }

    #[test]
    fn tables_of_others_are_not_asked_for() {
        let own =
            |family, table, chains: &[&'static str]| is_own(family, table, chains.iter().copied());
        assert!(own("ip", "filter", &["INPUT", "FORWARD"]));
        assert!(own("ip6", "mangle", &["POSTROUTING"]));
        for (family, table, chains) in [
            ("inet", "filter", &["INPUT"][..]),
            ("ip", "other", &["INPUT"]),
            ("ip", "filter", &["INPUT", "input"]),
            ("ip", "filter", &[]),
        ] {
            assert!(!own(family, table, chains), "{family} {table} {chains:?}");
        }
    }
}
