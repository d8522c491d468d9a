//! The rules of a table as `iptables-legacy -S` prints them, or `ebtables-legacy`.

use std::{collections::HashMap, time::Duration};

use super::{family::Family, walk::Walked};
use crate::rules::program::{self, ProgramError};

/// How long they may take.
const TIME: Duration = Duration::from_secs(5);

/// A table's text.
#[derive(Debug, Default)]
pub struct Text {
    /// By chain: its rules.
    rules: HashMap<String, Vec<String>>,
    /// By chain: its policy.
    policies: HashMap<String, String>,
}

/// The program that changes a family's tables.
#[must_use]
pub const fn program(family: Family) -> &'static str {
    match family {
        Family::Ip => "iptables-legacy",
        Family::Ip6 => "ip6tables-legacy",
        Family::Bridge => "ebtables-legacy",
    }
}

/// The program that lists them. (`ebtables-legacy-save` may list those of nftables.)
const fn lister(family: Family) -> &'static str {
    match family {
        Family::Ip => "iptables-legacy-save",
        Family::Ip6 => "ip6tables-legacy-save",
        Family::Bridge => program(family),
    }
}

/// What it comes with.
const fn package(family: Family) -> &'static str {
    match family {
        Family::Ip | Family::Ip6 => "iptables",
        Family::Bridge => "ebtables",
    }
}

/// Whether there is the program that lists a family's tables, and it runs.
#[must_use]
pub fn can_list(family: Family) -> bool {
    program::output(lister(family), package(family), &["--version"], TIME).is_ok()
}

/// Lists a table of the calling thread's network namespace. It must be there: for
/// one that is not, the program would load a kernel module. This program waits for
/// no lock.
///
/// # Errors
///
/// If there is no such program, or it fails, or takes or prints too much.
pub fn list(family: Family, table: &str) -> Result<String, ProgramError> {
    let arguments: &[&str] = match family {
        Family::Ip | Family::Ip6 => &["-t", table],
        // As commands that would make them.
        Family::Bridge => &["-t", table, "-L", "--Lx"],
    };
    program::output(lister(family), package(family), arguments, TIME)
}

impl Text {
    /// From a table's listing; `None` if a line is of no known form.
    #[must_use]
    pub fn parse(family: Family, table: &str, listing: &str) -> Option<Self> {
        let mut text = Self::default();
        let command = format!("ebtables -t {table} ");
        for line in listing.lines() {
            if family == Family::Bridge {
                text.add_command(line.strip_prefix(&command)?.trim_end())?;
            } else {
                text.add_line(line)?;
            }
        }
        Some(text)
    }

    /// Adds a line of what `iptables-legacy-save` prints.
    fn add_line(&mut self, line: &str) -> Option<()> {
        match line.as_bytes().first()? {
            b'#' | b'*' | b'C' => {}
            b':' => {
                let mut words = line[1..].split(' ');
                let (chain, policy) = (words.next()?, words.next()?);
                let shown = format!("-P {chain} {policy}");
                self.policies.insert(chain.to_owned(), shown);
            }
            _ => self.add_rule(line)?,
        }
        Some(())
    }

    /// Adds a command that `ebtables-legacy` prints.
    fn add_command(&mut self, command: &str) -> Option<()> {
        match command.split_once(' ')? {
            ("-N", _) => {}
            ("-P", policy) => {
                let (chain, _) = policy.split_once(' ')?;
                self.policies.insert(chain.to_owned(), command.to_owned());
            }
            _ => self.add_rule(command)?,
        }
        Some(())
    }

    fn add_rule(&mut self, line: &str) -> Option<()> {
        let chain = line.strip_prefix("-A ")?.split(' ').next()?.to_owned();
        self.rules.entry(chain).or_default().push(line.to_owned());
        Some(())
    }

    /// Whether it is that of a table: each chain has as many rules.
    #[must_use]
    pub fn fits(&self, table: &Walked) -> bool {
        let rules: usize = self.rules.values().map(Vec::len).sum();
        let walked: usize = table.chains.iter().map(|chain| chain.len).sum();
        let lens = |name: &str| self.rules.get(name).map_or(0, Vec::len);
        rules == walked
            && table
                .chains
                .iter()
                .all(|chain| lens(&chain.name) == chain.len)
            && table.policies.iter().all(|policy| {
                let chain = &table.chains[policy.chain].name;
                self.line(chain, 0)
                    .is_some_and(|line| line.ends_with(" DROP"))
            })
            && table.rules.iter().all(|rule| {
                let chain = &table.chains[rule.chain].name;
                let target = if rule.rejects { "REJECT" } else { "DROP" };
                self.line(chain, rule.number)
                    .is_some_and(|line| line.split(' ').any(|word| word == target))
            })
    }

    /// A rule by its number, or with 0 the policy.
    #[must_use]
    pub fn line(&self, chain: &str, number: usize) -> Option<&str> {
        match number.checked_sub(1) {
            None => self.policies.get(chain),
            Some(index) => self.rules.get(chain)?.get(index),
        }
        .map(String::as_str)
    }
}

/// The value of an option in a rule's text.
#[must_use]
pub fn option(line: &str, name: &str) -> Option<String> {
    let mut words = Words(line);
    while let Some(word) = words.next() {
        if word == name {
            return words.next();
        }
    }
    None
}

/// Splits a rule into its words, which may be in quotes.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let rest = self.0.trim_start_matches(' ');
        if rest.is_empty() {
            return None;
        }
        let mut word = String::new();
        let mut quoted = false;
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => quoted = !quoted,
                '\\' if quoted => word.extend(chars.next().map(|(_, escaped)| escaped)),
                ' ' if !quoted => {
                    self.0 = &rest[at..];
                    return Some(word);
                }
                other => word.push(other),
            }
        }
        self.0 = "";
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::walk::{Chain, Policy},
        *,
    };

    #[test]
    fn commands_that_would_make_a_table_are_its_text() {
        let listing = "ebtables -t nat -N deep\nebtables -t nat -P POSTROUTING DROP\n\
            ebtables -t nat -A POSTROUTING -p ARP -j DROP \nebtables -t nat -A deep -j ACCEPT\n";
        let text = Text::parse(Family::Bridge, "nat", listing).unwrap();
        assert_eq!(
            text.line("POSTROUTING", 1),
            Some("-A POSTROUTING -p ARP -j DROP")
        );
        assert_eq!(text.line("POSTROUTING", 0), Some("-P POSTROUTING DROP"));
        assert_eq!(text.line("deep", 2), None);
        let chain = |name: &str, len| Chain {
            name: name.to_owned(),
            len,
        };
        let walked = Walked {
            chains: vec![chain("POSTROUTING", 1), chain("deep", 1)],
            policies: vec![Policy { hook: 4, chain: 0 }],
            ..Walked::default()
        };
        assert!(text.fits(&walked));
        let other = Walked {
            policies: vec![Policy { hook: 4, chain: 1 }],
            ..walked
        };
        assert!(!text.fits(&other));
        assert!(Text::parse(Family::Bridge, "filter", listing).is_none());
        assert!(Text::parse(Family::Bridge, "nat", "Bridge table: nat\n").is_none());
        assert!(Text::parse(Family::Bridge, "nat", "").is_some());
    }
}
