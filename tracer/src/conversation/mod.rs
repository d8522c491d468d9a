//! What became of the conversations that the filter selects, and who is to blame.
//!
//! Records (drops, resets, retransmits) and [`Sighting`]s of packets that pass go in;
//! `verdict` records come out. Nothing here asks the kernel anything.

mod advice;
mod destination;
mod ends;
mod facts;
mod idle;
mod input;
mod judge;
mod mtu;
mod origin;
mod pause;
mod records;
mod sightings;
mod signs;
mod story;
#[cfg(test)]
mod tests;
mod timeline;
mod trail;
mod verdict;
mod words;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use jiff::Timestamp;

pub use self::input::{
    Content, Endpoints, IcmpError, Multipath, Packet, Passed, Seen, Segment, Sighting, State,
    TcpState, Way,
};
use self::{
    destination::{Destinations, severity},
    ends::{Key, TCP, UDP},
    facts::Tried,
    judge::{Court, Finding, judge},
    origin::Addresses,
    records::About,
    sightings::Of,
    story::{Story, between},
};
use crate::event::Event;

/// Conversations that are under way at a time; the longest quiet ones make room.
const MAX_STORIES: usize = 4096;
/// How many make room at once, so that it is not looked for each time.
const ROOM: usize = 256;
/// Records about datagrams between two calls of [`Conversations::see`], from which on none of
/// them begins or goes on with a conversation: with that many, each record says as much.
const MAX_DATAGRAMS: usize = 1024;
/// Verdicts of those that made room, which wait to be taken.
const MAX_PENDING: usize = 4096;
/// Conversations that are remembered as told, so that stragglers begin no new one.
const MAX_TOLD: usize = 4096;
/// Namespaces whose overflows of listen queues are known.
const MAX_NAMESPACES: usize = 1024;
/// Addresses that are remembered as seen.
const MAX_TOUCHED: usize = 16_384;

/// After the end of a connection come its last records.
const AFTER_END: Duration = Duration::from_secs(1);
/// However much comes after it.
const LONG_AFTER_END: Duration = Duration::from_secs(5);
/// A SYN is sent again after 64 seconds at most.
const SILENT_OPENING: Duration = Duration::from_secs(70);
/// A datagram that was refused or dropped is seldom followed by another.
const AFTER_REFUSAL: Duration = Duration::from_secs(2);
/// As long connection tracking waits for more of UDP.
const SILENT_UDP: Duration = Duration::from_secs(30);

/// Stragglers of a connection that was told come within this time, that of `TIME_WAIT`.
/// Where its packets are not watched, what comes later is of another one.
const STRAGGLERS: Duration = Duration::from_secs(60);

/// What is watched of conversations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Their packets as they pass, and their sockets.
    #[default]
    Packets,
    /// What goes wrong (records), and of the sockets concerned whether they were
    /// established, and how they ended. There is a verdict only where that tells.
    Troubles {
        /// Each packet that this machine drops has a record.
        knows_drops: bool,
    },
}

/// What else is known to whoever makes an attempt itself (`droptrace probe`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub began: Timestamp,
    /// When its end was known to the application.
    pub ended: Timestamp,
    /// Own end, if the kernel gave one.
    pub flow: Option<Endpoints>,
    /// Where it was to go.
    pub to: SocketAddr,
    /// Protocol number: 6 or 17.
    pub proto: u8,
    /// Error number that the application got; 0 for none.
    pub error: i32,
    /// Of UDP: an answer came.
    pub answered: bool,
}

/// The conversations under way.
#[derive(Debug, Default)]
pub struct Conversations {
    scope: Scope,
    stories: HashMap<Key, Story>,
    /// Verdicts that wait to be taken.
    pending: Vec<Event>,
    told: Told,
    addresses: Addresses,
    destinations: Destinations,
    lost: u64,
    /// Packets that this machine dropped, of which no flow with ports is known.
    unlisted: u64,
    /// Records about datagrams since the last sightings.
    datagrams: usize,
    /// There are too many of them, or were before the last sightings.
    is_flooded: bool,
    /// Addresses of everything selected that was seen or dropped, conversation or not.
    touched: HashSet<IpAddr>,
    /// How much a namespace's counter of overflows of listen queues rose meanwhile.
    overflows: HashMap<u32, u64>,
}

