//! What a reader of the socket asks for: from where on, and which records.

use std::{fmt, net::IpAddr};

use droptrace_types::{Filter, TUPLE_FRAGMENT, TUPLE_ICMP, TUPLE_PORTS, Tuple};
use serde::{
    Deserialize, Deserializer,
    de::{IntoDeserializer as _, SeqAccess, Visitor, value::StrDeserializer},
};

use crate::{
    event::{Class, Event, EventKind, Family, Flow},
    filter::{self, Selection},
};

/// What a reader asks for.
#[derive(Debug, Default)]
pub struct Request {
    /// The last number that the reader has.
    pub after: Option<u64>,
    /// The start of the machine that the number is of.
    pub boot_id: Option<String>,
    /// Which records.
    pub wanted: Wanted,
    /// No records, but how the daemon is.
    pub status: bool,
}

/// As it stands in the line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    after: Option<u64>,
    boot_id: Option<String>,
    #[serde(default)]
    filter: WrittenFilter,
    #[serde(default)]
    status: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenFilter {
    kind: Words,
    class: Words,
    dst: Words,
    src: Words,
    host: Words,
    port: Words,
    proto: Words,
}

impl Request {
    /// The request that a line of JSON makes.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one sentence.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(line).map_err(|error| {
            format!(
                "no request: {error}; write one line such as {{\"after\": 17, \"filter\": \
                 {{\"kind\": [\"drop\"], \"dst\": [\"10.0.0.0/8\"]}}}}"
            )
        })?;
        let filter = written.filter;
        let kinds = variants(&filter.kind).map_err(|error| format!("filter.kind: {error}"))?;
        let classes = variants(&filter.class).map_err(|error| format!("filter.class: {error}"))?;
        let selection = Selection {
            dst: filter.dst.0,
            src: filter.src.0,
            host: filter.host.0,
            port: filter.port.0,
            proto: filter.proto.0,
            ..Selection::default()
        };
        let packets = if selection == Selection::default() {
            None
        } else {
            let filter = filter::resolve_numeric(&selection)
                .map_err(|error| format!("filter, as on the command line: {error}"))?;
            Some(Box::new(filter))
        };
        Ok(Self {
            after: written.after,
            boot_id: written.boot_id,
            status: written.status,
            wanted: Wanted {
                kinds,
                classes,
                packets,
            },
        })
    }
}

/// Which records a reader wants. Each list that is not empty has to fit.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    kinds: Vec<EventKind>,
    classes: Vec<Class>,
    packets: Option<Box<Filter>>,
}

impl Wanted {
    /// Whether nothing is left out.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.kinds.is_empty() && self.classes.is_empty() && self.packets.is_none()
    }

    /// Whether a record is wanted. What the tracer lost may have been anything: only
    /// the list of kinds leaves it out.
    #[must_use]
    pub fn takes(&self, subject: &Subject) -> bool {
        if !self.kinds.is_empty() && !self.kinds.contains(&subject.kind) {
            return false;
        }
        if subject.kind == EventKind::Loss {
            return true;
        }
        let class = |class| self.classes.contains(&class);
        if !self.classes.is_empty() && !subject.class.is_some_and(class) {
            return false;
        }
        let Some(packets) = &self.packets else {
            return true;
        };
        let selects = |tuple: &Tuple| packets.selects(tuple);
        selects(&subject.flow) || subject.about.as_deref().is_some_and(selects)
    }
}

/// What of a record decides who wants it.
#[derive(Clone, Debug)]
pub struct Subject {
    kind: EventKind,
    class: Option<Class>,
    flow: Tuple,
    /// Of an ICMP error: the flow that it is about.
    about: Option<Box<Tuple>>,
}

impl Subject {
    /// Of this record.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        let about = event.flow.as_ref().and_then(|flow| flow.about.as_ref());
        Self {
            kind: event.kind,
            class: event.reason.as_ref().map(|reason| reason.class),
            flow: event.flow.as_ref().map_or(Tuple::NONE, tuple),
            about: about.map(|flow| Box::new(tuple(flow))),
        }
    }
}

