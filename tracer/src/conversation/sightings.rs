//! What a conversation's story learns from sightings.

use std::net::SocketAddr;

use jiff::Timestamp;

use super::{
    ends::{End, Key, TCP, UDP},
    facts::Complaint,
    input::{Content, IcmpError, Packet, Seen, Sighting, State, TcpState, Way},
    pause::Sign,
    story::Story,
    trail::{ACK, RST, SYN},
    words,
};

/// Which conversation a sighting is of, and what it tells of its ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of {
    pub proto: u8,
    pub src: SocketAddr,
    pub dst: SocketAddr,
    /// Who began it, if that shows.
    pub client: Option<SocketAddr>,
    /// How a connection begins.
    pub begins: Option<Begins>,
}

/// A connection begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begins {
    /// With a socket that connects.
    Socket,
    /// With a SYN of this sequence number.
    Syn(u32),
}

impl Of {
    /// `None` for what is of no conversation.
    pub(super) fn sighting(sighting: &Sighting) -> Option<Self> {
        if !sighting.is_selected {
            return None;
        }
        match &sighting.what {
            Seen::Packet(packet) => Self::packet(packet),
            Seen::State(state) => Self::state(state),
        }
    }

    fn packet(packet: &Packet) -> Option<Self> {
        let ends = |sport, dport| {
            (
                SocketAddr::new(packet.src, sport),
                SocketAddr::new(packet.dst, dport),
            )
        };
        let (proto, (src, dst), client, begins) = match &packet.content {
            Content::Tcp(tcp) => {
                let (src, dst) = ends(tcp.sport, tcp.dport);
                let (client, begins) = match tcp.flags & (SYN | ACK | RST) {
                    SYN => (Some(src), Some(Begins::Syn(tcp.seq))),
                    flags if flags == SYN | ACK => (Some(dst), None),
                    _ => (None, None),
                };
                (TCP, (src, dst), client, begins)
            }
            Content::Udp { sport, dport, .. } => (UDP, ends(*sport, *dport), None, None),
            Content::IcmpError(error) => {
                (error.proto, (error.about.src, error.about.dst), None, None)
            }
            _ => return None,
        };
        matches!(proto, TCP | UDP).then_some(Self {
            proto,
            src,
            dst,
            client,
            begins,
        })
    }

    fn state(state: &State) -> Option<Self> {
        let (src, dst) = (state.flow.src, state.flow.dst);
        if state.to == TcpState::Listen || dst.port() == 0 || src.port() == 0 {
            return None;
        }
        let is_asked = |state| matches!(state, TcpState::Listen | TcpState::SynRecv);
        let client = match (state.from, state.to) {
            (_, TcpState::SynSent) | (TcpState::SynSent, _) => Some(src),
            (from, to) if is_asked(from) || is_asked(to) => Some(dst),
            _ => None,
        };
        Some(Self {
            proto: TCP,
            src,
            dst,
            client,
            begins: (state.to == TcpState::SynSent).then_some(Begins::Socket),
        })
    }

    pub(super) fn key(&self) -> Key {
        Key::new(self.proto, self.src, self.dst)
    }
}

impl Story {
    /// Whether a connection that begins now is another one than this.
    pub(super) fn is_another(&self, netns: u32, begins: Begins, at: Timestamp) -> bool {
        if self.proto != TCP {
            return false;
        }
        let Begins::Syn(seq) = begins else {
            let socket = &self.sockets.client;
            return socket.began.is_some() || self.views.iter().any(|view| view.has_begun(at));
        };
        let view = self.views.iter().find(|view| view.netns == netns);
        view.and_then(|view| view.sent.client.first_seq)
            .is_some_and(|first| first != seq)
    }

