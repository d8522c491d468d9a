//! Which rule a handle stands for: table, chain, position and text.
//!
//! The rule set of a network namespace is read when one of its rules is first
//! asked for, and again when it has changed (its generation tells). The kernel
//! gives no handle of a
//! [table](https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_tables_api.c#L1484)
//! twice in a namespace, and none of a
//! [chain or rule](https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_tables_api.c#L873)
//! twice in a table. But `nft replace rule`
//! [keeps the handle](https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_tables_api.c#L4142)
//! and gives it another text, so a text is said to be that of the time of the
//! drop ([`Found::then`]) only where the generation proves it.

pub(crate) mod generation;
mod listing;
pub mod nft;
pub mod program;
mod statement;
#[cfg(test)]
mod tests;
pub mod trial;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    mem::{Discriminant, discriminant},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use self::{
    generation::Generation,
    listing::{Listed, Listing},
    nft::NftError,
};
use crate::{kernel::clock, owner::netns};

/// Namespaces whose rule sets are remembered, and how much memory they may take.
const MAX_REMEMBERED: usize = 64;
const MAX_BYTES: usize = 128 << 20;
/// Reading one rule set, or searching for a namespace, may take one part in so
/// many of the time.
const SHARE: u32 = 10;

/// A rule by the kernel's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleAt {
    /// Family of the table, `NFPROTO_*`.
    pub family: u8,
    /// Handle of the table.
    pub table: u64,
    /// Handle of the chain.
    pub chain: u64,
    /// Handle of the rule; 0 where the chain's policy decided.
    pub rule: u64,
    /// The namespace's cookie (`net_cookie`), where the kernel showed it.
    pub cookie: Option<u64>,
    /// When the packet was dropped, on the kernel's monotonic clock; before the
    /// last call of [`RuleSets::look_again`].
    pub ns: u64,
}

/// What a rule set says about a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Name of the table.
    pub table: String,
    /// Name of the chain.
    pub chain: String,
    /// Position in the chain, from 1 on; `None` for a policy, and where the rule
    /// is no longer there.
    pub position: Option<usize>,
    /// As `nft -a list ruleset` prints it, without the handle; for a policy the
    /// line that has it.
    pub text: Option<String>,
    /// The rule's comment.
    pub comment: Option<String>,
    /// Its last statement where that is a verdict.
    pub verdict: Option<String>,
    /// Position, text, comment and verdict are as they were when the packet was
    /// dropped; else as they were when they were read.
    pub then: bool,
    /// A file that stands for the namespace; `None` for the tracer's own.
    pub namespace: Option<PathBuf>,
}

/// The rule sets of the machine's namespaces, as far as they were asked for.
#[derive(Debug, Default)]
pub struct RuleSets {
    remembered: HashMap<u32, RuleSet>,
    /// Grows with every call of [`RuleSets::look_again`].
    round: u64,
    /// No search for a namespace before then.
    no_search_before: Option<Instant>,
    /// What was complained about.
    complained: HashSet<Discriminant<RuleSetError>>,
}

/// What is known of one namespace.
#[derive(Debug)]
struct RuleSet {
    path: PathBuf,
    /// Of the listing; `None` where the kernel did not tell.
    generation: Option<Generation>,
    /// When the rule set is known to have been of that generation, from then
    /// until it was last made sure of; `None` where it is not any more.
    since_ns: Option<u64>,
    /// `None` where it could not be read.
    listing: Option<Listing>,
    /// The round in which it was last made sure of.
    round: u64,
    /// No reading before then.
    not_before: Instant,
}

/// Why a rule has no name.
#[derive(Debug, thiserror::Error)]
enum RuleSetError {
    #[error("network namespace {0}: it could not be entered to read its rules: {1}")]
    Enter(u32, io::Error),
    #[error("network namespace {0}: the kernel did not tell the rule set's generation: {1}")]
    Generation(u32, io::Error),
    #[error("network namespace {0}: its rules could not be read: {1}")]
    Read(u32, NftError),
}

impl RuleSets {
    /// Lets every rule set be made sure of again before it is next believed. To
    /// be called after packets were taken from the kernel and before their rules
    /// are asked for.
    pub fn look_again(&mut self) {
        self.round += 1;
    }

    /// The rule in the namespace with this inode number; `None` where neither it
    /// nor its chain is known.
    pub fn find(&mut self, netns: u32, at: &RuleAt) -> Option<Found> {
        let family = family_name(at.family)?;
        self.make_sure(netns);
        let set = self.remembered.get(&netns)?;
        if set.is_of_another_namespace_than(at) {
            return None;
        }
        let listing = set.listing.as_ref()?;
        let listed = listing.find(family, at.table, at.chain, at.rule)?;
        let then = set.is_of_the_time_of(at);
        let is_own = set.path == Path::new(netns::OWN);
        let namespace = (!is_own).then(|| set.path.clone());
        Some(found(&listed, at, then, namespace))
    }