/// A flow as filters look at it.
fn tuple(flow: &Flow) -> Tuple {
    let mut tuple = Tuple {
        src: bytes(flow.src),
        dst: bytes(flow.dst),
        family: match flow.family {
            Family::Ipv4 => 4,
            Family::Ipv6 => 6,
        },
        ..Tuple::NONE
    };
    tuple.proto = filter::protocol(&flow.proto).unwrap_or_default();
    if flow.fragment {
        tuple.flags |= TUPLE_FRAGMENT;
    }
    if let Some(icmp) = flow.icmp {
        tuple.flags |= TUPLE_ICMP;
        (tuple.src_port, tuple.dst_port) = (icmp.r#type.into(), icmp.code.into());
    }
    if let (Some(sport), Some(dport)) = (flow.sport, flow.dport) {
        tuple.flags |= TUPLE_PORTS;
        (tuple.src_port, tuple.dst_port) = (sport, dport);
    }
    tuple
}

fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The variants of an enum that are named.
fn variants<'a, T: Deserialize<'a>>(words: &'a Words) -> Result<Vec<T>, serde::de::value::Error> {
    let variant = |word: &'a String| {
        let word: StrDeserializer<serde::de::value::Error> = word.as_str().into_deserializer();
        T::deserialize(word)
    };
    words.0.iter().map(variant).collect()
}

/// A word or a number, or a list of them.
#[derive(Debug, Default)]
struct Words(Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Read { nested: false })
    }
}

struct Read {
    nested: bool,
}

