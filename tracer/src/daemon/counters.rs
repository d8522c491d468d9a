//! Numbers that only grow, from every record.
//!
//! Totals (by class, kind, verdict, loss) are exact and have few labels. What has many
//! (reasons, rules, interfaces, namespaces) is in a [`Top`] of bounded size.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use super::top::{Amount, Top};
use crate::event::{Class, Code, Event, EventKind, LossCause, LossOf, Rule, Where};

/// All numbers under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Without unit and `_total`.
    pub name: &'static str,
    /// What is counted, such as `packets`; empty where the name says it.
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Which kind of number.
    pub kind: Kind,
    /// The numbers by their labels.
    pub series: Vec<Series>,
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: Value,
}

impl Family {
    fn counter(
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        series: Vec<Series>,
    ) -> Self {
        Self {
            name,
            unit,
            help,
            kind: Kind::Counter,
            series,
        }
    }
}

impl Series {
    /// The only one of its family.
    pub(super) fn alone(value: Value) -> Self {
        Self {
            labels: Vec::new(),
            value,
        }
    }
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// How many.
    Count(u64),
    /// How much.
    Real(f64),
}

/// Which kind of number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// As it is now.
    Gauge,
    /// Always 1; the labels are what it says.
    Info,
}

/// All classes, so that none appears only with its first packet.
const CLASSES: [Class; 11] = [
    Class::Policy,
    Class::NoListener,
    Class::Resource,
    Class::Routing,
    Class::Neighbour,
    Class::Malformed,
    Class::Protocol,
    Class::Link,
    Class::Peer,
    Class::Benign,
    Class::Unknown,
];

const KINDS: [EventKind; 8] = [
    EventKind::Drop,
    EventKind::ResetSent,
    EventKind::ResetReceived,
    EventKind::Retransmit,
    EventKind::IcmpSent,
    EventKind::IcmpReceived,
    EventKind::Verdict,
    EventKind::Loss,
];

/// What was counted since the daemon began.
#[derive(Debug)]
pub struct Counters {
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    records: BTreeMap<EventKind, u64>,
    dropped: BTreeMap<Class, Amount>,
    reasons: Top<3>,
    rules: Top<5>,
    interfaces: Top<2>,
    namespaces: Top<1>,
    resets: Top<2>,
    retransmitted: Amount,
    icmp_sent: u64,
    icmp_received: u64,
    verdicts: BTreeMap<Code, u64>,
    losses: Vec<((LossOf, LossCause), u64)>,
    untraced_ms: u64,
}

impl Counters {
    /// With numbers of their own for `top` reasons, rules, interfaces and namespaces.
    #[must_use]
    pub fn new(top: usize) -> Self {
        let counts = Counts {
            records: KINDS.map(|kind| (kind, 0)).into(),
            dropped: CLASSES.map(|class| (class, Amount::default())).into(),
            reasons: Top::new(["subsystem", "reason", "class"], top),
            rules: Top::new(["engine", "family", "table", "chain", "rule"], top),
            interfaces: Top::new(["netns", "interface"], top),
            namespaces: Top::new(["netns"], top),
            resets: Top::new(["direction", "reason"], top),
            retransmitted: Amount::default(),
            icmp_sent: 0,
            icmp_received: 0,
            verdicts: BTreeMap::new(),
            losses: Vec::new(),
            untraced_ms: 0,
        };
        Self {
            counts: Mutex::new(counts),
        }
    }

    /// Counts a record.
    pub fn count(&self, event: &Event) {
        self.lock().count(event);
    }

