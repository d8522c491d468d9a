//! Connections that were not established.

use std::time::Duration;

use super::{
    Court, Finding, answers, errors, local, overflow,
    resets::{self},
};
use crate::{
    conversation::{
        ends::End,
        facts::{Dropped, Kind},
        story::{Role, Story, between},
        words,
    },
    event::{Code, Confidence, Outcome},
};

/// A SYN that is not answered within this time is sent again (RFC 6298).
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// A drop, and what is sent because of it, lie this close together.
pub(super) const TOGETHER: Duration = Duration::from_millis(200);

pub(super) fn judge(story: &Story, court: Court<'_>) -> Finding {
    let role = story.role();
    by_drops(story, role)
        .or_else(|| by_own_reset(story, role))
        .or_else(|| by_complaint(story, role))
        .or_else(|| by_reset(story, role, court))
        .unwrap_or_else(|| by_silence(story, role, court))
}

/// What this machine dropped, unless somebody answered afterwards.
fn by_drops(story: &Story, role: Role) -> Option<Finding> {
    let overflow = story.drops.iter().find(|drop| drop.is_overflow());
    if let Some(overflow) = overflow {
        return Some(local::finding(story, overflow, false, None));
    }
    let request = local::loss_of(story, End::Client);
    let answer = local::answer_loss_of(story, End::Server);
    let is_later = |drop: &&Dropped| {
        let answered = story.reset_from(End::Server);
        drop.is_rejected()
            || answered.is_none_or(|answered| between(drop.last, answered) <= TOGETHER)
    };
    // Without the request there is no answer: the later of both counts.
    let answer = answer.filter(|answer| request.is_none_or(|request| request.last < answer.last));
    match (answer, request) {
        (Some(drop), _) if is_later(&drop) || drop.kind == Kind::Rst => {
            let is_answer = role != Role::Server;
            Some(local::finding(story, drop, is_answer, None))
        }
        (_, Some(drop)) if is_later(&drop) => Some(local::finding(story, drop, false, None)),
        _ => None,
    }
}

/// A reset of this machine's own: nothing listens, or it gave up.
pub(super) fn by_own_reset(story: &Story, role: Role) -> Option<Finding> {
    if let Some(reset) = story.resets_sent.first() {
        let outcome = match reset.by {
            End::Server => Outcome::Refused,
            End::Client => Outcome::Reset,
        };
        return Some(resets::sent(story, reset, outcome));
    }
    let nobody = story.drops.iter().find(|drop| drop.is_for_nobody())?;
    let left = story
        .trail(End::Server)
        .and_then(|trail| trail.reset.as_ref())
        .is_some_and(|reset| reset.left);
    if nobody.by != End::Client || nobody.kind == Kind::Rst {
        return None;
    }
    let outcome = if left || role == Role::Client {
        Outcome::Refused
    } else {
        Outcome::Timeout
    };
    Some(local::no_listener(story, nobody, outcome))
}

fn by_complaint(story: &Story, role: Role) -> Option<Finding> {
    let end = if role == Role::Server {
        End::Server
    } else {
        End::Client
    };
    let finding = answers::finding(story, end)?;
    // Of a client, what was dropped is judged before.
    let dropped = local::answer_loss_of(story, end.other());
    let dropped = dropped.filter(|drop| end == End::Server && drop.is_about());
    Some(dropped.map_or(finding, |drop| local::finding(story, drop, true, None)))
}

/// A reset that came in.
fn by_reset(story: &Story, role: Role, court: Court<'_>) -> Option<Finding> {
    let from = if role == Role::Server {
        End::Client
    } else {
        End::Server
    };
    let traced = resets::traced(story, from, court);
    if let Some(traced) = traced {
        let outcome = match from {
            End::Server => Outcome::Refused,
            End::Client => Outcome::Reset,
        };
        return Some(resets::received(traced, outcome));
    }
    let other = resets::traced(story, from.other(), court);
    match (role, other) {
        (Role::Router, Some(traced)) => Some(resets::received(traced, Outcome::Reset)),
        (Role::Client, Some(_)) => Some(
            Finding::new(
                Outcome::Reset,
                Code::LocalAbort,
                Confidence::Inferred,
                "this machine reset the connection before it was established".to_owned(),
            )
            .with(["a RST left".to_owned()]),
        ),
        (Role::Server, Some(_)) => Some(
            Finding::new(
                Outcome::Refused,
                Code::NoListener,
                Confidence::Inferred,
                format!(
                    "this machine answered with a RST: nothing listens on {}",
                    story.server
                ),
            )
            .with(["a RST left, and no rule is known that sent it".to_owned()]),
        ),
        _ => None,
    }
}

