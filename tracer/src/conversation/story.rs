//! What is kept of one conversation, within bounds.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use jiff::Timestamp;

use super::{
    ends::{Both, End, Key},
    facts::{Cause, Complaint, Dropped, Repeated, ResetSent, Socket, Tried},
    input::Way,
    pause::Pauses,
    timeline::Timeline,
    trail::Trail,
};
use crate::event::{Direction, Rule};

/// Namespaces whose view of a conversation is kept.
const MAX_VIEWS: usize = 8;
/// Different drops, resets, repetitions and ICMP errors that are kept, of each kind.
const MAX_KEPT: usize = 16;
/// A socket that believes a reset has closed by then.
const AFTER_RESET: Duration = Duration::from_secs(1);

/// What a namespace saw of a conversation.
#[derive(Debug)]
pub(super) struct View {
    pub netns: u32,
    /// What each end sent.
    pub sent: Both<Trail>,
    pub pauses: Pauses,
}

/// What this machine is in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
    /// It passes the packets on.
    Router,
}

impl Role {
    /// The end that is this machine.
    pub(super) fn end(self) -> Option<End> {
        match self {
            Self::Client => Some(End::Client),
            Self::Server => Some(End::Server),
            Self::Router => None,
        }
    }
}

/// One conversation.
#[derive(Debug)]
pub(super) struct Story {
    pub proto: u8,
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// Something told who began: a SYN or a socket.
    pub is_oriented: bool,
    pub began: Timestamp,
    pub last: Timestamp,
    pub views: Vec<View>,
    pub sockets: Both<Socket>,
    pub drops: Vec<Dropped>,
    pub resets_sent: Vec<ResetSent>,
    /// By whom and when a reset was received, by the kernel's record.
    pub resets_received: Vec<(End, Timestamp)>,
    pub repeated: Vec<Repeated>,
    /// Segments that each end sent again and that are not in `repeated`.
    pub repeated_more: Both<HashMap<Cause, u64>>,
    pub complaints: Vec<Complaint>,
    pub timeline: Timeline,
    /// How an attempt of the tracer's own ended.
    pub attempt: Option<Tried>,
}

impl Story {
    pub(super) fn new(
        proto: u8,
        client: SocketAddr,
        server: SocketAddr,
        at: Timestamp,
        is_oriented: bool,
    ) -> Self {
        Self {
            proto,
            client,
            server,
            is_oriented,
            began: at,
            last: at,
            views: Vec::new(),
            sockets: Both::default(),
            drops: Vec::new(),
            resets_sent: Vec::new(),
            resets_received: Vec::new(),
            repeated: Vec::new(),
            repeated_more: Both::default(),
            complaints: Vec::new(),
            timeline: Timeline::default(),
            attempt: None,
        }
    }

    pub(super) fn key(&self) -> Key {
        Key::new(self.proto, self.client, self.server)
    }

    pub(super) fn address(&self, end: End) -> SocketAddr {
        match end {
            End::Client => self.client,
            End::Server => self.server,
        }
    }

    /// Which end has this address.
    pub(super) fn end_of(&self, address: SocketAddr) -> End {
        if address == self.client {
            End::Client
        } else {
            End::Server
        }
    }

    /// Learns that `client` began it.
    pub(super) fn orient(&mut self, client: SocketAddr) {
        if self.is_oriented {
            return;
        }
        self.is_oriented = true;
        if client == self.client {
            return;
        }
        std::mem::swap(&mut self.client, &mut self.server);
        self.sockets.swap();
        self.repeated_more.swap();
        for view in &mut self.views {
            view.sent.swap();
            view.pauses.swap();
        }
        let swap = |end: &mut End| *end = end.other();
        self.drops.iter_mut().for_each(|drop| swap(&mut drop.by));
        self.resets_sent.iter_mut().for_each(|r| swap(&mut r.by));
        self.resets_received.iter_mut().for_each(|r| swap(&mut r.0));
        self.repeated.iter_mut().for_each(|r| swap(&mut r.by));
        self.complaints.iter_mut().for_each(|c| swap(&mut c.about));
    }

    pub(super) fn touch(&mut self, at: Timestamp) {
        self.began = self.began.min(at);
        self.last = self.last.max(at);
    }

