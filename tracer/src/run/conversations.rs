//! Whether and how the conversations that the filter selects are watched.

use std::{collections::BTreeSet, net::IpAddr};

use droptrace_types::{
    EndpointRule, FILTER_BY_CGROUP, FILTER_BY_FLOW, FILTER_BY_INTERFACE, FILTER_BY_REASON,
    FILTER_BY_SOCKET, Filter, ROLE_DST, ROLE_HOST, ROLE_PORT, Sighting, WATCH_ADDRESSES,
    WATCH_TROUBLES,
};
use jiff::Timestamp;

use super::select::Selected;
use crate::{
    cli::{Trace, VerdictsMode},
    conversation::{Attempt, Conversations, Scope, Sighting as Seen},
    event::Event,
    owner::listen::Overflows,
    record::Recorder,
    tracer::Watching,
};

/// Addresses and ports that a filter names, and about which something is to be said.
pub type Watched = Vec<(IpAddr, Option<u16>)>;

/// What of them is to be watched. Packets that pass can be where the filter says which,
/// by what packets show.
pub fn watching(args: &Trace, selected: &Selected) -> Watching {
    const BY_MORE: u32 = FILTER_BY_REASON | FILTER_BY_SOCKET | FILTER_BY_CGROUP;
    let by_flow = selected.filters & FILTER_BY_FLOW != 0 && selected.filter.roles != 0;
    let by_more = selected.filters & BY_MORE != 0;
    match args.verdicts {
        VerdictsMode::Off => Watching::Nothing,
        _ if by_flow && !by_more => Watching::Packets,
        VerdictsMode::All => Watching::Troubles,
        VerdictsMode::Auto => Watching::Nothing,
    }
}

/// The same for the kernel programs: bits `WATCH_*`.
pub fn watch_bits(watching: Watching, filter: &Filter) -> u32 {
    match watching {
        Watching::Packets if have_addresses(filter) => WATCH_ADDRESSES,
        Watching::Troubles => WATCH_TROUBLES,
        _ => 0,
    }
}

/// Whether every endpoint of the filter has an address.
fn have_addresses(filter: &Filter) -> bool {
    let mut rules = filter.endpoints.iter().take_while(|rule| rule.role != 0);
    filter.roles & !ROLE_PORT != 0 && rules.all(|rule| rule.role == ROLE_PORT || rule.family != 0)
}

/// Single addresses that the filter names as destinations.
pub fn watched(filter: &Filter) -> Watched {
    let rules = filter.endpoints.iter().take_while(|rule| rule.role != 0);
    let destinations = rules.filter(|rule| rule.role & (ROLE_DST | ROLE_HOST) != 0);
    destinations.filter_map(destination).collect()
}

fn destination(rule: &EndpointRule) -> Option<(IpAddr, Option<u16>)> {
    let [high, low] = rule.addr;
    let address = match (rule.family, rule.mask) {
        (4, [mask, _]) if mask >> 32 == u64::from(u32::MAX) => {
            IpAddr::from(u32::try_from(high >> 32).unwrap_or(0).to_be_bytes())
        }
        (6, [u64::MAX, u64::MAX]) => {
            IpAddr::from((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
        }
        _ => return None,
    };
    let is_one = rule.port_first == rule.port_last && rule.port_first != 0;
    Some((address, is_one.then_some(rule.port_first)))
}

/// What is known of them.
pub struct Watch {
    conversations: Conversations,
    filter: Box<Filter>,
    overflows: Overflows,
    /// Namespaces for whose listeners a SYN came.
    asked: BTreeSet<u32>,
    watched: Watched,
}

impl Watch {
    /// Of what is selected.
    pub fn new(watching: Watching, selected: Selected) -> Self {
        /// With these, some drops of a conversation's packets have no record.
        const PARTS: u32 =
            FILTER_BY_REASON | FILTER_BY_SOCKET | FILTER_BY_CGROUP | FILTER_BY_INTERFACE;
        let filter = selected.filter;
        let (scope, watched) = if watching == Watching::Troubles {
            let knows_drops = selected.filters & PARTS == 0;
            (Scope::Troubles { knows_drops }, Watched::new())
        } else {
            (Scope::Packets, watched(&filter))
        };
        Self {
            conversations: Conversations::new(scope),
            overflows: Overflows::default(),
            asked: BTreeSet::new(),
            watched,
            filter,
        }
    }

    /// Learns from records of the tracer.
    pub fn record(&mut self, records: &[Event]) {
        self.conversations.record(records);
    }

    /// Learns from what was seen up to the records that it learnt from last. Answers
    /// with records of the ICMP errors among it.
    pub fn see(
        &mut self,
        sightings: &[Sighting],
        lost: u64,
        recorder: &mut Recorder,
    ) -> Vec<Event> {
        let sightings = recorder.sightings(sightings, &self.filter);
        self.conversations.lost(lost);
        self.conversations.see(&sightings);
        self.count_overflows(&sightings);
        Recorder::icmp_errors(&sightings)
    }

    /// Where SYNs come in, the kernel's counter tells of those that found no room: it
    /// frees them as if they had been delivered.
    fn count_overflows(&mut self, sightings: &[Seen]) {
        let asking = sightings.iter().filter(|seen| seen.is_syn_in());
        let asking: BTreeSet<u32> = asking.map(|seen| seen.netns).collect();
        self.ask_for_overflows(&asking);
        self.asked.extend(asking);
    }

    fn ask_for_overflows(&mut self, namespaces: &BTreeSet<u32>) {
        for netns in namespaces {
            if let Some(count) = self.overflows.since_first(*netns) {
                self.conversations.overflowed(*netns, count);
            }
        }
    }

    /// Learns from an attempt of the tracer's own.
    pub fn attempted(&mut self, attempt: &Attempt) {
        self.conversations.attempted(attempt);
    }

    /// Verdicts about conversations that are over.
    pub fn settled(&mut self) -> Vec<Event> {
        self.conversations.settled(Timestamp::now())
    }

    /// Verdicts about all others, and about destinations.
    pub fn conclude(&mut self) -> Vec<Event> {
        let asked = std::mem::take(&mut self.asked);
        self.ask_for_overflows(&asked);
        self.conversations.conclude(Timestamp::now(), &self.watched)
    }
}
