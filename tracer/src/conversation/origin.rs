//! Who sent a packet that says it comes from the other end.
//!
//! Every router on the way takes one from the time to live, and senders begin with 64,
//! 128 or 255 (some with 32). So what is left tells how far away the sender is. It is
//! compared with packets that only the other end answers with; never with resets,
//! which a device on the path may have sent. Where the distance is the peer's, the rest of
//! what the reset looks like (`signs`) may still speak against it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;

use super::{
    input::{Content, Packet, Way},
    signs::{Look, Looks, Sign},
    trail::{ACK, Carries, RST, Reset, SYN},
    words,
};
use crate::event::Confidence;

/// Addresses of which TTLs are remembered.
const MAX_ADDRESSES: usize = 1024;
/// What is remembered of one.
const MAX_TRACES: usize = 8;

/// What is known of how far away addresses are.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: HashMap<(u32, IpAddr), Known>,
    clock: u64,
}

#[derive(Debug)]
struct Known {
    used: u64,
    heard: Timestamp,
    traces: Vec<Trace>,
    looks: Looks,
}

/// A packet of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    pub ttl: u8,
    pub carries: Carries,
    /// Its port; 0 without one.
    pub port: u16,
}

impl Addresses {
    /// Learns of a packet.
    pub(super) fn packet(&mut self, at: Timestamp, netns: u32, packet: &Packet) {
        let (carries, port) = match &packet.content {
            Content::Tcp(tcp) if tcp.flags & RST == 0 => {
                // A SYN is as good as anything: its sender waits for the answer.
                let carries = Carries::of(tcp.flags & (SYN | ACK));
                (carries, tcp.sport)
            }
            Content::Udp { sport, .. } => (Carries::Datagram, *sport),
            Content::EchoReply => (Carries::EchoReply, 0),
            Content::EchoRequest => (Carries::EchoRequest, 0),
            _ => return,
        };
        // Over loopback come answers that this machine gives in another's name.
        if packet.way == Way::Out || packet.ifname == "lo" {
            return;
        }
        self.clock += 1;
        let key = (netns, packet.src);
        if !self.known.contains_key(&key) && self.known.len() == MAX_ADDRESSES {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.known.remove(&oldest);
            }
        }
        let known = self.known.entry(key).or_insert_with(|| Known {
            used: 0,
            heard: at,
            traces: Vec::new(),
            looks: Looks::default(),
        });
        known.used = self.clock;
        known.heard = known.heard.max(at);
        if let Content::Tcp(tcp) = &packet.content {
            known.looks.add(Look::of(packet, tcp));
        }
        let trace = Trace {
            ttl: packet.ttl,
            carries,
            port,
        };
        let is_known = known.traces.iter().any(|other| {
            other.ttl == trace.ttl
                && (other.carries, other.port == port) == (carries, trace.port == port)
        });
        if !is_known {
            if known.traces.len() == MAX_TRACES {
                known.traces.remove(0);
            }
            known.traces.push(trace);
        }
    }

    /// When a packet of an address last came into a namespace.
    pub(super) fn heard(&self, netns: Option<u32>, address: IpAddr) -> Option<Timestamp> {
        let known = self.known.get(&(netns?, address))?;
        Some(known.heard)
    }

    /// What the packets of an address look like in a namespace.
    pub(super) fn looks(&self, netns: Option<u32>, address: IpAddr) -> Option<&Looks> {
        let known = self.known.get(&(netns?, address))?;
        Some(&known.looks)
    }

    /// What is known of an address as seen from a namespace.
    pub(super) fn traces(&self, netns: Option<u32>, address: IpAddr) -> &[Trace] {
        netns
            .and_then(|netns| self.known.get(&(netns, address)))
            .map_or(&[], |known| &known.traces)
    }
}

/// Who sent a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Peer,
    Path,
    Unknown,
}

/// Who sent a reset, and what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Traced {
    pub origin: Origin,
    pub confidence: Confidence,
    pub explanation: String,
    pub evidence: Vec<String>,
}

/// With what a TTL began, and how many routers took one from it.
pub(super) fn hops(ttl: u8) -> (u8, u8) {
    let initial = [32, 64, 128].into_iter().find(|initial| ttl <= *initial);
    let initial = initial.unwrap_or(255);
    (initial, initial - ttl)
}

/// `1 hop away`.
fn away(hops: u8) -> String {
    match hops {
        0 => "the same link".to_owned(),
        1 => "1 hop away".to_owned(),
        hops => format!("{hops} hops away"),
    }
}

/// `1 hop`.
fn count(hops: u8) -> String {
    match hops {
        1 => "1 hop".to_owned(),
        hops => format!("{hops} hops"),
    }
}