    /// The view of a namespace; `None` where too many have one.
    pub(super) fn view_mut(&mut self, netns: u32) -> Option<&mut View> {
        let found = self.views.iter().position(|view| view.netns == netns);
        let place = match found {
            Some(place) => place,
            None if self.views.len() == MAX_VIEWS => return None,
            None => {
                self.views.push(View {
                    netns,
                    sent: Both::default(),
                    pauses: Pauses::default(),
                });
                self.views.len() - 1
            }
        };
        self.views.get_mut(place)
    }

    /// The namespace whose view counts: that of the client's socket, else of the
    /// server's, else the first that saw something.
    pub(super) fn home(&self) -> Option<u32> {
        self.sockets
            .client
            .netns
            .or(self.sockets.server.netns)
            .or_else(|| self.views.first().map(|view| view.netns))
            .or_else(|| self.drops.iter().find_map(|drop| drop.netns))
            .or_else(|| self.resets_sent.iter().find_map(|reset| reset.netns))
    }

    /// What the home saw.
    pub(super) fn view(&self) -> Option<&View> {
        let home = self.home()?;
        self.views.iter().find(|view| view.netns == home)
    }

    /// What the home saw of one end's packets.
    pub(super) fn trail(&self, end: End) -> Option<&Trail> {
        self.view().map(|view| view.sent.of(end))
    }

    pub(super) fn role(&self) -> Role {
        if self.sockets.client.netns.is_some() || self.attempt.is_some() {
            return Role::Client;
        }
        if self.sockets.server.netns.is_some() {
            return Role::Server;
        }
        let home = self.home();
        let is_forwarded = self
            .drops
            .iter()
            .any(|drop| drop.netns == home && drop.direction == Some(Direction::Forward));
        if is_forwarded {
            return Role::Router;
        }
        if let Some(view) = self.view() {
            for (end, own) in [(End::Client, Role::Client), (End::Server, Role::Server)] {
                let trail = view.sent.of(end);
                match trail.first_way {
                    Some(Way::Out) => return own,
                    Some(Way::In) if trail.left.is_some() => return Role::Router,
                    _ => {}
                }
            }
            return match (&view.sent.client.came_in, &view.sent.server.came_in) {
                (None, Some(_)) => Role::Client,
                _ => Role::Server,
            };
        }
        let dropped = self.drops.first().map(|drop| (drop.by, drop.direction));
        match dropped {
            Some((End::Client, Some(Direction::In)) | (End::Server, Some(Direction::Out))) => {
                Role::Server
            }
            Some(_) => Role::Client,
            None => match self.resets_sent.first() {
                Some(reset) if reset.by == End::Server => Role::Server,
                _ => Role::Client,
            },
        }
    }

    pub(super) fn add_drop(&mut self, drop: Dropped) {
        let same = self.drops.iter_mut().find(|known| {
            known.by == drop.by
                && known.kind == drop.kind
                && known.name == drop.name
                && known.class == drop.class
                && known.netns == drop.netns
                && is_same(known.rule.as_ref(), drop.rule.as_ref())
        });
        match same {
            Some(known) => {
                known.packets = known.packets.saturating_add(drop.packets);
                known.first = known.first.min(drop.first);
                known.last = known.last.max(drop.last);
            }
            None => keep(&mut self.drops, drop),
        }
    }

    pub(super) fn add_reset_sent(&mut self, reset: ResetSent) {
        keep(&mut self.resets_sent, reset);
    }

    pub(super) fn add_reset_received(&mut self, by: End, at: Timestamp) {
        keep(&mut self.resets_received, (by, at));
    }

    /// When the same segment was sent again before.
    pub(super) fn last_sent(&self, repeated: &Repeated) -> Option<Timestamp> {
        let same = self.repeated.iter().filter(|known| {
            (known.by, known.kind, known.seq) == (repeated.by, repeated.kind, repeated.seq)
        });
        same.map(|known| known.at).max()
    }

