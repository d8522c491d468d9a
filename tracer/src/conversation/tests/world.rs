//! Sightings and records, made as the kernel's packets would be seen.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use super::super::{
    Content, Conversations, Endpoints, IcmpError, Multipath, Packet, Passed, Scope, Seen, Segment,
    Sighting, State, TcpState, Way,
    trail::{ACK, FIN, RST, SYN},
};
use crate::event::{
    Class, Code, Direction, Engine, Event, EventKind, Family, Flow, Icmp, Process, Reason, Rule,
    SCHEMA, Tcp, Verdict, Via, Where,
};

/// The namespace in which most of it takes place.
pub const HOME: u32 = 4_026_531_840;
pub const CLIENT: &str = "10.0.0.2:40000";
pub const SERVER: &str = "10.0.0.5:443";
/// The client's first sequence number and the server's.
pub const CLIENT_ISN: u32 = 1000;
pub const SERVER_ISN: u32 = 90_000;

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Milliseconds after the beginning.
pub fn at(ms: i64) -> Timestamp {
    let beginning: Timestamp = "2026-11-22T10:00:00Z".parse().expect("a time");
    beginning + SignedDuration::from_millis(ms)
}

/// Something goes on, and conclusions are drawn.
pub struct World {
    pub conversations: Conversations,
    pub netns: u32,
    /// The interface that packets pass.
    pub ifname: &'static str,
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// What sockets count: segments sent again, and those that the other end had.
    pub counted: (u32, u32),
    /// The round-trip time that sockets measure.
    pub rtt_us: u32,
    /// What the next packets' headers have.
    pub header: Header,
}

/// Fields that tell senders apart.
#[derive(Clone, Copy)]
pub struct Header {
    pub ip_id: u16,
    pub dont_fragment: bool,
    pub dscp: u8,
    pub window: u16,
    pub has_timestamps: bool,
    pub fast_open: bool,
    pub multipath: Option<Multipath>,
}

impl World {
    pub fn new() -> Self {
        Self::of(Scope::Packets)
    }

    /// Of which so much is watched.
    pub fn of(scope: Scope) -> Self {
        Self {
            conversations: Conversations::new(scope),
            netns: HOME,
            ifname: "eth0",
            client: address(CLIENT),
            server: address(SERVER),
            counted: (0, 0),
            rtt_us: 0,
            header: Header {
                ip_id: 0,
                dont_fragment: true,
                dscp: 0,
                window: 64_000,
                has_timestamps: false,
                fast_open: false,
                multipath: None,
            },
        }
    }

    fn see(&mut self, ms: i64, what: Seen) {
        self.conversations.see(&[Sighting {
            is_selected: true,
            at: at(ms),
            netns: self.netns,
            what,
        }]);
    }

    fn packet(
        &mut self,
        ms: i64,
        way: Way,
        ends: (SocketAddr, SocketAddr),
        ttl: u8,
        content: Content,
    ) {
        self.see(
            ms,
            Seen::Packet(Packet {
                way,
                ifname: self.ifname.to_owned(),
                src: ends.0.ip(),
                dst: ends.1.ip(),
                ttl,
                ip_id: Some(self.header.ip_id),
                dont_fragment: self.header.dont_fragment,
                dscp: self.header.dscp,
                len: 60,
                content,
                passed: Passed::default(),
            }),
        );
    }

    fn segment(&mut self, ms: i64, way: Way, by_client: bool, ttl: u8, tcp: (u8, u32, u32, u32)) {
        let (flags, seq, ack, payload) = tcp;
        let ends = if by_client {
            (self.client, self.server)
        } else {
            (self.server, self.client)
        };
        let segment = Segment {
            sport: ends.0.port(),
            dport: ends.1.port(),
            flags,
            seq,
            ack,
            window: self.header.window,
            payload,
            window_shift: (flags & SYN != 0).then_some(0),
            has_timestamps: self.header.has_timestamps,
            mss: (flags & SYN != 0).then_some(1460),
            fast_open: self.header.fast_open,
            multipath: self.header.multipath,
        };
        self.packet(ms, way, ends, ttl, Content::Tcp(segment));
    }

