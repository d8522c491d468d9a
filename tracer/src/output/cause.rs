//! What happened and why, in words and colours.

use anstyle::{AnsiColor, Effects, Style};

use crate::event::{Class, Event, EventKind, LossCause, LossOf};

/// What happened, in a word.
pub(super) fn what(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Drop => "DROP",
        EventKind::ResetSent => "RST OUT",
        EventKind::ResetReceived => "RST IN",
        EventKind::Retransmit => "RETRANS",
        EventKind::IcmpSent => "ICMP OUT",
        EventKind::IcmpReceived => "ICMP IN",
        EventKind::Verdict => "VERDICT",
        EventKind::Loss => "LOST",
    }
}

/// The kind of cause.
pub(super) fn class(event: &Event) -> Class {
    event.reason.as_ref().map_or(Class::Unknown, |r| r.class)
}

/// Whether a record is of the kind that `--all` brings out.
pub(super) fn is_benign(event: &Event) -> bool {
    event.kind != EventKind::Loss && class(event) == Class::Benign
}

/// The cause's name: the kernel's reason, with the function where that reason
/// says nothing, or the function alone where there is none. Not safe to print.
pub(super) fn name(event: &Event) -> String {
    let reason = event.reason.as_ref().and_then(|r| r.name.as_deref());
    let function = event.r#where.as_ref().and_then(|w| w.function.as_deref());
    match (reason, function) {
        (Some(reason), Some(function)) if class(event) == Class::Unknown => {
            format!("{reason} in {function}")
        }
        (Some(reason), _) => reason.into(),
        (None, Some(function)) => function.into(),
        (None, None) if event.kind == EventKind::Retransmit => "no answer in time".into(),
        (None, None) => in_a_word(class(event)).into(),
    }
}

fn in_a_word(class: Class) -> &'static str {
    match class {
        Class::Policy => "a rule",
        Class::NoListener => "nobody listens",
        Class::Resource => "no room",
        Class::Routing => "routing",
        Class::Neighbour => "next hop unknown",
        Class::Malformed => "malformed",
        Class::Protocol => "TCP state",
        Class::Link => "interface",
        Class::Peer => "the other end",
        Class::Benign => "clean-up",
        Class::Unknown => "cause not given",
    }
}

/// The colour of a cause.
pub(super) fn style(kind: EventKind, class: Class) -> Style {
    let color = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
    match (kind, class) {
        (_, Class::Benign) => DIM,
        (EventKind::Drop, Class::Policy | Class::Resource) => color(AnsiColor::Red),
        (
            EventKind::ResetSent
            | EventKind::ResetReceived
            | EventKind::IcmpSent
            | EventKind::IcmpReceived,
            _,
        ) => color(AnsiColor::Yellow),
        (EventKind::Retransmit, _) => color(AnsiColor::Cyan),
        (EventKind::Loss, _) => color(AnsiColor::Magenta),
        (EventKind::Verdict | EventKind::Drop, _) => PLAIN,
    }
}

/// For what matters less.
pub(super) const DIM: Style = Style::new().effects(Effects::DIMMED);
/// For what matters most.
pub(super) const BOLD: Style = Style::new().effects(Effects::BOLD);
/// For everything else.
pub(super) const PLAIN: Style = Style::new();

/// What a loss means to the reader.
pub(crate) fn loss(what: LossOf, why: LossCause) -> String {
    let why = match why {
        LossCause::MapFull => {
            "more different causes at a time than there is room for; a narrower filter helps"
        }
        LossCause::Recursion => "they came while the tracer was already at work on that CPU",
        LossCause::RingFull => {
            "more new flows at a time than this program could take over; a narrower filter helps"
        }
        LossCause::RateLimit => {
            "more new flows a second than are looked at closely; a narrower filter helps"
        }
        LossCause::SpoolFull => "the receiver was away for longer than the spool has room for",
        LossCause::SpoolDamaged => "the spool on disk is damaged, or was cut off",
        LossCause::ReaderSlow => "the reader is too slow, or was away for too long",
        LossCause::FileFailed => "the file of records could not be written, as on a full disk",
        LossCause::Refused => "the receiver refused them",
        LossCause::NotRunning => "droptrace was not running",
        LossCause::Limits => "to stay within the limits of the configuration",
    };
    match what {
        LossOf::Packets => {
            format!("dropped packets of which no more is known, not even their flow: {why}")
        }
        LossOf::Events => format!("resets or retransmits of which no more is known: {why}"),
        LossOf::Sightings => {
            format!("packets of watched conversations, so that a verdict may lack evidence: {why}")
        }
        LossOf::Details => {
            format!("packets counted, but rule, process or TCP state may be missing: {why}")
        }
        LossOf::Records => format!("records that did not reach who reads them: {why}"),
        LossOf::Time => format!("milliseconds in which nothing was traced: {why}"),
    }
}
