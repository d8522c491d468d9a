//! A rule as another tool lists it: what droptrace must say of it.

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// `[rule.NAME]`: one line of a listing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The host.
    pub r#in: String,
    /// Family, table and chain, as `nft list chain` takes them.
    nft: Option<String>,
    /// A command that prints one chain as `iptables -S CHAIN` does.
    iptables: Option<String>,
    /// Table and chain, as `ebtables-legacy -t TABLE -L CHAIN` takes them.
    ebtables: Option<String>,
    /// Text that the line has, and no other line of the chain.
    pub with: Option<String>,
    /// Which of the lines with that text, from 1 on, where there are several.
    pub nth: Option<usize>,
    /// Whether it is listed after the traffic instead of before.
    #[serde(default)]
    pub after: bool,
}

/// How a chain is listed.
#[derive(Debug, PartialEq, Eq)]
pub enum List<'a> {
    /// By `nft`.
    Nft {
        /// Family of the table.
        family: &'a str,
        /// Table.
        table: &'a str,
        /// Chain.
        chain: &'a str,
    },
    /// By this command, which prints what `iptables -S CHAIN` does.
    Iptables(&'a str),
    /// By `ebtables-legacy`.
    Ebtables {
        /// Table.
        table: &'a str,
        /// Chain.
        chain: &'a str,
    },
}

impl Rule {
    /// How its chain is listed.
    pub fn list(&self) -> anyhow::Result<List<'_>> {
        match (&self.nft, &self.iptables, &self.ebtables) {
            (Some(words), None, None) => {
                let words: Vec<&str> = words.split_whitespace().collect();
                let [family, table, chain] = <[&str; 3]>::try_from(words)
                    .ok()
                    .context("`nft` needs a family, a table and a chain")?;
                Ok(List::Nft {
                    family,
                    table,
                    chain,
                })
            }
            (None, Some(line), None) => Ok(List::Iptables(line)),
            (None, None, Some(words)) => {
                let (table, chain) = words
                    .split_once(' ')
                    .context("`ebtables` needs a table and a chain")?;
                Ok(List::Ebtables { table, chain })
            }
            _ => bail!("needs exactly one of `nft`, `iptables`, `ebtables`"),
        }
    }
}