/// Connections that were told, the oldest first.
#[derive(Debug, Default)]
struct Told {
    keys: HashMap<Key, (u64, Timestamp)>,
    order: VecDeque<(Key, u64)>,
    number: u64,
}

impl Told {
    fn add(&mut self, key: Key, at: Timestamp) {
        self.number += 1;
        self.keys.insert(key, (self.number, at));
        self.order.push_back((key, self.number));
        if self.order.len() > MAX_TOLD
            && let Some((oldest, number)) = self.order.pop_front()
            && self.keys.get(&oldest).is_some_and(|last| last.0 == number)
        {
            self.keys.remove(&oldest);
        }
    }
}

impl Conversations {
    /// Of which so much is watched.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            ..Self::default()
        }
    }

    /// Whether what was seen of this connection may belong to one that was told.
    fn was_told(&self, key: &Key, at: Timestamp) -> bool {
        self.told.keys.get(key).is_some_and(|(_, told)| {
            self.scope == Scope::Packets || between(*told, at) <= STRAGGLERS
        })
    }

    /// Learns from records of the tracer; each only once. To be called before
    /// [`Conversations::see`] with what was drained at the same time.
    pub fn record(&mut self, records: &[Event]) {
        for event in records {
            self.touch(event.flow.iter().flat_map(|flow| [flow.src, flow.dst]));
            if self.is_of_flood(event) {
                continue;
            }
            let Some(about) = About::of(event) else {
                if records::may_be_anyones(event) {
                    self.unlisted = self.unlisted.saturating_add(event.packets);
                }
                continue;
            };
            let key = about.key();
            let client = about.client(event);
            let is_new = !self.stories.contains_key(&key);
            let is_straggler = client.is_none() && self.was_told(&key, about.at);
            if is_new && (is_straggler || !records::begins(event, self.scope)) {
                continue;
            }
            let scope = self.scope;
            let story = self.story(key, about.proto, about.src, about.dst, client, about.at);
            story.record(event, &about);
            if scope != Scope::Packets {
                story.learn_socket(event, &about);
            }
        }
    }

    /// Whether it is a record about a datagram, of which there are too many to follow where
    /// nothing else is known of them.
    fn is_of_flood(&mut self, event: &Event) -> bool {
        if self.scope == Scope::Packets || !records::is_about_datagram(event) {
            return false;
        }
        self.datagrams += 1;
        if self.datagrams > MAX_DATAGRAMS && !self.is_flooded {
            self.is_flooded = true;
            self.stories.retain(|key, _| !key.is_of(UDP));
        }
        self.is_flooded
    }

    /// Learns from what was seen.
    pub fn see(&mut self, sightings: &[Sighting]) {
        self.is_flooded = self.datagrams > MAX_DATAGRAMS;
        self.datagrams = 0;
        for sighting in sightings {
            if let Seen::Packet(packet) = &sighting.what {
                self.addresses.packet(sighting.at, sighting.netns, packet);
                if sighting.is_selected {
                    self.touch([packet.src, packet.dst]);
                }
            }
            let Some(of) = Of::sighting(sighting) else {
                continue;
            };
            let key = of.key();
            if let (Some(begins), Some(story)) = (of.begins, self.stories.get(&key))
                && story.is_another(sighting.netns, begins, sighting.at)
            {
                self.settle(&[key], sighting.at);
            }
            let is_straggler = of.begins.is_none()
                && !self.stories.contains_key(&key)
                && self.was_told(&key, sighting.at);
            if !is_straggler {
                let story = self.story(key, of.proto, of.src, of.dst, of.client, sighting.at);
                story.see(sighting);
            }
        }
    }

    /// Only where a filter names addresses is something said about each of those.
    fn touch(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        if self.scope == Scope::Packets && self.touched.len() < MAX_TOUCHED {
            self.touched.extend(addresses);
        }
    }

    /// Sightings that were lost: conclusions from what is missing are not certain.
    pub fn lost(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(count);
    }

    /// Learns how much the kernel's counters `TcpExtListenOverflows` and
    /// `TcpExtListenDrops` of a network namespace rose since the tracer looks: a SYN that
    /// finds the queue full is freed without a record.
    pub fn overflowed(&mut self, netns: u32, listen_overflows: u64) {
        let has_room = self.overflows.len() < MAX_NAMESPACES;
        match self.overflows.get_mut(&netns) {
            Some(known) => *known = listen_overflows.max(*known),
            None if has_room && listen_overflows > 0 => {
                self.overflows.insert(netns, listen_overflows);
            }
            None => {}
        }
    }

    /// Learns from an attempt of the tracer's own.
    pub fn attempted(&mut self, attempt: &Attempt) {
        let unbound: IpAddr = if attempt.to.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        let own = attempt.flow.map(|flow| flow.src);
        let own = own.filter(|own| !own.ip().is_unspecified() && own.port() != 0);
        let own = own
            .or_else(|| self.own_end(attempt))
            .unwrap_or_else(|| SocketAddr::new(unbound, 0));
        let key = Key::new(attempt.proto, own, attempt.to);
        let at = attempt.began;
        let story = self.story(key, attempt.proto, own, attempt.to, Some(own), at);
        story.touch(attempt.ended);
        story.attempt = Some(Tried {
            error: attempt.error,
            answered: attempt.answered,
            took: between(attempt.began, attempt.ended),
        });
        if attempt.error != 0 {
            let what = format!("the attempt ended: {}", words::error_name(attempt.error));
            story.timeline.add(attempt.ended, what);
        }
    }

    /// The own end of an attempt that the kernel named none for, if something was seen
    /// of it: the first that went there meanwhile.
    fn own_end(&self, attempt: &Attempt) -> Option<SocketAddr> {
        let meanwhile = attempt.began..=attempt.ended;
        let there = self.stories.values().filter(|story| {
            story.proto == attempt.proto
                && story.server == attempt.to
                && story.attempt.is_none()
                && meanwhile.contains(&story.began)
        });
        let first = there.min_by_key(|story| (story.began, story.client))?;
        Some(first.client)
    }

    /// `verdict` records about conversations that have come to an end, of which nothing
    /// more is to be expected at `now`. Each conversation once.
    pub fn settled(&mut self, now: Timestamp) -> Vec<Event> {
        let over = self
            .stories
            .values()
            .filter(|story| is_over(story, self.scope, now));
        let over: Vec<Key> = over.map(Story::key).collect();
        self.settle(&over, now);
        std::mem::take(&mut self.pending)
    }

    /// At the end of a run: `verdict` records about those that have not, and one about
    /// each destination as a whole. The last one is about what most needs attention.
    /// `watched` are destinations that the filter names, about which something is to
    /// be said even if nothing was seen.
    pub fn conclude(&mut self, now: Timestamp, watched: &[(IpAddr, Option<u16>)]) -> Vec<Event> {
        let mut verdicts = std::mem::take(&mut self.pending);
        let left: Vec<Key> = self.stories.keys().copied().collect();
        let judged = self.judge(&left, now);
        let mut singles: Vec<(u8, Event)> = judged
            .iter()
            .map(|(story, finding)| (severity(finding), verdict::of_one(story, finding)))
            .collect();
        singles.sort_by_key(|(severity, _)| *severity);
        let is_missing = |(address, port): &&(IpAddr, Option<u16>)| {
            !self.destinations.has(*address, *port)
                && !self.touched.contains(address)
                && self.touched.len() < MAX_TOUCHED
        };
        let missing = watched.iter().filter(is_missing);
        let doubts = (self.lost, self.unlisted);
        verdicts
            .extend(missing.map(|(address, port)| verdict::of_none(*address, *port, doubts, now)));
        let whole = self.destinations.whole(self.scope);
        let mut whole: Vec<(u8, Event)> = whole
            .iter()
            .map(|(destination, tally)| {
                (
                    severity(&tally.finding),
                    verdict::of_all(destination, tally),
                )
            })
            .collect();
        // What is about several stands last, but for a single one that is worse.
        let worst_whole = whole.last().map_or(0, |(severity, _)| *severity);
        let split = singles.partition_point(|(severity, _)| *severity <= worst_whole);
        let worse = singles.split_off(split);
        verdicts.extend(singles.into_iter().map(|(_, event)| event));
        verdicts.extend(whole.drain(..).map(|(_, event)| event));
        verdicts.extend(worse.into_iter().map(|(_, event)| event));
        verdicts
    }

    /// The story of a conversation, begun if it is new.
    fn story(
        &mut self,
        key: Key,
        proto: u8,
        src: SocketAddr,
        dst: SocketAddr,
        client: Option<SocketAddr>,
        at: Timestamp,
    ) -> &mut Story {
        if !self.stories.contains_key(&key) && self.stories.len() >= MAX_STORIES {
            self.make_room(at);
        }
        let story = self.stories.entry(key).or_insert_with(|| {
            let by = client.unwrap_or_else(|| guess(proto, src, dst));
            let other = if by == src { dst } else { src };
            Story::new(proto, by, other, at, client.is_some())
        });
        if let Some(client) = client {
            story.orient(client);
        }
        story
    }

    /// Tells of those that were quiet for the longest time; not of datagrams of which nothing
    /// is known but what a record says, as in a flood of them.
    fn make_room(&mut self, now: Timestamp) {
        let mut quiet: Vec<(Timestamp, Key)> = self
            .stories
            .iter()
            .map(|(key, story)| (story.last, *key))
            .collect();
        quiet.sort_by_key(|(last, _)| *last);
        let mut quiet: Vec<Key> = quiet.into_iter().take(ROOM).map(|(_, key)| key).collect();
        if self.scope != Scope::Packets {
            quiet.retain(|key| {
                let is_told = !key.is_of(UDP);
                if !is_told {
                    self.stories.remove(key);
                }
                is_told
            });
        }
        self.settle(&quiet, now);
    }

    /// Ends these conversations; their verdicts wait to be taken.
    fn settle(&mut self, keys: &[Key], now: Timestamp) {
        let judged = self.judge(keys, now);
        let room = MAX_PENDING.saturating_sub(self.pending.len());
        let verdicts = judged.iter().take(room);
        self.pending
            .extend(verdicts.map(|(story, finding)| verdict::of_one(story, finding)));
    }

    /// Takes these conversations out and judges them, oldest first; without those of
    /// which nothing can be said.
    fn judge(&mut self, keys: &[Key], now: Timestamp) -> Vec<(Story, Finding)> {
        let mut stories: Vec<Story> = keys
            .iter()
            .filter_map(|key| self.stories.remove(key))
            .collect();
        stories.sort_by_key(|story| (story.last, story.client, story.server));
        let court = Court {
            scope: self.scope,
            addresses: &self.addresses,
            now,
            lost: self.lost,
            unlisted: self.unlisted,
            overflows: &self.overflows,
        };
        let mut judged: Vec<(Story, Finding)> = stories
            .into_iter()
            .filter_map(|story| {
                let finding = judge(&story, court)?;
                Some((story, finding))
            })
            .collect();
        for (story, finding) in &judged {
            self.destinations.learn(story, finding);
        }
        for (story, finding) in &mut judged {
            self.destinations.count(story, finding, &self.addresses);
            if story.proto == TCP {
                self.told.add(story.key(), now);
            }
        }
        judged
    }
}