/// Nothing came.
fn by_silence(story: &Story, role: Role, court: Court<'_>) -> Finding {
    let swallowed = overflow::finding(story, court);
    match role {
        Role::Server => swallowed.unwrap_or_else(|| no_acknowledgement(story)),
        _ => under_way(story, court)
            .or(swallowed)
            .unwrap_or_else(|| no_answer(story, court)),
    }
}

/// By which interface the first SYN left, and how long an answer was waited for.
fn asked<'a>(story: &'a Story, court: Court<'_>) -> Option<(&'a str, Duration)> {
    let trail = story.trail(End::Client)?;
    let (first, ifname) = trail.left.as_ref().or(trail.came_in.as_ref())?;
    let ended = story.sockets.client.closed.unwrap_or(court.now);
    Some((ifname, between(*first, ended)))
}

/// There was no time for an answer yet.
fn under_way(story: &Story, court: Court<'_>) -> Option<Finding> {
    let (_, waited) = asked(story, court)?;
    let has_ended = story.sockets.client.closed.is_some() || story.attempt.is_some();
    if story.openings(End::Client) != 1 || has_ended || waited >= PATIENCE {
        return None;
    }
    Some(Finding::new(
        Outcome::Timeout,
        Code::InProgress,
        Confidence::Observed,
        format!(
            "no answer yet: the only SYN left {} before droptrace ended",
            words::span(waited)
        ),
    ))
}

fn no_answer(story: &Story, court: Court<'_>) -> Finding {
    let socket = &story.sockets.client;
    let error = story
        .attempt
        .map(|tried| tried.error)
        .filter(|error| *error != 0)
        .unwrap_or(socket.error);
    let Some((ifname, waited)) = asked(story, court) else {
        return errors::nothing_left(story, error, "packets");
    };
    let syns = story.openings(End::Client);
    let sent = format!(
        "{} left{}",
        words::several(syns, "SYN", "SYNs"),
        words::by(ifname)
    );
    if error == libc::ECONNREFUSED {
        return Finding::new(
            Outcome::Refused,
            Code::ResetOriginUnknown,
            Confidence::Inferred,
            "the application was told that it was refused, and no packet was seen that says so"
                .to_owned(),
        )
        .with([sent]);
    }
    if story.openings(End::Server) > 0 {
        return Finding::new(
            Outcome::Timeout,
            Code::ReturnPathDrop,
            Confidence::Inferred,
            "an answer came in, and the socket did not take it".to_owned(),
        )
        .with([
            format!(
                "{} came in",
                words::several(story.openings(End::Server), "SYN-ACK", "SYN-ACKs")
            ),
            "this machine reports no drop of it".to_owned(),
        ]);
    }
    let explanation = format!(
        "{} did not answer within {}: the loss is outside this machine",
        story.server,
        words::span(waited)
    );
    let mut finding = Finding::new(
        Outcome::Timeout,
        Code::NoAnswer,
        Confidence::Inferred,
        explanation,
    )
    .with([
        sent,
        super::DROPPED_NONE.to_owned(),
        "nothing came in from there".to_owned(),
    ]);
    if error == 0 && socket.closed.is_some() {
        finding.evidence.push(format!(
            "the application itself stopped waiting after {}",
            words::span(waited)
        ));
    }
    finding
}

/// A listener that answered in vain, or did not answer.
fn no_acknowledgement(story: &Story) -> Finding {
    let asked = story.openings(End::Client);
    let answered = story.openings(End::Server);
    let came = format!("{} came in", words::several(asked, "SYN", "SYNs"));
    let (explanation, sent) = if answered > 0 {
        (
            format!(
                "{} did not complete the connection: this machine's SYN-ACK, or what answers it, is lost outside",
                story.client
            ),
            format!("{} left", words::several(answered, "SYN-ACK", "SYN-ACKs")),
        )
    } else {
        (
            format!("this machine did not answer a SYN for {}", story.server),
            "no answer left".to_owned(),
        )
    };
    Finding::new(
        Outcome::Timeout,
        Code::NoAnswer,
        Confidence::Inferred,
        explanation,
    )
    .with([came, sent, "this machine reports no drop of it".to_owned()])
}
