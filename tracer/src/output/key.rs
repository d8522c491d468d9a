//! Which records are the same thing to a reader.

use super::{cause, flow, rule};
use crate::event::{Class, Event, EventKind, Flow};

/// The side of a flow whose port is left open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Wild {
    /// Both ports count.
    #[default]
    Nothing,
    /// Any port of the sender.
    Src,
    /// Any port of the receiver.
    Dst,
}

/// What records have in common that go into one line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// What happened.
    pub kind: EventKind,
    /// Its kind of cause; part of the key only because lines are coloured by it.
    pub class: Class,
    /// Its cause, as [`cause::name`] tells it.
    pub cause: String,
    /// The rule that decided.
    pub rule: Option<RuleKey>,
    /// The flow; the port of the side that is `wild` is blank.
    pub flow: Option<Flow>,
    /// The side whose port is left open.
    pub wild: Wild,
    /// Why there is no flow.
    pub flowless: Option<String>,
}

/// What tells a rule from all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RuleKey {
    /// As [`rule::place`] tells it.
    pub place: String,
    /// Names may come back with another table, the kernel's number of a table
    /// does not.
    table: Option<u64>,
    /// Each network namespace has rules of its own.
    netns: Option<u32>,
}

impl RuleKey {
    fn of(event: &Event) -> Option<Self> {
        let rule = event.rule.as_ref()?;
        Some(Self {
            place: rule::place(rule),
            table: rule.table_handle,
            netns: event.r#where.as_ref().and_then(|place| place.netns),
        })
    }
}

/// Ports below this are services, not clients.
const FIRST_CLIENT_PORT: u16 = 1024;

impl Key {
    /// The key of one record, its ports included.
    pub fn of(event: &Event) -> Self {
        Self {
            kind: event.kind,
            class: cause::class(event),
            cause: cause::name(event),
            rule: RuleKey::of(event),
            flow: event.flow.clone(),
            wild: Wild::Nothing,
            flowless: event.flow.is_none().then(|| flow::none(event)),
        }
    }

    /// The key with one port left open, and that port; `None` without one.
    pub fn open(&self, side: Wild) -> Option<(Self, u16)> {
        let flow = self.flow.as_ref()?;
        let port = match (self.wild, side) {
            (Wild::Nothing, Wild::Src) => flow.sport?,
            (Wild::Nothing, Wild::Dst) => flow.dport?,
            _ => return None,
        };
        let mut open = self.clone();
        open.wild = side;
        let flow = open.flow.as_mut()?;
        match side {
            Wild::Src => flow.sport = None,
            _ => flow.dport = None,
        }
        Some((open, port))
    }

    /// The side that looks like the client's by its ports alone.
    ///
    /// TCP flags would tell more, but only records whose packet was looked at
    /// closely have them, and a conversation must not change its key.
    pub fn client(&self) -> Wild {
        let ports = self.flow.as_ref().and_then(|f| f.sport.zip(f.dport));
        match ports {
            Some((src, dst)) if src > dst && src >= FIRST_CLIENT_PORT => Wild::Src,
            Some((src, dst)) if dst > src && dst >= FIRST_CLIENT_PORT => Wild::Dst,
            _ => Wild::Nothing,
        }
    }
}
