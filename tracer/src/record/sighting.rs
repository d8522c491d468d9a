//! From what the kernel programs saw of a conversation to what it means.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{clock::Clock, flow, headers, packet};
use crate::{
    conversation::{
        Content, Endpoints, IcmpError, Packet, Passed, Seen, Segment, Sighting, State, TcpState,
        Way,
    },
    event::Process,
    owner::sockets::{Sockets, Trace},
};
use droptrace_types::{
    Filter, HEADER_LEN, Sighting as Raw, SightingKind, TUPLE_ICMP, TUPLE_PORTS, Tuple,
};
use etherparse::{TcpHeaderSlice, TcpOptionElement};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// TCP option kinds.
const FAST_OPEN: u8 = 34;
/// Sockets whose processes are remembered until they have ports.
const MAX_OPENING: usize = 4096;

/// Makes sightings; keeps what a socket said before it had a port.
#[derive(Default)]
pub struct Sightings {
    /// By the socket's address: who opens a connection, before the kernel has chosen its
    /// port.
    opening: HashMap<u64, Option<Process>>,
}

impl Sightings {
    /// What the kernel programs saw, in words of the field. What cannot be understood
    /// is left out.
    pub fn make(
        &mut self,
        raw: &[Raw],
        filter: &Filter,
        clock: &Clock,
        sockets: &mut Sockets,
    ) -> Vec<Sighting> {
        let made = raw.iter().filter_map(|raw| {
            let what = match SightingKind::from_u8(raw.kind)? {
                SightingKind::PacketIn => Seen::Packet(packet_of(raw, Way::In, clock)?),
                SightingKind::PacketOut => Seen::Packet(packet_of(raw, Way::Out, clock)?),
                SightingKind::State => Seen::State(self.state_of(raw, sockets)?),
            };
            Some(Sighting {
                at: clock.timestamp(raw.time_ns),
                netns: raw.netns,
                is_selected: filter.selects(&raw.flow)
                    || (raw.about.family != 0 && filter.selects(&raw.about)),
                what,
            })
        });
        made.collect()
    }

    fn state_of(&mut self, raw: &Raw, sockets: &mut Sockets) -> Option<State> {
        let process = sockets.owner(&Trace::of_sighting(raw));
        let to = tcp_state(raw.state_to)?;
        if to == TcpState::SynSent && raw.flow.src_port == 0 {
            // Linux chooses the port after the state (`tcp_v4_connect`).
            if self.opening.len() >= MAX_OPENING {
                self.opening.clear();
            }
            self.opening.insert(raw.socket, process);
            return None;
        }
        let opened = self.opening.remove(&raw.socket).flatten();
        Some(State {
            flow: endpoints(&raw.flow)?,
            from: tcp_state(raw.state_from)?,
            to,
            error: i32::try_from(raw.error).unwrap_or(0),
            rtt_us: raw.srtt_us,
            retransmitted: raw.retransmitted,
            duplicates: raw.duplicates,
            process: process.or(opened),
        })
    }
}

fn packet_of(raw: &Raw, way: Way, clock: &Clock) -> Option<Packet> {
    let (src, dst) = flow::addresses(&raw.flow)?;
    let bytes = raw
        .header
        .get(..(raw.header_len as usize).min(HEADER_LEN))?;
    let is_v4 = src.is_ipv4();
    let (ttl, tos, ip_id, dont_fragment) = if is_v4 {
        let id = u16::from_be_bytes([*bytes.get(4)?, *bytes.get(5)?]);
        let tos = *bytes.get(1)?;
        (*bytes.get(8)?, tos, Some(id), bytes.get(6)? & 0x40 != 0)
    } else {
        let class = (bytes.first()? << 4) | (bytes.get(1)? >> 4);
        (*bytes.get(7)?, class, None, true)
    };
    let previous = (raw.previous_ns != 0).then(|| clock.timestamp(raw.previous_ns));
    Some(Packet {
        way,
        ifname: packet::text(&raw.ifname.0).unwrap_or_default(),
        src,
        dst,
        ttl,
        ip_id,
        dont_fragment,
        dscp: tos >> 2,
        len: raw.len,
        content: content(raw, bytes, is_v4),
        passed: Passed {
            packets: raw.packets,
            bytes: raw.bytes,
            largest: raw.largest,
            previous,
        },
    })
}