    pub(super) fn add_repeated(&mut self, repeated: Repeated) {
        let is_full = self.repeated.len() >= MAX_KEPT;
        let same = self.repeated.iter_mut().find(|known| {
            known.by == repeated.by
                && known.seq == repeated.seq
                && known.kind == repeated.kind
                && known.bytes == repeated.bytes
                && known.cause == repeated.cause
        });
        match same {
            Some(known) => {
                known.times = known.times.saturating_add(repeated.times);
                known.first = known.first.min(repeated.first);
                known.at = known.at.max(repeated.at);
            }
            None if !is_full => self.repeated.push(repeated),
            None => {
                let more = self.repeated_more.of_mut(repeated.by);
                let more = more.entry(repeated.cause).or_default();
                *more = more.saturating_add(repeated.times);
            }
        }
    }

    pub(super) fn add_complaint(&mut self, complaint: Complaint) {
        let is_known = self.complaints.iter().any(|known| {
            (known.netns, known.from, known.kind, known.code, known.way)
                == (
                    complaint.netns,
                    complaint.from,
                    complaint.kind,
                    complaint.code,
                    complaint.way,
                )
        });
        if !is_known {
            keep(&mut self.complaints, complaint);
        }
    }

    /// When a reset by this end came in at home, or was recorded as received.
    pub(super) fn reset_from(&self, end: End) -> Option<Timestamp> {
        let seen = self.reset_seen(end);
        let recorded = self.resets_received.iter().find(|reset| reset.0 == end);
        [seen, recorded.map(|reset| reset.1)]
            .into_iter()
            .flatten()
            .min()
    }

    /// When a reset by this end was seen, unless the other end's socket is one of this
    /// machine and went on: it did not believe it.
    fn reset_seen(&self, end: End) -> Option<Timestamp> {
        let at = self.trail(end)?.reset.as_ref()?.at;
        let socket = self.sockets.of(end.other());
        let went_on = socket
            .closed
            .is_none_or(|closed| between(at, closed) > AFTER_RESET);
        let is_recorded = self.resets_received.iter().any(|reset| reset.0 == end);
        let is_ignored = socket.established.is_some() && went_on && !is_recorded;
        (!is_ignored).then_some(at)
    }

    /// When packets ended it: a reset, or both ends' goodbye.
    pub(super) fn end_on_the_wire(&self) -> Option<Timestamp> {
        let trails = [End::Client, End::Server].map(|end| self.trail(end));
        let reset = [End::Client, End::Server]
            .into_iter()
            .filter_map(|end| self.reset_seen(end));
        let recorded = self.resets_sent.iter().map(|reset| reset.at);
        let received = self.resets_received.iter().map(|reset| reset.1);
        let reset = reset.chain(recorded).chain(received).min();
        let parted = trails.map(|trail| trail.and_then(|trail| trail.fin));
        let parted = match parted {
            [Some(one), Some(other)] => Some(one.max(other)),
            _ => None,
        };
        reset.or(parted)
    }

    /// How often SYN or SYN-ACK passed at home.
    pub(super) fn openings(&self, end: End) -> u64 {
        self.trail(end).map_or(0, |trail| trail.openings)
    }

    /// Whether the handshake was completed, as its home knows.
    pub(super) fn is_established(&self) -> bool {
        let role = self.role();
        if let Some(end) = role.end() {
            let socket = self.sockets.of(end);
            if socket.established.is_some() {
                return true;
            }
            if socket.began.is_some() {
                return false;
            }
        }
        let Some(view) = self.view() else {
            return false;
        };
        let (client, server) = (&view.sent.client, &view.sent.server);
        if client.openings > 0 || server.openings > 0 {
            // The acknowledgement behind the handshake, or data.
            return client.openings_answered;
        }
        // Seen from the middle on.
        client.went_on && server.went_on
    }
}

fn is_same(known: Option<&Rule>, rule: Option<&Rule>) -> bool {
    match (known, rule) {
        (Some(known), Some(rule)) => known.is_same(rule),
        (known, rule) => known.is_none() && rule.is_none(),
    }
}

/// Adds one if there is room.
fn keep<T>(kept: &mut Vec<T>, one: T) {
    if kept.len() < MAX_KEPT {
        kept.push(one);
    }
}

/// From `earlier` to `later`; nothing if they are the other way round.
pub(super) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}