    /// Learns from something seen of it.
    pub(super) fn see(&mut self, sighting: &Sighting) {
        let (at, netns) = (sighting.at, sighting.netns);
        self.touch(at);
        match &sighting.what {
            Seen::Packet(packet) => match &packet.content {
                Content::IcmpError(error) => self.complaint(at, netns, packet, error),
                _ => self.packet(at, netns, packet),
            },
            Seen::State(state) => self.state(at, netns, state),
        }
    }

    fn packet(&mut self, at: Timestamp, netns: u32, packet: &Packet) {
        let port = match &packet.content {
            Content::Tcp(tcp) => tcp.sport,
            Content::Udp { sport, .. } => *sport,
            _ => return,
        };
        let by = self.end_of(SocketAddr::new(packet.src, port));
        let Some(view) = self.view_mut(netns) else {
            return;
        };
        let news = view.sent.of_mut(by).packet(at, packet);
        if !news.is_new {
            return;
        }
        let is_reset = matches!(&packet.content, Content::Tcp(tcp) if tcp.flags & RST != 0);
        let sign = match (is_reset, news.asks) {
            (true, _) => Sign::Reset,
            (false, true) => Sign::Asks,
            (false, false) => Sign::Other,
        };
        view.pauses.packet(by, at, packet.passed.previous, sign);
        if let Some(what) = words::packet(packet, news.is_first_data) {
            self.timeline.add_in(netns, at, what);
        }
    }

    fn complaint(&mut self, at: Timestamp, netns: u32, packet: &Packet, error: &IcmpError) {
        let complaint = Complaint {
            at,
            netns,
            way: packet.way,
            from: packet.src,
            kind: error.kind,
            code: error.code,
            mtu: error.mtu,
            about: self.end_of(error.about.src),
            ttl: packet.ttl,
        };
        let way = match packet.way {
            Way::In => "came in",
            Way::Out => "left",
        };
        let what = format!("{} {way}", words::complaint(&complaint));
        self.timeline.add_in(netns, at, what);
        self.add_complaint(complaint);
    }

    fn state(&mut self, at: Timestamp, netns: u32, state: &State) {
        use TcpState::{
            Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynSent, TimeWait,
        };
        let end = self.end_of(state.flow.src);
        let socket = self.sockets.of_mut(end);
        socket.netns.get_or_insert(netns);
        socket.state = Some(state.to);
        if matches!(state.from, SynSent | TcpState::SynRecv | TcpState::Listen)
            || state.to == SynSent
        {
            socket.began.get_or_insert(at);
        }
        if state.to == Established {
            socket.established.get_or_insert(at);
        }
        // One that was seen for the first time as it left the established state.
        if matches!(state.from, Established | CloseWait | FinWait1 | FinWait2) {
            socket.established.get_or_insert(at);
        }
        let says_goodbye =
            |state| matches!(state, FinWait1 | FinWait2 | Closing | LastAck | TimeWait);
        socket.said_goodbye |= says_goodbye(state.from) || says_goodbye(state.to);
        if matches!(state.to, Close | TimeWait) {
            socket.closed.get_or_insert(at);
        }
        if state.error != 0 {
            socket.error = state.error;
        }
        if state.rtt_us != 0 {
            socket.rtt_us = state.rtt_us;
        }
        socket.retransmitted = socket.retransmitted.max(state.retransmitted);
        socket.duplicates = socket.duplicates.max(state.duplicates);
        if state.process.is_some() {
            socket.process.clone_from(&state.process);
        }
        self.timeline.add_in(netns, at, words::state(end, state));
    }
}

impl super::story::View {
    /// The connection had begun well before that time.
    fn has_begun(&self, at: Timestamp) -> bool {
        /// The socket takes its state just before the SYN leaves, and both may be told
        /// in either order.
        const ORDER: std::time::Duration = std::time::Duration::from_millis(5);
        let sent = |end| self.sent.of(end);
        let first = sent(End::Client).first_way.is_some();
        let began = sent(End::Client).first_opening;
        first && began.is_none_or(|began| super::story::between(began, at) > ORDER)
    }
}
