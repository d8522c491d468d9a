//! What the packets of one end looked like in one namespace.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

use super::{
    input::{Content, Multipath, Packet, Segment, Way},
    signs::{Look, Looks},
    story::between,
};

/// `FIN`, `SYN`, `RST`, `ACK`.
pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

/// A packet passes several interfaces within this time; an end waits longer before it
/// sends one again.
const SAME: Duration = Duration::from_millis(100);
/// Packets that may be under way through the machine at a time.
const MAX_RECENT: usize = 8;
/// Segments that are kept because they may be the end of the first request.
const MAX_ASKED: usize = 8;
/// Different TTLs that are kept.
const MAX_TTLS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Trail {
    /// The way of the first.
    pub first_way: Option<Way>,
    /// When and through which interface the first came in.
    pub came_in: Option<(Timestamp, String)>,
    /// When and through which interface the first left.
    pub left: Option<(Timestamp, String)>,
    /// They left through other interfaces too.
    pub branches: bool,
    /// The last that came in, no reset.
    pub last_in: Option<Timestamp>,
    /// Packets in total, as counted where most passed.
    pub packets: u64,
    /// SYNs, or SYN-ACKs.
    pub openings: u64,
    /// The sequence number of the first of them.
    pub first_seq: Option<u32>,
    pub first_opening: Option<Timestamp>,
    /// Something followed that acknowledges the other end's SYN.
    pub openings_answered: bool,
    /// Something else than SYN and RST was seen.
    pub went_on: bool,
    pub fin: Option<Timestamp>,
    pub reset: Option<Reset>,
    /// The first data.
    pub data: Option<Timestamp>,
    /// Its sequence number, and what it acknowledges.
    pub first_data: Option<(u32, u32)>,
    /// The sequence number behind each of the first segments with new data or the end of
    /// all, and when they passed.
    pub asked: Vec<(u32, Timestamp)>,
    /// What its SYN or SYN-ACK carries.
    pub opening: Opening,
    /// The sequence number behind the furthest data.
    pub next_seq: Option<u32>,
    /// The furthest acknowledgement.
    pub acked: Option<u32>,
    /// The last window, as in the header, and by how much it is shifted, if that is known.
    pub window: u16,
    pub shift: Option<u8>,
    /// Bytes of IP packets in total, as counted up to the last that was seen.
    bytes: u64,
    /// The largest payload.
    pub largest: u32,
    pub mss: Option<u16>,
    /// TTLs of what came in, but for resets.
    pub ttls: Vec<(u8, Carries)>,
    /// What its segments look like, but for resets.
    pub looks: Looks,
    recent: VecDeque<(Timestamp, Print)>,
}

/// What a SYN or SYN-ACK carries.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// What the first acknowledges.
    pub ack: Option<u32>,
    /// Bytes of data.
    pub early: u32,
    /// A Fast Open cookie, or the wish for one.
    pub fast_open: bool,
    pub multipath: bool,
}

/// A reset that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reset {
    pub at: Timestamp,
    /// As it came in, if it did.
    pub ttl: u8,
    pub came_in: bool,
    pub left: bool,
    pub ifname: String,
    pub has_ack: bool,
    pub ack: u32,
    pub look: Look,
    pub multipath: Option<Multipath>,
    /// Bytes that passed before it and after the last packet that was seen.
    pub unseen: u64,
}

/// What a packet carries, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    Syn,
    SynAck,
    Segment,
    Datagram,
    EchoRequest,
    EchoReply,
}

/// What a packet has in common with itself at another interface.
#[derive(Debug, PartialEq, Eq)]
struct Print {
    flags: u8,
    seq: u32,
    ack: u32,
    payload: u32,
    ip_id: Option<u16>,
}

/// What is new about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// It was not seen before at another interface.
    pub is_new: bool,
    /// It is the first with data.
    pub is_first_data: bool,
    /// It has data, an end, or nothing that was not there before, as a keepalive probe.
    pub asks: bool,
}

impl Trail {
    /// Learns of a packet.
    pub(super) fn packet(&mut self, at: Timestamp, packet: &Packet) -> News {
        self.first_way.get_or_insert(packet.way);
        let first = match packet.way {
            Way::In => &mut self.came_in,
            Way::Out => &mut self.left,
        };
        let (_, ifname) = first.get_or_insert_with(|| (at, packet.ifname.clone()));
        self.branches |= packet.way == Way::Out && *ifname != packet.ifname;
        self.packets = self.packets.max(packet.passed.packets);
        let is_new = self.is_new(at, packet);
        match &packet.content {
            Content::Tcp(segment) => self.segment(at, packet, segment, is_new),
            Content::Udp { payload, .. } => {
                self.ttl(packet, Carries::Datagram);
                self.came(at, packet);
                self.went_on = true;
                self.largest = self.largest.max(*payload);
                let is_first_data = self.data.is_none();
                self.data.get_or_insert(at);
                News {
                    is_new,
                    is_first_data,
                    asks: true,
                }
            }
            _ => News {
                is_new,
                is_first_data: false,
                asks: false,
            },
        }
    }