    /// All numbers, as they are now.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        self.lock().families()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        // A count is whole or not there.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn count(&mut self, event: &Event) {
        *self.records.entry(event.kind).or_default() += 1;
        let amount = Amount {
            packets: event.packets,
            bytes: event.bytes,
        };
        match event.kind {
            EventKind::Drop => self.drop(event, amount),
            EventKind::ResetSent => self.reset("sent", event, amount),
            EventKind::ResetReceived => self.reset("received", event, amount),
            EventKind::Retransmit => self.retransmitted += amount,
            EventKind::IcmpSent => self.icmp_sent += event.packets,
            EventKind::IcmpReceived => self.icmp_received += event.packets,
            EventKind::Verdict => {
                if let Some(verdict) = &event.verdict {
                    *self.verdicts.entry(verdict.code).or_default() += 1;
                }
            }
            EventKind::Loss => self.loss(event),
        }
    }

    fn drop(&mut self, event: &Event, amount: Amount) {
        let reason = event.reason.as_ref();
        let class = reason.map_or(Class::Unknown, |reason| reason.class);
        *self.dropped.entry(class).or_default() += amount;
        let subsystem = reason.map_or("", |reason| &reason.subsystem);
        self.reasons
            .add([subsystem, reason_name(event), &word(&class)], amount);
        if let Some(rule) = &event.rule {
            let engine = word(&rule.engine);
            let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
            let (family, table, chain) = (text(&rule.family), text(&rule.table), text(&rule.chain));
            self.rules
                .add([&engine, &family, &table, &chain, &rule_name(rule)], amount);
        }
        let place = event.r#where.as_ref();
        let netns = place.map(namespace).unwrap_or_default();
        let interface = place.and_then(|place| place.ifname.as_deref());
        self.interfaces
            .add([&netns, interface.unwrap_or_default()], amount);
        self.namespaces.add([&netns], amount);
    }

    fn reset(&mut self, direction: &str, event: &Event, amount: Amount) {
        self.resets.add([direction, reason_name(event)], amount);
    }

    fn loss(&mut self, event: &Event) {
        let Some(loss) = &event.loss else {
            return;
        };
        if loss.what == LossOf::Time {
            self.untraced_ms += loss.count;
            return;
        }
        let key = (loss.what, loss.why);
        match self.losses.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += loss.count,
            None => self.losses.push((key, loss.count)),
        }
    }

    fn families(&self) -> Vec<Family> {
        let mut families = self.drops();
        families.extend(self.others());
        families
    }

    fn drops(&self) -> Vec<Family> {
        let by_class = |value: fn(&Amount) -> u64| {
            let one = |(class, amount)| one("class", word(class), value(amount));
            self.dropped.iter().map(one).collect()
        };
        let mut families = vec![
            Family::counter(
                "droptrace_dropped",
                "packets",
                "Packets that the kernel dropped, by class of reason; exact.",
                by_class(Amount::packets),
            ),
            Family::counter(
                "droptrace_dropped",
                "bytes",
                "Their bytes.",
                by_class(Amount::bytes),
            ),
        ];
        for (name, help, packets, bytes) in [
            (
                "droptrace_reason_dropped",
                "Dropped packets by reason.",
                self.reasons.series(Amount::packets),
                self.reasons.series(Amount::bytes),
            ),
            (
                "droptrace_rule_dropped",
                "Dropped packets by the rule that decided.",
                self.rules.series(Amount::packets),
                self.rules.series(Amount::bytes),
            ),
            (
                "droptrace_interface_dropped",
                "Dropped packets by interface, and the network namespace that it is in.",
                self.interfaces.series(Amount::packets),
                self.interfaces.series(Amount::bytes),
            ),
            (
                "droptrace_netns_dropped",
                "Dropped packets by network namespace, its name or inode.",
                self.namespaces.series(Amount::packets),
                self.namespaces.series(Amount::bytes),
            ),
        ] {
            families.push(Family::counter(name, "packets", help, packets));
            families.push(Family::counter(name, "bytes", "Their bytes.", bytes));
        }
        families
    }

    fn others(&self) -> Vec<Family> {
        let verdicts = self.verdicts.iter();
        let losses = self.losses.iter();
        let records = self.records.iter();
        #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
        let untraced = self.untraced_ms as f64 / 1000.0;
        vec![
            Family::counter(
                "droptrace_resets",
                "",
                "TCP resets that this machine sent or received.",
                self.resets.series(Amount::packets),
            ),
            Family::counter(
                "droptrace_icmp_errors",
                "",
                "ICMP errors about watched conversations.",
                vec![
                    one("direction", "sent".to_owned(), self.icmp_sent),
                    one("direction", "received".to_owned(), self.icmp_received),
                ],
            ),
            Family::counter(
                "droptrace_retransmitted",
                "segments",
                "TCP segments that this machine sent again.",
                vec![Series::alone(Value::Count(self.retransmitted.packets))],
            ),
            Family::counter(
                "droptrace_retransmitted",
                "bytes",
                "Their payload.",
                vec![Series::alone(Value::Count(self.retransmitted.bytes))],
            ),
            Family::counter(
                "droptrace_verdicts",
                "",
                "Verdicts on conversations.",
                verdicts
                    .map(|(code, count)| one("code", word(code), *count))
                    .collect(),
            ),
            Family::counter(
                "droptrace_losses",
                "",
                "What could not be recorded; the label what says what is counted.",
                losses
                    .map(|((what, why), count)| Series {
                        labels: vec![("what", word(what)), ("why", word(why))],
                        value: Value::Count(*count),
                    })
                    .collect(),
            ),
            Family::counter(
                "droptrace_untraced",
                "seconds",
                "Time in which nothing was traced.",
                vec![Series::alone(Value::Real(untraced))],
            ),
            Family::counter(
                "droptrace_records",
                "",
                "Records made, by kind.",
                records
                    .map(|(kind, count)| one("kind", word(kind), *count))
                    .collect(),
            ),
        ]
    }
}

fn one(label: &'static str, of: String, count: u64) -> Series {
    Series {
        labels: vec![(label, of)],
        value: Value::Count(count),
    }
}

/// An enum's variant as records have it.
fn word<T: Serialize>(variant: &T) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn reason_name(event: &Event) -> &str {
    let name = event
        .reason
        .as_ref()
        .and_then(|reason| reason.name.as_ref());
    name.map_or("none", String::as_str)
}

/// What tells a rule apart in its chain.
fn rule_name(rule: &Rule) -> String {
    if rule.policy {
        return "policy".to_owned();
    }
    let number = rule.number.and_then(|number| u64::try_from(number).ok());
    if let Some(number) = rule.handle.or(number) {
        return number.to_string();
    }
    let name = rule.name.as_ref().or(rule.function.as_ref());
    name.cloned().unwrap_or_default()
}

fn namespace(place: &Where) -> String {
    match (&place.netns_name, place.netns) {
        (Some(name), _) => name.clone(),
        (None, Some(inode)) => inode.to_string(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests;
