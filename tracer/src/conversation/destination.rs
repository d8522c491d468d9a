//! All conversations with one destination.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    Scope,
    idle::Ledger,
    judge::Finding,
    origin::Addresses,
    story::{Role, Story},
};
use crate::event::{Code, Outcome};

/// Destinations that are kept.
const MAX_DESTINATIONS: usize = 1024;

/// What is known of destinations.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    known: HashMap<Where, Destination>,
}

/// Protocol, address and the namespace that its conversations are seen from: others may
/// have other hosts by the same addresses.
type Where = (u8, SocketAddr, Option<u32>);

/// What became of the conversations with one.
#[derive(Debug)]
pub(super) struct Destination {
    pub proto: u8,
    pub server: SocketAddr,
    /// Who began the last of them.
    pub client: IpAddr,
    pub role: Role,
    pub home: Option<u32>,
    pub began: jiff::Timestamp,
    pub last: jiff::Timestamp,
    pub conversations: u64,
    tally: Vec<Tally>,
    idle: Ledger,
}

/// Conversations that ended alike.
#[derive(Debug)]
pub(super) struct Tally {
    pub count: u64,
    /// The last of them.
    pub finding: Finding,
}

/// How much an outcome needs attention.
pub(super) fn severity(finding: &Finding) -> u8 {
    match finding.outcome {
        _ if finding.code == Code::InProgress => 0,
        Outcome::Connected => 0,
        Outcome::Degraded => 1,
        Outcome::Reset | Outcome::Refused | Outcome::Timeout | Outcome::Unreachable => 2,
    }
}

impl Destinations {
    fn of(&mut self, story: &Story) -> Option<&mut Destination> {
        let key = (story.proto, story.server, story.home());
        if !self.known.contains_key(&key) && self.known.len() == MAX_DESTINATIONS {
            return None;
        }
        Some(self.known.entry(key).or_insert_with(|| Destination {
            proto: story.proto,
            server: story.server,
            client: story.client.ip(),
            role: story.role(),
            home: story.home(),
            began: story.began,
            last: story.last,
            conversations: 0,
            tally: Vec::new(),
            idle: Ledger::default(),
        }))
    }

    /// Learns how a conversation took its pauses.
    pub(super) fn learn(&mut self, story: &Story, finding: &Finding) {
        if let Some(destination) = self.of(story) {
            destination.idle.learn(story, finding);
        }
    }

    /// Says what the others tell about a conversation, and counts it.
    pub(super) fn count(&mut self, story: &Story, finding: &mut Finding, addresses: &Addresses) {
        let Some(destination) = self.of(story) else {
            return;
        };
        destination.idle.explain(story, finding, addresses);
        destination.client = story.client.ip();
        destination.role = story.role();
        destination.began = destination.began.min(story.began);
        destination.last = destination.last.max(story.last);
        destination.conversations += 1;
        let alike = destination.tally.iter_mut().find(|tally| {
            (tally.finding.outcome, tally.finding.code) == (finding.outcome, finding.code)
        });
        match alike {
            Some(tally) => {
                tally.count += 1;
                tally.finding = finding.clone();
            }
            None => destination.tally.push(Tally {
                count: 1,
                finding: finding.clone(),
            }),
        }
    }

    /// Those with more than one conversation, what needs attention last.
    pub(super) fn whole(&self, scope: Scope) -> Vec<(&Destination, Tally)> {
        let several = self.known.values().filter(|known| known.conversations > 1);
        let mut whole: Vec<_> = several
            .filter_map(|destination| Some((destination, destination.as_a_whole(scope)?)))
            .collect();
        whole.sort_by_key(|(destination, tally)| {
            (
                severity(&tally.finding),
                destination.last,
                destination.server,
                destination.proto,
                destination.home,
            )
        });
        whole
    }

    /// Whether a conversation with this address was counted.
    pub(super) fn has(&self, address: IpAddr, port: Option<u16>) -> bool {
        self.known.values().any(|known| {
            let is_server =
                known.server.ip() == address && port.is_none_or(|port| port == known.server.port());
            is_server || (known.client == address && port.is_none())
        })
    }
}

impl Destination {
    /// What most of those that failed have in common, or most of all if none has.
    fn as_a_whole(&self, scope: Scope) -> Option<Tally> {
        let key = |tally: &&Tally| {
            let is_timeout = tally.finding.code == Code::IdleTimeout;
            (severity(&tally.finding), is_timeout, tally.count)
        };
        let worst = self.tally.iter().max_by_key(key)?;
        let mut finding = worst.finding.clone();
        let proto = crate::conversation::proto_name(self.proto);
        let mut count = worst.count;
        if finding.code == Code::IdleTimeout {
            // Those that were told before it showed what they have in common.
            count = count.max(self.idle.failures());
        }
        let which = match scope {
            Scope::Packets => "conversations",
            Scope::Troubles { .. } => "conversations that had trouble",
        };
        finding.explanation = format!(
            "{count} of {} {which} with {} ({proto}): {}",
            self.conversations, self.server, finding.explanation
        );
        for tally in &self.tally {
            let (outcome, code) = (tally.finding.outcome, tally.finding.code);
            if (outcome, code) != (worst.finding.outcome, worst.finding.code) {
                finding.evidence.push(format!(
                    "{} of {} ended otherwise: {}",
                    tally.count, self.conversations, tally.finding.explanation
                ));
            }
        }
        Some(Tally { count, finding })
    }
}