/// Who began a conversation whose beginning was not seen.
fn guess(proto: u8, src: SocketAddr, dst: SocketAddr) -> SocketAddr {
    /// Ports from here on are given to those who ask.
    const EPHEMERAL: u16 = 32768;
    let well_known = if proto == UDP { 1024 } else { EPHEMERAL };
    if src.port() < dst.port() && src.port() < well_known {
        dst
    } else {
        src
    }
}

/// Whether nothing more is to be expected.
fn is_over(story: &Story, scope: Scope, now: Timestamp) -> bool {
    let quiet = between(story.last, now);
    if story.proto == UDP {
        let mut drops = story.drops.iter();
        let is_refused = !story.complaints.is_empty() || drops.any(|drop| !drop.is_for_another());
        return quiet >= SILENT_UDP || (is_refused && quiet >= AFTER_REFUSAL);
    }
    let ended = match story.role().end() {
        Some(end) if story.sockets.of(end).netns.is_some() => {
            let closed = story.sockets.of(end).closed;
            // Not each state is told.
            let otherwise = || story.end_on_the_wire().filter(|_| scope != Scope::Packets);
            closed.or_else(otherwise)
        }
        _ => story.end_on_the_wire(),
    };
    match ended {
        Some(ended) => quiet >= AFTER_END || between(ended, now) >= LONG_AFTER_END,
        None => !story.is_established() && quiet >= SILENT_OPENING,
    }
}

/// A protocol's name.
fn proto_name(proto: u8) -> &'static str {
    if proto == UDP { "udp" } else { "tcp" }
}