    /// A segment of the client leaves.
    pub fn sends(&mut self, ms: i64, flags: u8, seq: u32, ack: u32, payload: u32) {
        self.segment(ms, Way::Out, true, 64, (flags, seq, ack, payload));
    }

    /// A segment of the server comes in.
    pub fn gets(&mut self, ms: i64, ttl: u8, flags: u8, seq: u32, ack: u32, payload: u32) {
        self.segment(ms, Way::In, false, ttl, (flags, seq, ack, payload));
    }

    /// A segment of the client comes in, at the server.
    pub fn is_asked(&mut self, ms: i64, ttl: u8, flags: u8, seq: u32, ack: u32, payload: u32) {
        self.segment(ms, Way::In, true, ttl, (flags, seq, ack, payload));
    }

    /// A segment of the server leaves.
    pub fn answers(&mut self, ms: i64, flags: u8, seq: u32, ack: u32, payload: u32) {
        self.segment(ms, Way::Out, false, 64, (flags, seq, ack, payload));
    }

    pub fn syn(&mut self, ms: i64) {
        self.sends(ms, SYN, CLIENT_ISN, 0, 0);
    }

    /// What refuses a SYN.
    pub fn refusal(&mut self, ms: i64, ttl: u8) {
        self.gets(ms, ttl, RST | ACK, 0, CLIENT_ISN + 1, 0);
    }

    pub fn datagram(&mut self, ms: i64, way: Way, by_client: bool) {
        let ends = if by_client {
            (self.client, self.server)
        } else {
            (self.server, self.client)
        };
        let content = Content::Udp {
            sport: ends.0.port(),
            dport: ends.1.port(),
            payload: 32,
        };
        self.packet(ms, way, ends, if way == Way::In { 61 } else { 64 }, content);
    }

    /// A ping of the server is answered.
    pub fn pong(&mut self, ms: i64, ttl: u8) {
        let ends = (self.server, self.client);
        self.packet(ms, Way::In, ends, ttl, Content::EchoReply);
    }

    /// An ICMP error about the client's packets comes in.
    pub fn icmp(&mut self, ms: i64, from: &str, proto: u8, kind: u8, code: u8, mtu: Option<u32>) {
        let from: IpAddr = from.parse().expect("an address");
        let error = IcmpError {
            kind,
            code,
            mtu,
            about: Endpoints {
                src: self.client,
                dst: self.server,
            },
            proto,
        };
        let ends = (SocketAddr::new(from, 0), self.client);
        self.packet(ms, Way::In, ends, 63, Content::IcmpError(error));
    }

    /// "Port unreachable" passes, about the packets of the client or of the server.
    pub fn port_unreachable(&mut self, ms: i64, way: Way, from: &str, about: (&str, &str)) {
        let from: IpAddr = from.parse().expect("an address");
        let (src, dst) = (address(about.0), address(about.1));
        let error = IcmpError {
            kind: 3,
            code: 3,
            mtu: None,
            about: Endpoints { src, dst },
            proto: 6,
        };
        let ends = (SocketAddr::new(from, 0), src);
        self.packet(ms, way, ends, 64, Content::IcmpError(error));
    }

    fn state(
        &mut self,
        ms: i64,
        own: SocketAddr,
        other: SocketAddr,
        from: TcpState,
        to: TcpState,
        error: i32,
    ) {
        self.see(
            ms,
            Seen::State(State {
                flow: Endpoints {
                    src: own,
                    dst: other,
                },
                from,
                to,
                error,
                rtt_us: self.rtt_us,
                retransmitted: self.counted.0,
                duplicates: self.counted.1,
                process: Some(curl()),
            }),
        );
    }

