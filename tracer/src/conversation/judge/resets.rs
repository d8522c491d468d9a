//! Resets: who sent them, and why.

use super::{Court, Finding};
use crate::{
    conversation::{
        ends::End,
        facts::ResetSent,
        origin::{self, Origin, Traced},
        signs,
        story::Story,
        words,
    },
    event::{Code, Confidence, Outcome},
    reason::{is_silent, reset_reason},
};

/// Who sent the reset that came in from `end`.
pub(in crate::conversation) fn traced(story: &Story, end: End, court: Court<'_>) -> Option<Traced> {
    story.reset_from(end)?;
    let peer = story.address(end);
    let view = story.view();
    let seen = view.and_then(|view| {
        let trail = view.sent.of(end);
        Some((trail.reset.as_ref()?, trail, view.sent.of(end.other())))
    });
    let Some((reset, trail, other)) = seen else {
        return Some(Traced {
            origin: Origin::Unknown,
            confidence: Confidence::Inferred,
            explanation: format!(
                "a RST of {peer} or of a device on the path was received, and not seen as it came in"
            ),
            evidence: vec!["the kernel reports that it received a RST".to_owned()],
        });
    };
    let others = court.addresses.traces(story.home(), peer.ip());
    let looks = court.addresses.looks(story.home(), peer.ip());
    let signs = signs::of(reset, trail, other, looks);
    let mut traced = origin::of_reset(reset, peer, &trail.ttls, others, signs);
    let multipath = reset.multipath.and_then(words::multipath_reset);
    let multipath = multipath.map(|said| format!("the RST says of multipath TCP: {said}"));
    traced.evidence.extend(multipath);
    Some(traced)
}

/// A conversation that a reset from outside ended.
pub(super) fn received(traced: Traced, outcome: Outcome) -> Finding {
    let code = match (traced.origin, outcome) {
        (Origin::Peer, Outcome::Refused) => Code::PeerRefused,
        (Origin::Peer, _) => Code::PeerReset,
        (Origin::Path, _) => Code::PathReset,
        (Origin::Unknown, _) => Code::ResetOriginUnknown,
    };
    Finding::new(outcome, code, traced.confidence, traced.explanation).with(traced.evidence)
}

/// Why this machine sent a reset.
enum Why {
    NoListener,
    Application(&'static str),
    Kernel(&'static str),
}

fn why(reset: &ResetSent) -> Why {
    let named = reset.name.as_deref().filter(|name| !is_silent(name));
    let called = reset.by_calls.map(|text| text.name);
    // What ends a connection in several ways has one name.
    let told = match named {
        Some("TCP_STATE") => called.or(named),
        _ => named.or(called),
    };
    match told {
        Some("NO_SOCKET") | None => Why::NoListener,
        Some("TCP_ABORT_ON_CLOSE") => Why::Application("closed it with received data unread"),
        Some("CLOSED") => {
            Why::Application("closed it with received data unread, or without a normal end")
        }
        Some("TCP_ABORT_ON_LINGER") => {
            Why::Application("closed it without waiting for its end (TCP_LINGER2)")
        }
        Some("LINGER") => Why::Application("closed it with SO_LINGER 0"),
        Some("TCP_ABORT_ON_DATA") => Why::Application("had closed it when more data came"),
        Some("TCP_DISCONNECT_WITH_DATA") => {
            Why::Application("disconnected it with data still to be sent")
        }
        Some("DISCONNECTED") => Why::Application("disconnected it"),
        Some("LISTENER_CLOSED") => Why::Application("closed the listener before it was accepted"),
        Some("ENDED") => Why::Application("or an administrator broke it off (ss -K)"),
        Some("TCP_STATE") => Why::Application("or an administrator broke it off"),
        Some("TCP_TIMEWAIT_SOCKET") => Why::Application("had ended it when more came"),
        Some("TCP_KEEPALIVE_TIMEOUT") => Why::Kernel("the other end answered no keepalive probe"),
        Some("TCP_ABORT_ON_MEMORY") => Why::Kernel("memory or orphaned sockets are at a limit"),
        Some(name) if name.starts_with("MPTCP_RST_") => {
            Why::Kernel(reset_reason(name).map_or("multipath TCP", |text| text.summary))
        }
        Some(_) => Why::Kernel("what came did not fit the connection"),
    }
}

/// Whether it says that there is no socket.
pub(super) fn is_of_nobody(reset: &ResetSent) -> bool {
    matches!(why(reset), Why::NoListener)
}

/// A conversation that a reset of this machine ended.
pub(super) fn sent(story: &Story, reset: &ResetSent, outcome: Outcome) -> Finding {
    let told = words::reset_sent(reset, story.home());
    let who = reset
        .process
        .as_ref()
        .or(story.sockets.of(reset.by).process.as_ref());
    let (outcome, code, explanation) = match why(reset) {
        Why::NoListener if outcome == Outcome::Refused => (
            outcome,
            Code::NoListener,
            format!("nothing listens on {}", story.address(reset.by)),
        ),
        Why::NoListener => (
            outcome,
            Code::NoListener,
            "this machine knows no such connection (any more)".to_owned(),
        ),
        Why::Application(what) => {
            let who = who.map_or_else(|| "the application".to_owned(), words::process);
            (outcome, Code::LocalAbort, format!("{who} {what}"))
        }
        Why::Kernel(what) => {
            let is_silence = what.contains("keepalive");
            let outcome = if is_silence {
                Outcome::Timeout
            } else {
                outcome
            };
            (
                outcome,
                Code::LocalGiveUp,
                format!("this machine gave it up: {what}"),
            )
        }
    };
    let mut finding = Finding::new(outcome, code, Confidence::Observed, explanation).with([told]);
    if let (Code::LocalAbort, Some(who)) = (code, who) {
        finding.evidence.push(format!("by {}", words::process(who)));
    }
    finding.process = who.cloned();
    finding
}