    /// Sees to it that what is remembered of a namespace belongs to it, and is
    /// of its present generation if there is time to read that.
    fn make_sure(&mut self, netns: u32) {
        let known = self.remembered.get(&netns);
        if known.is_some_and(|set| set.round == self.round) {
            return;
        }
        let Some((path, file)) = self.open(netns) else {
            self.remembered.remove(&netns);
            return;
        };
        let old = self.remembered.remove(&netns);
        let (mut set, complaint) = refresh(netns, path, &file, old);
        set.round = self.round;
        self.make_room(set.size());
        self.remembered.insert(netns, set);
        if let Some(error) = complaint {
            self.complain(&error);
        }
    }

    /// Opens a namespace, where it was found before or else wherever it is.
    fn open(&mut self, netns: u32) -> Option<(PathBuf, File)> {
        let known = self.remembered.get(&netns);
        if let Some(found) = known.and_then(|set| netns::open_at(&set.path, netns)) {
            return Some(found);
        }
        let start = Instant::now();
        if self.no_search_before.is_some_and(|then| start < then) {
            return None;
        }
        let found = netns::open(netns);
        if found.is_none() {
            self.no_search_before = Some(start + start.elapsed() * SHARE);
        }
        found
    }

    /// Forgets the sets that were not asked for the longest.
    fn make_room(&mut self, more: usize) {
        loop {
            let bytes: usize = self.remembered.values().map(RuleSet::size).sum();
            let oldest = self.remembered.iter().min_by_key(|(_, set)| set.round);
            let Some((&oldest, _)) = oldest else { return };
            if self.remembered.len() < MAX_REMEMBERED && bytes + more <= MAX_BYTES {
                return;
            }
            self.remembered.remove(&oldest);
        }
    }

    /// Says once what is wrong.
    fn complain(&mut self, error: &RuleSetError) {
        if self.complained.insert(discriminant(error)) {
            log::warn!("{error}; netfilter rules are told by handle only");
        }
    }
}

impl RuleSet {
    /// Whether the packet's namespace is gone, and this one has its number.
    fn is_of_another_namespace_than(&self, at: &RuleAt) -> bool {
        let own = self.generation.map_or(0, |generation| generation.cookie);
        own != 0 && at.cookie.is_some_and(|cookie| cookie != own)
    }

    /// Whether the packet was dropped while the rule set was as in the listing.
    fn is_of_the_time_of(&self, at: &RuleAt) -> bool {
        self.since_ns.is_some_and(|since| since <= at.ns)
    }

    fn size(&self) -> usize {
        self.listing.as_ref().map_or(0, Listing::size)
    }
}

/// What there is to know of an opened namespace, and why it is not more.
fn refresh(
    netns: u32,
    path: PathBuf,
    file: &File,
    old: Option<RuleSet>,
) -> (RuleSet, Option<RuleSetError>) {
    let start = Instant::now();
    let mut set = RuleSet {
        path,
        generation: None,
        since_ns: None,
        listing: None,
        round: 0,
        not_before: start,
    };
    let generation = || Generation::now().map_err(|error| RuleSetError::Generation(netns, error));
    let entered = netns::enter(file, || {
        let now = generation()?;
        let since_ns = u64::try_from(clock::read(libc::CLOCK_MONOTONIC)).ok();
        // Of the namespace that had this number before, nothing is true.
        let is_same = |old: &RuleSet| {
            let cookie = old.generation.map(|generation| generation.cookie);
            cookie == Some(now.cookie) && (now.cookie != 0 || old.path == set.path)
        };
        if let Some(old) = old.filter(is_same) {
            let is_present = old.generation == Some(now) && old.listing.is_some();
            if is_present || start < old.not_before {
                set.since_ns = old.since_ns.filter(|_| is_present);
                set.generation = old.generation;
                set.listing = old.listing;
                set.not_before = old.not_before;
                return Ok(());
            }
        }
        set.generation = Some(now);
        let listed = nft::list();
        let took = start.elapsed().max(Duration::from_millis(1));
        set.not_before = start + took * SHARE;
        let text = listed.map_err(|error| RuleSetError::Read(netns, error))?;
        set.listing = Some(Listing::parse(&text));
        // Else it may be of either.
        set.since_ns = since_ns.filter(|_| generation().is_ok_and(|after| after == now));
        Ok(())
    });
    let result = entered.unwrap_or_else(|error| Err(RuleSetError::Enter(netns, error)));
    (set, result.err())
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
        table: listed.table.to_owned(),
        chain: listed.chain.to_owned(),
        position,
        text: owned(text),
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