fn content(raw: &Raw, bytes: &[u8], is_v4: bool) -> Content {
    let transport = headers::transport(bytes);
    let Some((at, header)) = transport.and_then(|at| Some((at, bytes.get(at..)?))) else {
        return Content::Other;
    };
    let behind = |header: usize| {
        let headers = u32::try_from(at + header).unwrap_or(u32::MAX);
        raw.len.saturating_sub(headers)
    };
    match raw.flow.proto {
        TCP => segment(header, behind).map_or(Content::Other, Content::Tcp),
        UDP if raw.flow.flags & TUPLE_PORTS != 0 => Content::Udp {
            sport: raw.flow.src_port,
            dport: raw.flow.dst_port,
            payload: behind(8),
        },
        ICMP | ICMPV6 if raw.flow.flags & TUPLE_ICMP != 0 => icmp(raw, header, is_v4),
        _ => Content::Other,
    }
}

fn segment(header: &[u8], behind: impl Fn(usize) -> u32) -> Option<Segment> {
    let tcp = TcpHeaderSlice::from_slice(header).ok()?;
    let mut made = Segment {
        sport: tcp.source_port(),
        dport: tcp.destination_port(),
        flags: header[13],
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        window: tcp.window_size(),
        window_shift: None,
        payload: behind(tcp.slice().len()),
        has_timestamps: false,
        mss: None,
        fast_open: has_option(tcp.options(), FAST_OPEN),
    };
    for option in tcp.options_iterator().map_while(Result::ok) {
        match option {
            TcpOptionElement::MaximumSegmentSize(mss) => made.mss = Some(mss),
            TcpOptionElement::WindowScale(shift) => made.window_shift = Some(shift),
            TcpOptionElement::Timestamp(..) => made.has_timestamps = true,
            _ => {}
        }
    }
    Some(made)
}

/// Whether there is a TCP option of this kind; the library stops at those that it does
/// not know.
fn has_option(mut options: &[u8], kind: u8) -> bool {
    loop {
        match options {
            [] | [0, ..] => return false,
            [1, rest @ ..] => options = rest,
            [found, ..] if *found == kind => return true,
            [_, len, ..] => match options.get(usize::from(*len).max(2)..) {
                Some(rest) => options = rest,
                None => return false,
            },
            [_] => return false,
        }
    }
}

fn icmp(raw: &Raw, header: &[u8], is_v4: bool) -> Content {
    let [kind, code] = [raw.flow.src_port, raw.flow.dst_port].map(|word| word.to_le_bytes()[0]);
    if let Some(about) = endpoints(&raw.about) {
        let word = |at: usize| Some([*header.get(at)?, *header.get(at + 1)?]);
        let mtu = match (is_v4, kind, code) {
            (true, 3, 4) => word(6).map(|word| u32::from(u16::from_be_bytes(word))),
            (false, 2, _) => word(4)
                .zip(word(6))
                .map(|([a, b], [c, d])| u32::from_be_bytes([a, b, c, d])),
            _ => None,
        };
        return Content::IcmpError(IcmpError {
            kind,
            code,
            mtu: mtu.filter(|mtu| *mtu != 0),
            about,
            proto: raw.about.proto,
        });
    }
    match (is_v4, kind) {
        (true, 8) | (false, 128) => Content::EchoRequest,
        (true, 0) | (false, 129) => Content::EchoReply,
        _ => Content::Other,
    }
}

fn endpoints(tuple: &Tuple) -> Option<Endpoints> {
    let (src, dst) = flow::addresses(tuple)?;
    let port = |port: u16| {
        if tuple.flags & TUPLE_PORTS == 0 {
            0
        } else {
            port
        }
    };
    let end = |addr: IpAddr, number| SocketAddr::new(addr, port(number));
    Some(Endpoints {
        src: end(src, tuple.src_port),
        dst: end(dst, tuple.dst_port),
    })
}

fn tcp_state(number: u8) -> Option<TcpState> {
    Some(match number {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 | 12 => TcpState::SynRecv,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        7 => TcpState::Close,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        _ => return None,
    })
}