/// Who sent `reset` in the name of `peer`. `own` is what else came from there in the
/// same conversation, `others` in any; `signs` are those beside the time to live.
pub(super) fn of_reset(
    reset: &Reset,
    peer: SocketAddr,
    own: &[(u8, Carries)],
    others: &[Trace],
    signs: Vec<Sign>,
) -> Traced {
    let (peer, port) = (peer.ip(), peer.port());
    let own: Vec<Trace> = own
        .iter()
        .map(|(ttl, carries)| Trace {
            ttl: *ttl,
            carries: *carries,
            port,
        })
        .collect();
    let of_port = others.iter().copied().filter(|trace| trace.port == port);
    let of_port: Vec<Trace> = of_port.collect();
    // The nearer to this conversation, the better.
    let compared = [own.as_slice(), &of_port, others]
        .into_iter()
        .find(|traces| !traces.is_empty())
        .unwrap_or_default();
    let is_own = !own.is_empty();
    let field = words::ttl_field(peer.is_ipv4());
    let (initial, distance) = hops(reset.ttl);
    let mut evidence = vec![format!(
        "RST with {field} {} ({initial} at its start: {})",
        reset.ttl,
        count(distance)
    )];
    evidence.extend(compared.iter().map(|trace| told(*trace, peer, is_own)));
    let equal = compared
        .iter()
        .filter(|trace| trace.ttl == reset.ttl)
        .count();
    let is_as_far = compared.iter().any(|trace| hops(trace.ttl).1 == distance);
    let nearest = compared.iter().map(|trace| hops(trace.ttl).1).min();
    let from = away(distance);
    let (origin, explanation) = match nearest {
        None => {
            evidence.push(format!(
                "no other packet of {peer} was seen: ping it, or connect to another port, while droptrace runs"
            ));
            let explanation = format!(
                "a RST came from {from}, and how far {peer} is away is not known: it or a device on the path sent it"
            );
            (Origin::Unknown, explanation)
        }
        Some(_) if equal == compared.len() || (is_own && equal > 0) => {
            let fellows = if is_own {
                "the rest of the connection"
            } else {
                "other packets"
            };
            let elsewhere = others.iter().filter(|trace| trace.ttl != reset.ttl);
            evidence.extend(
                elsewhere.map(|trace| format!("{}: from elsewhere", told(*trace, peer, false))),
            );
            let unlike = signs.iter().filter(|sign| !sign.fits);
            let unlike: Vec<&str> = unlike.map(|sign| sign.what).collect();
            let found = against(&unlike, field, peer).unwrap_or_else(|| {
                let explanation =
                    format!("the RST came from {from}, as {fellows} of {peer}: it sent it itself");
                (Origin::Peer, explanation)
            });
            evidence.extend(signs.into_iter().map(|sign| sign.told));
            // That all is the same does not exclude a device that forges it.
            return Traced {
                origin: found.0,
                confidence: Confidence::Inferred,
                explanation: found.1,
                evidence,
            };
        }
        Some(_) if is_as_far => {
            let explanation = format!(
                "the RST may have come from as far away as {peer} is, and not all packets agree: it or another device sent it"
            );
            (Origin::Unknown, explanation)
        }
        Some(nearest) => {
            let who = if distance < nearest {
                "a device on the path".to_owned()
            } else {
                format!("something else than {peer}")
            };
            let explanation = format!(
                "the RST came from {from}, {peer} answers from {}: {who} sent it",
                away(nearest)
            );
            (Origin::Path, explanation)
        }
    };
    let unlike = signs.into_iter().filter(|sign| !sign.fits);
    evidence.extend(unlike.map(|sign| sign.told));
    let confidence = match origin {
        Origin::Path => Confidence::Observed,
        Origin::Peer | Origin::Unknown => Confidence::Inferred,
    };
    Traced {
        origin,
        confidence,
        explanation,
        evidence,
    }
}

/// What follows from signs that are `unlike` those of `peer`, whose distance is that of
/// the reset; `None` where there are none.
fn against(unlike: &[&str], field: &str, peer: IpAddr) -> Option<(Origin, String)> {
    let begin = format!("the {field} of the RST is that of {peer},");
    match unlike {
        [] => None,
        [one] => Some((
            Origin::Unknown,
            format!("{begin} {one} is not: it or a device that copies the {field} sent it"),
        )),
        [most @ .., last] => Some((
            Origin::Path,
            format!(
                "{begin} {} and {last} are not: a device that copies the {field} sent it",
                most.join(", ")
            ),
        )),
    }
}

/// A packet that tells how far away `peer` is.
fn told(trace: Trace, peer: IpAddr, is_own: bool) -> String {
    let which = match trace.port {
        _ if is_own => " of this connection".to_owned(),
        0 => String::new(),
        port => format!(" from port {port}"),
    };
    format!(
        "{} of {peer}{which} with {} {} ({})",
        trace.carries.words(),
        words::ttl_field(peer.is_ipv4()),
        trace.ttl,
        count(hops(trace.ttl).1)
    )
}