    /// The client's socket takes another state.
    pub fn client_is(&mut self, ms: i64, from: TcpState, to: TcpState, error: i32) {
        self.state(ms, self.client, self.server, from, to, error);
    }

    /// The server's socket takes another state.
    pub fn server_is(&mut self, ms: i64, from: TcpState, to: TcpState, error: i32) {
        self.state(ms, self.server, self.client, from, to, error);
    }

    /// The client's socket connects, and its SYN leaves.
    pub fn connects(&mut self, ms: i64) {
        self.client_is(ms, TcpState::Close, TcpState::SynSent, 0);
        self.syn(ms);
    }

    /// The handshake, seen by the client.
    pub fn is_connected(&mut self, ms: i64, ttl: u8) {
        self.connects(ms);
        self.gets(ms + 20, ttl, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
        self.client_is(ms + 20, TcpState::SynSent, TcpState::Established, 0);
        self.sends(ms + 20, ACK, CLIENT_ISN + 1, SERVER_ISN + 1, 0);
    }

    /// The client sends some bytes and gets them acknowledged.
    pub fn talks(&mut self, ms: i64, ttl: u8, from: u32, bytes: u32) {
        let seq = CLIENT_ISN + 1 + from;
        self.sends(ms, ACK, seq, SERVER_ISN + 1, bytes);
        self.gets(ms + 20, ttl, ACK, SERVER_ISN + 1, seq + bytes, 0);
    }

    /// Both ends close, the client first, `sent` bytes after the beginning.
    pub fn parts(&mut self, ms: i64, ttl: u8, sent: u32) {
        let end = CLIENT_ISN + 1 + sent;
        self.client_is(ms, TcpState::Established, TcpState::FinWait1, 0);
        self.sends(ms, FIN | ACK, end, SERVER_ISN + 1, 0);
        self.gets(ms + 20, ttl, FIN | ACK, SERVER_ISN + 1, end + 1, 0);
        self.sends(ms + 20, ACK, end + 1, SERVER_ISN + 2, 0);
        self.client_is(ms + 20, TcpState::FinWait1, TcpState::FinWait2, 0);
        self.client_is(ms + 20, TcpState::FinWait2, TcpState::Close, 0);
    }

    /// No verdict is there at the end.
    pub fn has_none(&mut self, ms: i64) -> bool {
        self.conversations.conclude(at(ms), &[]).is_empty()
    }

    pub fn record(&mut self, event: Event) {
        self.conversations.record(&[event]);
    }

    /// The only verdict that is there at the end.
    pub fn verdict(&mut self, ms: i64) -> Event {
        let mut verdicts = self.conversations.conclude(at(ms), &[]);
        assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
        said(&verdicts[0]);
        verdicts.remove(0)
    }
}

pub fn curl() -> Process {
    Process {
        pid: 812,
        comm: "curl".to_owned(),
        uid: 1000,
        cgroup: None,
        container: None,
    }
}

/// What a verdict record has to say.
pub fn said(event: &Event) -> &Verdict {
    assert_eq!(event.kind, EventKind::Verdict);
    let verdict = event.verdict.as_ref().expect("a verdict");
    let explanation = verdict.explanation.as_str();
    let repeats = |line: &&String| line.contains(explanation);
    let repeated = verdict.evidence.iter().find(repeats);
    assert_eq!(repeated, None, "the evidence repeats the explanation");
    verdict
}

pub fn code(event: &Event) -> Code {
    said(event).code
}

/// A record about a TCP segment with these flags.
pub fn record(kind: EventKind, ms: i64, src: SocketAddr, dst: SocketAddr, flags: &str) -> Event {
    Event {
        schema: SCHEMA.to_owned(),
        kind,
        time: at(ms).to_string(),
        first_seen: at(ms).to_string(),
        flow: Some(flow("tcp", src, dst)),
        packets: 1,
        bytes: 60,
        reason: Some(reason(None, Class::Unknown)),
        rule: None,
        r#where: Some(Where {
            function: None,
            offset: None,
            hook: None,
            netns: Some(HOME),
            netns_name: None,
            container: None,
            ifname: Some("eth0".to_owned()),
            ifindex: Some(2),
            stack: Arc::default(),
        }),
        process: None,
        conntrack: None,
        tcp: Some(Tcp {
            flags: Some(flags.to_owned()),
            seq: Some(CLIENT_ISN),
            ack: Some(0),
            state: None,
        }),
        advice: None,
        packet: None,
        undecoded: None,
        flows_unlisted: None,
        loss: None,
        verdict: None,
        seq: None,
        boot_id: None,
    }
}

