//! From what the kernel programs saw of a conversation to what it means.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{clock::Clock, flow, headers, packet};
use crate::{
    conversation::{
        Content, Endpoints, IcmpError, Multipath, Packet, Passed, Seen, Segment, Sighting, State,
        TcpState, Way,
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
/// TCP option kinds, and subtypes of multipath TCP's.
const FAST_OPEN: u8 = 34;
const MULTIPATH: u8 = 30;
const MP_FASTCLOSE: u8 = 7;
const MP_TCPRST: u8 = 8;
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
        fast_open: false,
        multipath: None,
    };
    for option in tcp.options_iterator().map_while(Result::ok) {
        match option {
            TcpOptionElement::MaximumSegmentSize(mss) => made.mss = Some(mss),
            TcpOptionElement::WindowScale(shift) => made.window_shift = Some(shift),
            TcpOptionElement::Timestamp(..) => made.has_timestamps = true,
            _ => {}
        }
    }
    for (kind, option) in options(tcp.options()) {
        match kind {
            FAST_OPEN => made.fast_open = true,
            MULTIPATH => made.multipath = Some(multipath(option, made.multipath)),
            _ => {}
        }
    }
    Some(made)
}

/// The TCP options by kind, each with what follows its length; the library stops at those
/// that it does not know.
fn options(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        while let [1, rest @ ..] = bytes {
            bytes = rest;
        }
        let [kind @ 1..=u8::MAX, len, ..] = bytes else {
            return None;
        };
        let option = bytes.get(2..usize::from(*len))?;
        bytes = bytes.get(usize::from(*len)..)?;
        Some((*kind, option))
    })
}

fn multipath(option: &[u8], known: Option<Multipath>) -> Multipath {
    let mut made = known.unwrap_or_default();
    match option {
        [subtype, ..] if subtype >> 4 == MP_FASTCLOSE => made.is_fast_close = true,
        [subtype, reason, ..] if subtype >> 4 == MP_TCPRST => made.reset_reason = Some(*reason),
        _ => {}
    }
    made
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

#[cfg(test)]
mod tests {
    use super::{MULTIPATH, multipath, options};
    use crate::conversation::Multipath;

    #[test]
    fn options_are_read_up_to_the_first_that_is_broken() {
        let read = |bytes: &[u8]| -> Vec<(u8, Vec<u8>)> {
            let read = options(bytes).map(|(kind, option)| (kind, option.to_vec()));
            read.collect()
        };
        assert_eq!(
            read(&[1, 1, 34, 2, 30, 4, 0x80, 3, 0, 99]),
            [(34, vec![]), (30, vec![0x80, 3])]
        );
        for broken in [&[34][..], &[34, 0], &[34, 1], &[34, 9, 7], &[]] {
            assert!(read(broken).is_empty(), "{broken:?}");
        }
    }

    #[test]
    fn resets_of_multipath_tcp_are_known() {
        let of = |bytes: &[u8]| {
            options(bytes)
                .filter(|(kind, _)| *kind == MULTIPATH)
                .fold(None, |known, (_, option)| Some(multipath(option, known)))
        };
        // MP_TCPRST without flags, reason 3; MP_FASTCLOSE with a key; MP_CAPABLE.
        let reset = [30, 4, 0x80, 3];
        let close = [30, 12, 0x70, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let made = |is_fast_close, reset_reason| {
            Some(Multipath {
                is_fast_close,
                reset_reason,
            })
        };
        assert_eq!(of(&reset), made(false, Some(3)));
        assert_eq!(of(&close), made(true, None));
        assert_eq!(
            of(&[reset.as_slice(), &close].concat()),
            made(true, Some(3))
        );
        assert_eq!(of(&[30, 4, 0x01, 1]), made(false, None));
        assert_eq!(of(&[2, 4, 5, 0xb4]), None);
    }
}
