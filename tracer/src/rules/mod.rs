//! Which rule a handle stands for: table, chain, position and text.
//!
//! The rule set of a network namespace is read (by a thread of its own, [`reader`])
//! at the start if a rule of it is likely to be asked for, else when one is first
//! asked for, and again when it has changed, of which the kernel tells. The kernel
//! gives no handle of a
//! [table](https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_tables_api.c#L1484)
//! twice in a namespace, and none of a
//! [chain or rule](https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_tables_api.c#L873)
//! twice in a table. But `nft replace rule`
//! [keeps the handle](https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_tables_api.c#L4142)
//! and gives it another text. So rule sets are kept by generation ([`history`]), and
//! a text is said to be that of the time of the drop ([`Found::then`]) only where
//! that is proven.

mod history;
mod iptables;
mod jumps;
mod listing;
pub mod nft;
pub mod program;
mod reader;
mod reading;
mod statement;
#[cfg(test)]
mod tests;
pub mod trial;
pub(crate) mod watch;

use std::{collections::HashSet, path::PathBuf, time::Duration};

use self::{
    history::{History, Sought},
    listing::Listed,
    reader::Reader,
};

/// A rule as the kernel told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleAt {
    /// Family of the table, `NFPROTO_*`; 0 where it is not known.
    pub family: u8,
    /// Table and chain.
    pub chain: ChainAt,
    /// Handle of the rule; 0 where the chain's policy decided.
    pub rule: u64,
    /// The namespace's cookie (`net_cookie`), where the kernel showed it.
    pub cookie: Option<u64>,
    /// When the packet was dropped, on the kernel's monotonic clock.
    pub ns: u64,
}

/// A table and a chain of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainAt {
    /// By their handles.
    Handles {
        /// Of the table.
        table: u64,
        /// Of the chain.
        chain: u64,
    },
    /// By their names.
    Names {
        /// Of the table.
        table: String,
        /// Of the chain.
        chain: String,
    },
}

/// What a rule set says about a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Family of the table.
    pub family: String,
    /// Name of the table.
    pub table: String,
    /// Name of the chain.
    pub chain: String,
    /// The handles of both.
    pub handles: [u64; 2],
    /// The chains from a base chain to this one, where it is certain which and
    /// there are several.
    pub path: Option<Vec<String>>,
    /// Position in the chain, from 1 on; `None` for a policy, and where the rule
    /// is no longer there.
    pub position: Option<usize>,
    /// As `nft -a list ruleset` prints it, without the handle; for a policy the
    /// line that has it.
    pub text: Option<String>,
    /// The rule, or the policy, as iptables prints it, if iptables-nft made it.
    pub iptables: Option<String>,
    /// The rule's comment.
    pub comment: Option<String>,
    /// Its last statement where that is a verdict.
    pub verdict: Option<String>,
    /// All but the names are as they were when the packet was
    /// dropped; else as they were when they were read.
    pub then: bool,
    /// A file that stands for the namespace; `None` for the tracer's own.
    pub namespace: Option<PathBuf>,
}

/// The rule sets of the machine's namespaces.
#[derive(Debug, Default)]
pub struct RuleSets {
    /// `None` until rule sets are to be read.
    reader: Option<Reader>,
    /// Namespaces that were asked for since the last call of
    /// [`RuleSets::look_again`].
    asked: HashSet<u32>,
}

/// What is known of a rule.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// This, and it will not be more.
    Now(Option<Found>),
    /// This so far; more is on its way.
    Later(Option<Found>),
}

impl RuleSets {
    /// Begins to read rule sets. Each is kept for `keep` after it has changed.
    pub fn start(&mut self, keep: Duration) {
        if self.reader.is_none() {
            match Reader::start(keep) {
                Ok(reader) => self.reader = Some(reader),
                Err(error) => log::warn!(
                    "no thread could be started to read rule sets: {error}; netfilter rules are \
                     told by handle only"
                ),
            }
        }
    }

    /// To be called from time to time, or what is asked for does not come.
    pub fn look_again(&mut self) {
        self.asked.clear();
    }

    /// The rule in the namespace with this inode number.
    pub fn find(&mut self, netns: u32, at: &RuleAt) -> Answer {
        let Some(reader) = &self.reader else {
            return Answer::Now(None);
        };
        let histories = reader.histories();
        let history = histories.get(&netns);
        let found = history.and_then(|history| find(history, at));
        let is_proven = found.as_ref().is_some_and(|found| found.then);
        if is_proven || history.is_some_and(|history| history.sure_ns >= at.ns && !history.is_read)
        {
            return Answer::Now(found);
        }
        let is_sure = history.is_some_and(|history| history.sure_ns >= at.ns);
        drop(histories);
        if !is_sure && self.asked.insert(netns) {
            reader.ask(netns);
        }
        Answer::Later(found)
    }
}

fn find(history: &History, at: &RuleAt) -> Option<Found> {
    // The packet's namespace is gone, and this one has its number.
    let is_another = |cookie| history.cookie != 0 && cookie != history.cookie;
    if at.cookie.is_some_and(is_another) {
        return None;
    }
    let sought = Sought {
        family: match at.family {
            0 => None,
            family => Some(family_name(family)?),
        },
        chain: &at.chain,
        rule: at.rule,
    };
    let (listed, then) = history.find(sought, at.ns)?;
    Some(found(&listed, at, then, history.namespace.clone()))
}

fn found(listed: &Listed<'_>, at: &RuleAt, then: bool, namespace: Option<PathBuf>) -> Found {
    let (position, text) = match listed.rule {
        Some((position, text)) => (Some(position), Some(text)),
        None if at.rule == 0 => (None, listed.base),
        None => (None, None),
    };
    let statement = text.filter(|_| at.rule != 0);
    let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
    Found {
        family: listed.family.to_owned(),
        table: listed.table.to_owned(),
        chain: listed.chain.to_owned(),
        handles: listed.handles,
        path: listed
            .path
            .as_ref()
            .map(|path| path.iter().copied().map(ToOwned::to_owned).collect()),
        position,
        text: owned(text),
        iptables: owned(listed.iptables),
        comment: owned(statement.and_then(statement::comment)),
        verdict: owned(statement.and_then(statement::verdict)),
        then,
        namespace,
    }
}

/// The family's name as nft writes it; `None` for a number that is none.
#[must_use]
pub fn family_name(family: u8) -> Option<&'static str> {
    match i32::from(family) {
        libc::NFPROTO_INET => Some("inet"),
        libc::NFPROTO_IPV4 => Some("ip"),
        libc::NFPROTO_ARP => Some("arp"),
        libc::NFPROTO_NETDEV => Some("netdev"),
        libc::NFPROTO_BRIDGE => Some("bridge"),
        libc::NFPROTO_IPV6 => Some("ip6"),
        _ => None,
    }
}