pub fn reason(name: Option<&str>, class: Class) -> Reason {
    Reason {
        name: name.map(ToOwned::to_owned),
        code: None,
        subsystem: "core".to_owned(),
        class,
        summary: "for the reason it had".to_owned(),
        derived: false,
    }
}

/// A drop of a client's or server's packet.
pub fn drop(ms: i64, src: &str, dst: &str, flags: &str, name: &str, class: Class) -> Event {
    let mut event = record(EventKind::Drop, ms, address(src), address(dst), flags);
    event.reason = Some(reason(Some(name), class));
    event
}

/// The same drop, made by a rule.
pub fn by_rule(mut event: Event, text: &str, verdict: &str) -> Event {
    event.rule = Some(Rule {
        engine: Engine::Nft,
        family: Some("inet".to_owned()),
        table: Some("filter".to_owned()),
        chain: Some("output".to_owned()),
        path: Vec::new(),
        table_handle: Some(1),
        chain_handle: Some(1),
        handle: Some(5),
        number: None,
        position: Some(1),
        text: Some(text.to_owned()),
        iptables: None,
        comment: None,
        verdict: Some(verdict.to_owned()),
        as_of: None,
        policy: false,
        function: None,
        module: None,
        prog_id: None,
        name: None,
        via: Via::Frame,
        exact: true,
        compared: Vec::new(),
    });
    event
}

/// The same drop, by a rule that the kernel does not tell.
pub fn by_hook(event: Event) -> Event {
    let mut event = by_rule(event, "", "drop");
    let rule = event.rule.as_mut().expect("a rule");
    (rule.text, rule.handle, rule.position) = (None, None, None);
    event
}

/// A segment of the client with these bytes of payload, sent again.
pub fn again(ms: i64, seq: u32, bytes: u64) -> Event {
    let mut event = record(
        EventKind::Retransmit,
        ms,
        address(CLIENT),
        address(SERVER),
        "A",
    );
    event.bytes = bytes;
    event.tcp.as_mut().expect("TCP").seq = Some(seq);
    event
}

pub fn flow(proto: &str, src: SocketAddr, dst: SocketAddr) -> Flow {
    Flow {
        family: Family::Ipv4,
        proto: proto.to_owned(),
        src: src.ip(),
        sport: Some(src.port()),
        dst: dst.ip(),
        dport: Some(dst.port()),
        direction: Some(Direction::Out),
        vlan: None,
        fragment: false,
        icmp: None,
        about: None,
    }
}

/// A dropped ICMP error about the client's packets.
pub fn icmp_drop(ms: i64, kind: u8, code: u8) -> Event {
    let mut event = drop(ms, SERVER, CLIENT, "", "NETFILTER_DROP", Class::Policy);
    event.tcp = None;
    let about = flow("tcp", address(CLIENT), address(SERVER));
    let flow = event.flow.as_mut().expect("a flow");
    "icmp".clone_into(&mut flow.proto);
    (flow.sport, flow.dport) = (None, None);
    flow.icmp = Some(Icmp { r#type: kind, code });
    flow.about = Some(Box::new(about));
    event
}
