//! What a conversation's story learns from records.

use std::{net::SocketAddr, sync::Arc};

use jiff::Timestamp;

use super::{
    Scope,
    ends::{End, Key, TCP, UDP},
    facts::{Cause, Dropped, Kind, Repeated, ResetSent, is_for_another},
    story::Story,
    words,
};
use crate::{
    event::{Class, Event, EventKind, Flow},
    reason::reset_by_calls,
};

/// The conversation that a record is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub proto: u8,
    /// Sender of the packet that it is about: of the one that an ICMP error quotes.
    pub src: SocketAddr,
    pub dst: SocketAddr,
    /// The packet is an ICMP error about the conversation.
    pub icmp: Option<(u8, u8)>,
    pub at: Timestamp,
    pub first: Timestamp,
}

impl About {
    /// `None` for records without a conversation.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let flow = event.flow.as_ref()?;
        let quoted = flow.about.as_deref();
        let (proto, src, dst) = ends(quoted.unwrap_or(flow))?;
        let icmp = flow.icmp.filter(|_| quoted.is_some());
        let at: Timestamp = event.time.parse().ok()?;
        Some(Self {
            proto,
            src,
            dst,
            icmp: icmp.map(|icmp| (icmp.r#type, icmp.code)),
            at,
            first: event.first_seen.parse().unwrap_or(at).min(at),
        })
    }

    pub(super) fn key(&self) -> Key {
        Key::new(self.proto, self.src, self.dst)
    }

    /// Who began the conversation, if the record tells.
    pub(super) fn client(&self, event: &Event) -> Option<SocketAddr> {
        match kind(event, self) {
            Kind::Syn => Some(self.src),
            Kind::SynAck => Some(self.dst),
            _ => None,
        }
    }
}

/// Whether a record is about a datagram.
pub(super) fn is_about_datagram(event: &Event) -> bool {
    let about = |flow: &Flow| flow.about.as_deref().unwrap_or(flow).proto == "udp";
    event.flow.as_ref().is_some_and(about)
}

/// Whether a record stands for dropped packets that may have been of any conversation.
pub(super) fn may_be_anyones(event: &Event) -> bool {
    let is_drop = match event.kind {
        EventKind::Drop => event.flow.is_none() || event.flows_unlisted.is_some(),
        EventKind::Loss => true,
        _ => false,
    };
    let class = event.reason.as_ref().map(|reason| reason.class);
    is_drop && class != Some(Class::Benign)
}

/// Whether a record about a conversation that is not known makes it one to tell of.
pub(super) fn begins(event: &Event, scope: Scope) -> bool {
    let class = event.reason.as_ref().map(|reason| reason.class);
    match (event.kind, class, scope) {
        (EventKind::Drop, Some(_), Scope::Packets) => !is_clean_up(event),
        (EventKind::Drop, Some(class), Scope::Troubles { .. }) => class.is_trouble(),
        _ => true,
    }
}

/// Whether a record is of a packet that nobody misses.
fn is_clean_up(event: &Event) -> bool {
    let Some(reason) = &event.reason else {
        return false;
    };
    let place = event.r#where.as_ref();
    let mut function = place.and_then(|place| place.function.clone());
    function.iter_mut().for_each(plain);
    event.kind == EventKind::Drop
        && reason.class == Class::Benign
        && !is_for_another(reason.class, reason.name.as_deref(), function.as_deref())
}

fn ends(flow: &Flow) -> Option<(u8, SocketAddr, SocketAddr)> {
    let proto = match flow.proto.as_str() {
        "tcp" => TCP,
        "udp" => UDP,
        _ => return None,
    };
    let src = SocketAddr::new(flow.src, flow.sport?);
    let dst = SocketAddr::new(flow.dst, flow.dport?);
    Some((proto, src, dst))
}

fn kind(event: &Event, about: &About) -> Kind {
    if let Some((kind, code)) = about.icmp {
        return Kind::Icmp(kind, code);
    }
    if about.proto == UDP {
        return Kind::Other;
    }
    let flags = event.tcp.as_ref().and_then(|tcp| tcp.flags.as_deref());
    match flags {
        None => Kind::Unknown,
        Some(flags) if flags.contains('R') => Kind::Rst,
        Some(flags) if flags.contains('S') && flags.contains('A') => Kind::SynAck,
        Some(flags) if flags.contains('S') => Kind::Syn,
        Some(_) => Kind::Other,
    }
}

impl Story {
    /// Learns from a record about it.
    pub(super) fn record(&mut self, event: &Event, about: &About) {
        self.touch(about.at);
        let src = self.end_of(about.src);
        // Whoever answers with an ICMP error stands on the other side.
        let by = if about.icmp.is_some() {
            src.other()
        } else {
            src
        };
        match event.kind {
            EventKind::Drop => self.dropped(event, about, by),
            EventKind::ResetSent => self.reset_sent(event, about, by),
            EventKind::ResetReceived => self.add_reset_received(by, about.at),
            EventKind::Retransmit => self.sent_again(event, about, by),
            _ => {}
        }
    }

