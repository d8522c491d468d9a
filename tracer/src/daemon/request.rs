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
mod tests;