impl<'de> Visitor<'de> for Read {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(if self.nested {
            "a text or a number"
        } else {
            "a text, a number, or a list of them"
        })
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Words, E> {
        Ok(Words(vec![text.to_owned()]))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Words, E> {
        Ok(Words(vec![number.to_string()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
        if self.nested {
            return Err(serde::de::Error::custom("a list in a list"));
        }
        let mut words = Vec::new();
        while let Some(Word(word)) = list.next_element()? {
            words.extend(word.0);
        }
        Ok(Words(words))
    }
}

struct Word(Words);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Read { nested: true }).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Reason, utc};

    fn event(kind: EventKind, flow: Option<Flow>) -> Event {
        let mut event = Event::bare(kind, utc(jiff::Timestamp::UNIX_EPOCH));
        event.flow = flow;
        event
    }

    fn flow(src: &str, sport: Option<u16>, dst: &str, dport: Option<u16>, proto: &str) -> Flow {
        let src: IpAddr = src.parse().unwrap();
        Flow {
            family: if src.is_ipv4() {
                Family::Ipv4
            } else {
                Family::Ipv6
            },
            proto: proto.to_owned(),
            src,
            sport,
            dst: dst.parse().unwrap(),
            dport,
            direction: None,
            vlan: None,
            fragment: false,
            icmp: None,
            about: None,
        }
    }

    fn wanted(filter: &str) -> Wanted {
        let line = format!("{{\"filter\": {filter}}}");
        Request::parse(line.as_bytes()).unwrap().wanted
    }

    fn takes(filter: &str, event: &Event) -> bool {
        wanted(filter).takes(&Subject::of(event))
    }

    #[test]
    fn a_number_alone_asks_for_everything_behind_it() {
        let request = Request::parse(b"{\"after\": 17}").unwrap();
        assert_eq!(request.after, Some(17));
        assert!(request.wanted.is_all());
        assert!(Request::parse(b"{}").unwrap().after.is_none());
    }

    #[test]
    fn addresses_ports_and_protocols_select_as_on_the_command_line() {
        let tcp = event(
            EventKind::Drop,
            Some(flow("10.0.0.2", Some(40000), "10.9.0.5", Some(443), "tcp")),
        );
        for yes in [
            r#"{"dst": "10.9.0.5"}"#,
            r#"{"dst": ["192.0.2.1", "10.9.0.0/16"]}"#,
            r#"{"dst": "10.9.0.5:443"}"#,
            r#"{"src": "10.0.0.2"}"#,
            // Both directions of a conversation.
            r#"{"src": "10.9.0.5"}"#,
            r#"{"src": "10.9.0.5", "dst": "10.0.0.2"}"#,
            r#"{"host": "10.0.0.0/24"}"#,
            r#"{"port": 443}"#,
            r#"{"port": ["80", 443]}"#,
            r#"{"port": "400-500", "proto": "tcp"}"#,
            r#"{"proto": 6}"#,
            "{}",
        ] {
            assert!(takes(yes, &tcp), "{yes}");
        }
        for no in [
            r#"{"dst": "10.9.0.6"}"#,
            r#"{"dst": "10.9.0.5:80"}"#,
            r#"{"src": "10.9.0.6"}"#,
            r#"{"host": "fd00::/8"}"#,
            r#"{"port": [80]}"#,
            r#"{"src": "10.0.0.2", "dst": "10.0.0.2"}"#,
            r#"{"proto": "udp"}"#,
            r#"{"port": 443, "host": "192.0.2.0/24"}"#,
        ] {
            assert!(!takes(no, &tcp), "{no}");
        }
        let v6 = event(
            EventKind::Drop,
            Some(flow("fd00::1", None, "fd00::2", None, "89")),
        );
        assert!(takes(r#"{"host": "fd00::2", "proto": "ospf"}"#, &v6));
        assert!(!takes(r#"{"host": "fd01::/16"}"#, &v6));
    }

    #[test]
    fn an_icmp_error_is_also_what_it_is_about() {
        let mut error = flow("10.0.0.1", None, "10.0.0.2", None, "icmp");
        error.about = Some(Box::new(flow(
            "10.0.0.2",
            Some(40000),
            "10.9.0.5",
            Some(443),
            "tcp",
        )));
        let error = event(EventKind::IcmpReceived, Some(error));
        assert!(takes(r#"{"dst": "10.9.0.5:443"}"#, &error));
        assert!(takes(r#"{"proto": "icmp"}"#, &error));
        assert!(!takes(r#"{"dst": "10.9.0.5:80"}"#, &error));
    }

    #[test]
    fn kinds_and_classes_select_and_losses_have_no_class() {
        let mut drop = event(EventKind::Drop, None);
        drop.reason = Some(Reason {
            name: None,
            code: None,
            subsystem: "core".to_owned(),
            class: Class::Policy,
            summary: String::new(),
            derived: false,
        });
        let loss = event(EventKind::Loss, None);
        let verdict = event(EventKind::Verdict, None);
        let of = |filter: &str| [&drop, &loss, &verdict].map(|event| takes(filter, event));
        assert_eq!(of(r#"{"kind": "drop"}"#), [true, false, false]);
        assert_eq!(of(r#"{"kind": ["verdict", "loss"]}"#), [false, true, true]);
        assert_eq!(of(r#"{"class": "policy"}"#), [true, true, false]);
        assert_eq!(of(r#"{"class": "routing"}"#), [false, true, false]);
        // Nothing is known of the flow of these.
        assert_eq!(of(r#"{"host": "0.0.0.0/0"}"#), [false, true, false]);
    }

    #[test]
    fn what_is_no_request_is_refused_with_what_would_be_one() {
        for (line, part) in [
            ("x", "expected value"),
            ("[1]", "no request"),
            ("{\"after\": -1}", "invalid value"),
            ("{\"since\": 1}", "unknown field `since`"),
            ("{\"filter\": {\"dest\": \"a\"}}", "unknown field `dest`"),
            (
                "{\"filter\": {\"kind\": \"drops\"}}",
                "unknown variant `drops`",
            ),
            ("{\"filter\": {\"class\": [7]}}", "unknown variant `7`"),
            ("{\"filter\": {\"port\": 0}}", "is not a port"),
            ("{\"filter\": {\"port\": [[1]]}}", "a list in a list"),
            ("{\"filter\": {\"dst\": \"10.0.0.0/40\"}}", "not a network"),
            ("{\"filter\": {\"dst\": \"example.com\"}}", "not looked up"),
            ("{\"after\": 1, \"after\": 2}", "duplicate field `after`"),
            ("{\"after\": 1} {\"after\": 2}", "trailing characters"),
        ] {
            let error = Request::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
            assert!(!error.contains('\n'), "{line}");
        }
        assert!(Request::parse(b"{\"filter\": {\"dst\": \"\xff\"}}").is_err());
    }
}