    fn dropped(&mut self, event: &Event, about: &About, by: End) {
        let Some(reason) = &event.reason else { return };
        let place = event.r#where.as_ref();
        let drop = Dropped {
            by,
            kind: kind(event, about),
            packets: event.packets,
            first: about.first,
            last: about.at,
            class: reason.class,
            name: reason.name.clone(),
            summary: reason.summary.clone(),
            rule: event.rule.clone(),
            netns: place.and_then(|place| place.netns),
            netns_name: place.and_then(|place| place.netns_name.clone()),
            ifname: place.and_then(|place| place.ifname.clone()),
            direction: event.flow.as_ref().and_then(|flow| flow.direction),
            function: place.and_then(|place| place.function.clone()),
            stack: place.map_or_else(Arc::default, |place| Arc::clone(&place.stack)),
            advice: event.advice.clone(),
        };
        if drop.is_loss() || drop.is_for_nobody() || drop.is_for_another() {
            let what = words::dropped(&drop, None);
            self.timeline.add(about.at, what);
        }
        self.add_drop(drop);
    }

    fn reset_sent(&mut self, event: &Event, about: &About, by: End) {
        let place = event.r#where.as_ref();
        let reason = event.reason.as_ref();
        let mut stack = place.map_or_else(Vec::new, |place| place.stack.to_vec());
        for name in &mut stack {
            plain(name);
        }
        let state = event.tcp.as_ref().and_then(|tcp| tcp.state.as_deref());
        self.add_reset_sent(ResetSent {
            at: about.first,
            by,
            netns: place.and_then(|place| place.netns),
            netns_name: place.and_then(|place| place.netns_name.clone()),
            name: reason.and_then(|reason| reason.name.clone()),
            summary: reason.map_or_else(String::new, |reason| reason.summary.clone()),
            by_calls: reset_by_calls(&stack, state),
            process: event.process.clone(),
        });
    }

    /// Learns what a record tells of the socket concerned, where its states are not told
    /// from the beginning on.
    pub(super) fn learn_socket(&mut self, event: &Event, about: &About) {
        let by = self.end_of(about.src);
        let end = match event.kind {
            EventKind::Retransmit | EventKind::ResetSent => by,
            EventKind::ResetReceived => by.other(),
            // A dropped packet may be its sender's or its receiver's.
            _ => return,
        };
        let state = event.tcp.as_ref().and_then(|tcp| tcp.state.as_deref());
        let Some(state) = state else { return };
        let socket = self.sockets.of_mut(end);
        let netns = event.r#where.as_ref().and_then(|place| place.netns);
        socket.netns = socket.netns.or(netns);
        match state {
            "SYN_SENT" | "SYN_RECV" | "NEW_SYN_RECV" => {
                socket.began.get_or_insert(about.first);
            }
            "ESTABLISHED" | "FIN_WAIT1" | "FIN_WAIT2" | "CLOSE_WAIT" | "CLOSING" | "LAST_ACK" => {
                socket.established.get_or_insert(about.first);
            }
            _ => {}
        }
    }

    fn sent_again(&mut self, event: &Event, about: &About, by: End) {
        let times = event.packets.max(1);
        let place = event.r#where.as_ref();
        let mut stack = place.map_or_else(Vec::new, |place| place.stack.to_vec());
        for name in &mut stack {
            plain(name);
        }
        let repeated = Repeated {
            first: about.first,
            at: about.at,
            by,
            kind: kind(event, about),
            seq: event.tcp.as_ref().and_then(|tcp| tcp.seq),
            bytes: event.bytes / times,
            times,
            cause: Cause::of(&stack),
        };
        let before = self.last_sent(&repeated);
        self.timeline
            .add(about.at, words::sent_again(&repeated, before));
        self.add_repeated(repeated);
    }
}

/// Takes offset and a compiler's suffix from a function's name.
fn plain(name: &mut String) {
    if let Some(end) = name.find(['+', '.']) {
        name.truncate(end);
    }
}
