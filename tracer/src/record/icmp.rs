//! Records of ICMP errors about watched conversations.

use std::net::SocketAddr;

use super::flow;
use crate::{
    conversation::{Content, IcmpError, Packet, Seen, Sighting, Way},
    event::{self, Class, Direction, Event, EventKind, Family, Flow, Icmp, Reason, Where},
};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The record of an ICMP error; `None` for other sightings.
pub fn of(sighting: &Sighting) -> Option<Event> {
    let Seen::Packet(packet) = &sighting.what else {
        return None;
    };
    let Content::IcmpError(error) = &packet.content else {
        return None;
    };
    let (kind, direction, summary) = match packet.way {
        Way::In => (
            EventKind::IcmpReceived,
            Direction::In,
            "an ICMP error about this flow came in",
        ),
        Way::Out => (
            EventKind::IcmpSent,
            Direction::Out,
            "an ICMP error about this flow went out",
        ),
    };
    Some(Event {
        flow: Some(flow_of(packet, error, direction)),
        packets: 1,
        bytes: packet.len.into(),
        reason: Some(Reason {
            name: None,
            code: None,
            subsystem: "icmp".to_owned(),
            class: Class::Peer,
            summary: summary.to_owned(),
            derived: false,
        }),
        r#where: Some(Where {
            netns: Some(sighting.netns),
            ifname: (!packet.ifname.is_empty()).then(|| packet.ifname.clone()),
            ..Where::default()
        }),
        ..Event::bare(kind, event::utc(sighting.at))
    })
}

fn flow_of(packet: &Packet, error: &IcmpError, direction: Direction) -> Flow {
    let is_v4 = packet.src.is_ipv4();
    let bare = Flow {
        family: if is_v4 { Family::Ipv4 } else { Family::Ipv6 },
        proto: flow::protocol(if is_v4 { ICMP } else { ICMPV6 }),
        src: packet.src,
        sport: None,
        dst: packet.dst,
        dport: None,
        direction: None,
        vlan: None,
        fragment: false,
        icmp: None,
        about: None,
    };
    let port = |end: &SocketAddr| (end.port() != 0).then_some(end.port());
    let about = Flow {
        proto: flow::protocol(error.proto),
        src: error.about.src.ip(),
        sport: port(&error.about.src),
        dst: error.about.dst.ip(),
        dport: port(&error.about.dst),
        ..bare.clone()
    };
    Flow {
        direction: Some(direction),
        icmp: Some(Icmp {
            r#type: error.kind,
            code: error.code,
        }),
        about: Some(Box::new(about)),
        ..bare
    }
}