    fn segment(&mut self, at: Timestamp, packet: &Packet, tcp: &Segment, is_new: bool) -> News {
        let has = |flag| tcp.flags & flag != 0;
        let mut news = News {
            is_new,
            is_first_data: false,
            asks: false,
        };
        if has(RST) {
            self.reset(at, packet, tcp);
            return news;
        }
        self.came(at, packet);
        self.ttl(packet, Carries::of(tcp.flags));
        self.bytes = self.bytes.max(packet.passed.bytes);
        self.window = tcp.window;
        if is_new {
            self.looks.add(Look::of(packet, tcp));
        }
        if has(ACK) && self.acked.is_none_or(|acked| is_after(tcp.ack, acked)) {
            self.acked = Some(tcp.ack);
        }
        let end = tcp
            .seq
            .wrapping_add(tcp.payload)
            .wrapping_add(u32::from(has(SYN)) + u32::from(has(FIN)));
        if has(SYN) {
            self.openings += u64::from(is_new);
            self.first_seq.get_or_insert(tcp.seq);
            self.first_opening.get_or_insert(at);
            self.mss = self.mss.or(tcp.mss);
            if has(ACK) {
                self.opening.ack.get_or_insert(tcp.ack);
            }
            self.opening.early = self.opening.early.max(tcp.payload);
            self.opening.fast_open |= tcp.fast_open;
            self.opening.multipath |= tcp.multipath.is_some();
            // Without the option, nothing is shifted.
            self.shift = Some(tcp.window_shift.unwrap_or(0));
        } else {
            self.went_on = true;
            self.openings_answered |= has(ACK);
            let next = self.next_seq;
            let is_ahead = next.is_none_or(|next| is_after(end, next));
            let is_probe = next == Some(tcp.seq.wrapping_add(1)) && tcp.payload <= 1;
            news.asks = (end != tcp.seq && is_ahead) || is_probe;
        }
        if has(FIN) {
            self.fin.get_or_insert(at);
        }
        if tcp.payload > 0 {
            news.is_first_data = self.data.is_none();
            self.data.get_or_insert(at);
            self.first_data.get_or_insert((tcp.seq, tcp.ack));
            self.largest = self.largest.max(tcp.payload);
        }
        if self.next_seq.is_none_or(|next| is_after(end, next)) {
            if (tcp.payload > 0 || has(FIN)) && self.asked.len() < MAX_ASKED {
                self.asked.push((end, at));
            }
            self.next_seq = Some(end);
        }
        news
    }

    fn reset(&mut self, at: Timestamp, packet: &Packet, tcp: &Segment) {
        let came_in = packet.way == Way::In;
        match &mut self.reset {
            Some(reset) if between(reset.at, at) < SAME => {
                if came_in && !reset.came_in {
                    reset.ttl = packet.ttl;
                    reset.look = Look::of(packet, tcp);
                }
                reset.came_in |= came_in;
                reset.left |= !came_in;
            }
            Some(_) => {}
            none => {
                let before = packet.passed.bytes.saturating_sub(packet.len.into());
                *none = Some(Reset {
                    at,
                    ttl: packet.ttl,
                    came_in,
                    left: !came_in,
                    ifname: packet.ifname.clone(),
                    has_ack: tcp.flags & ACK != 0,
                    ack: tcp.ack,
                    look: Look::of(packet, tcp),
                    multipath: tcp.multipath,
                    unseen: before.saturating_sub(self.bytes),
                });
            }
        }
    }

    /// Nothing but resets was seen of it.
    pub(super) fn is_silent(&self) -> bool {
        self.openings == 0 && !self.went_on
    }

    /// The least that its last packets acknowledge.
    pub(super) fn least_acked(&self) -> Option<u32> {
        let acks = self.recent.iter().filter_map(|(_, print)| {
            let is_ack = print.flags & (ACK | RST) == ACK;
            is_ack.then_some(print.ack)
        });
        acks.reduce(|least, ack| if is_after(least, ack) { ack } else { least })
    }

    fn came(&mut self, at: Timestamp, packet: &Packet) {
        if packet.way == Way::In {
            self.last_in = self.last_in.max(Some(at));
        }
    }

    fn ttl(&mut self, packet: &Packet, carries: Carries) {
        let known = (packet.ttl, carries);
        let is_of_use = packet.way == Way::In && !self.ttls.contains(&known);
        if is_of_use && self.ttls.len() < MAX_TTLS {
            self.ttls.push(known);
        }
    }

    fn is_new(&mut self, at: Timestamp, packet: &Packet) -> bool {
        let print = match &packet.content {
            Content::Tcp(tcp) => Print {
                flags: tcp.flags,
                seq: tcp.seq,
                ack: tcp.ack,
                payload: tcp.payload,
                ip_id: packet.ip_id,
            },
            _ => Print {
                flags: 0,
                seq: 0,
                ack: 0,
                payload: packet.len,
                ip_id: packet.ip_id,
            },
        };
        let is_known = self
            .recent
            .iter()
            .any(|(seen, other)| *other == print && between(*seen, at) < SAME);
        if is_known {
            return false;
        }
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((at, print));
        true
    }
}

impl Carries {
    pub(super) fn of(flags: u8) -> Self {
        match (flags & SYN != 0, flags & ACK != 0) {
            (true, true) => Self::SynAck,
            (true, false) => Self::Syn,
            _ => Self::Segment,
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Syn => "SYN",
            Self::SynAck => "SYN-ACK",
            Self::Segment => "segment",
            Self::Datagram => "datagram",
            Self::EchoRequest => "echo request",
            Self::EchoReply => "echo reply",
        }
    }
}

/// Whether a sequence number lies behind another.
pub(super) fn is_after(one: u32, other: u32) -> bool {
    let distance = one.wrapping_sub(other);
    distance != 0 && distance < 1 << 31
}
