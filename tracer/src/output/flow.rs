//! How a flow is written.

use std::net::IpAddr;

use super::{icmp, key::Wild, layout::Look, ports::Ports, text::several};
use crate::event::{Event, Flow, Undecoded, UndecodedCause};

/// The words of a flow: `tcp 10.0.0.2:53412`, `> 10.0.0.5:443`, `vlan 7`.
/// No line may be broken inside one of them.
///
/// `wild` is the side whose port is folded into `ports`.
pub(super) fn words(flow: &Flow, wild: Wild, ports: &Ports, look: &Look) -> Vec<String> {
    let folded = |side, port: Option<u16>| match (wild == side, ports.only()) {
        (false, _) => port.map(|port| port.to_string()),
        (true, Some(port)) => Some(port.to_string()),
        (true, None) => Some("*".into()),
    };
    let arrow = look.glyph("→", ">");
    let src = end(flow.src, folded(Wild::Src, flow.sport));
    let dst = end(flow.dst, folded(Wild::Dst, flow.dport));
    let mut words = vec![
        format!("{} {src}", proto(flow, look)),
        format!("{arrow} {dst}"),
    ];
    if wild != Wild::Nothing {
        words.extend(ports.note());
    }
    if let Some(message) = flow.icmp {
        let name = icmp::name(flow.family, message).unwrap_or("type/code");
        words.push(format!("{name} ({}/{})", message.r#type, message.code));
    }
    if flow.fragment {
        words.push("fragment".into());
    }
    if let Some(vlan) = flow.vlan {
        words.push(format!("vlan {vlan}"));
    }
    if let Some(about) = &flow.about {
        let mut about = self::words(about, Wild::Nothing, ports, look);
        about[0].insert_str(0, "about ");
        words.extend(about);
    }
    words
}

fn proto(flow: &Flow, look: &Look) -> String {
    if flow.proto.bytes().all(|b| b.is_ascii_digit()) {
        return format!("proto {}", flow.proto);
    }
    look.safe(&flow.proto)
}

fn end(address: IpAddr, port: Option<String>) -> String {
    match (address, port) {
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
        (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
        (address, None) => address.to_string(),
    }
}

/// TCP flags by their names: `SYN+ACK`.
pub(super) fn flags(event: &Event, look: &Look) -> Option<String> {
    let letters = event.tcp.as_ref()?.flags.as_deref()?;
    let names: Vec<String> = letters
        .chars()
        .map(|letter| match letter {
            'F' => "FIN".into(),
            'S' => "SYN".into(),
            'R' => "RST".into(),
            'P' => "PSH".into(),
            'A' => "ACK".into(),
            'U' => "URG".into(),
            'E' => "ECE".into(),
            'C' => "CWR".into(),
            other => look.safe(&other.to_string()),
        })
        .collect();
    Some(names.join("+"))
}

/// What stands in the place of the flow for a record that has none.
pub(super) fn none(event: &Event) -> String {
    if event.flows_unlisted.is_some() {
        // The number of flows is left out: it changes from record to record
        // of what is one line to the reader.
        return "many flows, not listed one by one".into();
    }
    let Some(undecoded) = &event.undecoded else {
        return "no flow".into();
    };
    let mut text = String::from(match undecoded.why {
        UndecodedCause::NotIp => "not IP",
        UndecodedCause::Message => "message",
        why => return format!("not decoded: {}{}", why_not(why), socket(undecoded)),
    });
    if let Some(ethertype) = &undecoded.ethertype {
        text.push_str(": ");
        text.push_str(match ethertype.as_str() {
            "0x0806" => "ARP",
            "0x88cc" => "LLDP",
            "0x888e" => "EAPOL",
            "0x8863" | "0x8864" => "PPPoE",
            "0x8847" | "0x8848" => "MPLS",
            "0x8809" => "LACP",
            other => other,
        });
    }
    text + &socket(undecoded)
}

fn socket(undecoded: &Undecoded) -> String {
    let family = undecoded.socket.as_deref();
    family.map_or_else(String::new, |family| format!(" of a {family} socket"))
}

/// Why a packet has no flow, in a few words.
pub(super) fn why_not(why: UndecodedCause) -> &'static str {
    match why {
        UndecodedCause::NotIp => "not IP",
        UndecodedCause::Paged => "headers out of reach",
        UndecodedCause::NoHeaders => "no headers",
        UndecodedCause::BadHeaders => "broken headers",
        UndecodedCause::Message => "socket messages",
    }
}

/// How many flows a record without one stands for.
pub(super) fn unlisted(event: &Event) -> Option<String> {
    let flows = event.flows_unlisted?;
    Some(format!("at least {}", several(flows, "flow")))
}
