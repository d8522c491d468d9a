//! Connections that were established.

use std::time::Duration;

use jiff::Timestamp;

use super::{Court, Finding, answers, handshake, local, losses, overflow, resets};
use crate::{
    conversation::{
        ends::End,
        facts::{Dropped, ResetSent},
        mtu,
        pause::Pauses,
        story::{Role, Story, between},
        words,
    },
    event::{Class, Code, Confidence, Outcome},
};

/// A drop, and what is sent again because of it, lie this close together.
const TOGETHER: Duration = Duration::from_millis(200);
/// Of the packets of a flow, one is seen so often.
const SEEN_AT_LEAST: Duration = Duration::from_secs(1);

pub(super) fn judge(story: &Story, court: Court<'_>) -> Finding {
    let role = story.role();
    if let Some(finding) = by_reset(story, role, court) {
        return finding;
    }
    if let Some(stuck) = stuck_end(story, role, court) {
        return given_up(story, role, stuck, court);
    }
    let end = role.end().unwrap_or(End::Client);
    let starved = starved(story, role, end, court, false);
    let starved = starved.filter(|_| !is_closed(story, role));
    starved.unwrap_or_else(|| worked(story, court))
}

/// A reset that ended it, by whoever sent the first.
pub(super) fn by_reset(story: &Story, role: Role, court: Court<'_>) -> Option<Finding> {
    if is_closed(story, role) {
        return None;
    }
    let sent = first_sent(story);
    let received = received(story, role);
    let is_own = match (sent, received) {
        (Some(sent), Some((_, at))) => sent.at <= at || sent.by == from(received),
        (sent, _) => sent.is_some(),
    };
    if let (Some(sent), true) = (sent, is_own) {
        return Some(sent_by_us(story, sent));
    }
    let (end, _) = received?;
    let mut finding = resets::received(resets::traced(story, end, court)?, Outcome::Reset);
    if let Some(view) = story.view() {
        finding.evidence.extend(pause_before(&view.pauses));
    }
    Some(finding)
}

/// The reset of this machine that ended it. The kernel tells of one when it has left, and
/// what comes back at once may have found no socket before that.
fn first_sent(story: &Story) -> Option<&ResetSent> {
    let first = story.resets_sent.iter().min_by_key(|reset| reset.at)?;
    if !resets::is_of_nobody(first) {
        return Some(first);
    }
    let others = story.resets_sent.iter().filter(|reset| {
        reset.by == first.by
            && between(first.at, reset.at) <= TOGETHER
            && !resets::is_of_nobody(reset)
    });
    others.min_by_key(|reset| reset.at).or(Some(first))
}

fn from(received: Option<(End, Timestamp)>) -> End {
    received.map_or(End::Server, |(end, _)| end)
}

/// The first reset that came from outside.
fn received(story: &Story, role: Role) -> Option<(End, Timestamp)> {
    let ends: &[End] = match role {
        Role::Client => &[End::Server],
        Role::Server => &[End::Client],
        Role::Router => &[End::Client, End::Server],
    };
    let resets = ends
        .iter()
        .filter_map(|end| Some((*end, story.reset_from(*end)?)));
    resets.min_by_key(|(_, at)| *at)
}

fn sent_by_us(story: &Story, reset: &ResetSent) -> Finding {
    resets::sent(story, reset, Outcome::Reset)
}

/// Both ends had said that they are done, or the own one had and was told no error.
fn is_closed(story: &Story, role: Role) -> bool {
    let fin = |end| story.trail(end).is_some_and(|trail| trail.fin.is_some());
    if fin(End::Client) && fin(End::Server) {
        return true;
    }
    let Some(end) = role.end() else { return false };
    let socket = story.sockets.of(end);
    let was_aborted = story.resets_sent.iter().any(|reset| reset.by == end);
    socket.said_goodbye && socket.error == 0 && !was_aborted && socket.closed.is_some()
}

fn pause_before(pauses: &Pauses) -> Option<String> {
    let pause = pauses.reset.or(pauses.quiet_before_reset)?;
    Some(format!(
        "nothing had passed for {} before",
        words::span(pause)
    ))
}

/// What an end sent again and nobody acknowledged.
fn stuck_end(story: &Story, role: Role, court: Court<'_>) -> Option<End> {
    let own: &[End] = match role {
        Role::Client => &[End::Client],
        Role::Server => &[End::Server],
        Role::Router => &[End::Client, End::Server],
    };
    own.iter().copied().find(|end| {
        let socket = story.sockets.of(*end);
        let has_timed_out = matches!(
            socket.error,
            libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH
        );
        // Not each acknowledgement is seen: one may have come since the last that was.
        let unanswered: u64 = mtu::unanswered(story, *end)
            .filter(|again| between(again.first, court.now) >= SEEN_AT_LEAST)
            .map(|again| again.times)
            .sum();
        has_timed_out || unanswered > losses::FEW
    })
}

/// Nothing that `end` sent was acknowledged any more.
fn given_up(story: &Story, role: Role, end: End, court: Court<'_>) -> Finding {
    // ICMP errors that were dropped are no answers here, but for what they hid.
    let is_hidden = story.drops.iter().any(Dropped::says_too_big);
    if let Some(finding) = mtu::black_hole(story, end).filter(|_| is_hidden) {
        return finding;
    }
    if let Some(finding) = starved(story, role, end, court, true) {
        return finding;
    }
    if let Some(finding) = answers::finding(story, end) {
        return finding;
    }
    if let Some(finding) = mtu::black_hole(story, end) {
        return finding;
    }
    let times: u64 = mtu::unanswered(story, end).map(|again| again.times).sum();
    let socket = story.sockets.of(end);
    let peer = story.address(end.other());
    let mut finding = if times == 0 && socket.error == libc::ETIMEDOUT {
        Finding::new(
            Outcome::Timeout,
            Code::LocalGiveUp,
            Confidence::Inferred,
            format!("this machine gave it up: {peer} answered no keepalive probe"),
        )
        .with([
            format!("the application got {}", words::error_name(socket.error)),
            "no data was sent again".to_owned(),
        ])
    } else {
        no_acknowledgement(story, end, times)
    };
    if let Some(pause) = story.view().and_then(|view| view.pauses.unanswered()) {
        finding.evidence.push(format!(
            "nothing had passed for {} before",
            words::span(pause)
        ));
    }
    finding
}

/// What `end` sent again was lost outside.
fn no_acknowledgement(story: &Story, end: End, times: u64) -> Finding {
    let peer = story.address(end.other());
    let mut finding = Finding::new(
        Outcome::Timeout,
        Code::NoAnswer,
        Confidence::Inferred,
        format!("{peer} acknowledged nothing any more: the loss is outside this machine"),
    );
    if times > 0 {
        finding.evidence.push(format!(
            "segments were sent again {}, and none was acknowledged",
            words::several(times, "time", "times")
        ));
    }
    let socket = story.sockets.of(end);
    let first = mtu::unanswered(story, end).map(|again| again.first).min();
    if let (libc::ETIMEDOUT, Some(closed), Some(first)) = (socket.error, socket.closed, first) {
        finding.evidence.push(format!(
            "the application gave up after {} (ETIMEDOUT)",
            words::span(between(first, closed))
        ));
    }
    finding.evidence.push(match local::loss_of(story, end) {
        None => super::DROPPED_NONE.to_owned(),
        Some(drop) => format!(
            "packets came in after the last that this machine dropped: {}",
            words::dropped(drop, story.home())
        ),
    });
    finding
}

/// This machine dropped packets, of `end` or of the other, and nothing has come in since
/// that shows progress; or `end` got no further (`is_stuck`) and they were those that it
/// sent again.
fn starved(
    story: &Story,
    role: Role,
    end: End,
    court: Court<'_>,
    is_stuck: bool,
) -> Option<Finding> {
    let is_to_blame = |drop: &&Dropped| {
        let repeats =
            || mtu::unanswered(story, end).any(|again| between(drop.last, again.at) <= TOGETHER);
        is_last(story, end, drop, court.now) || (is_stuck && repeats())
    };
    let lost = local::loss_of(story, end).filter(is_to_blame);
    let answer_lost = local::loss_of(story, end.other()).filter(is_to_blame);
    let answer_lost = answer_lost.filter(|drop| lost.is_none_or(|lost| lost.last < drop.last));
    let (drop, is_answer) = match (answer_lost, lost) {
        (Some(drop), _) => (drop, role != Role::Router || end == End::Client),
        (None, Some(drop)) => (drop, false),
        (None, None) => return None,
    };
    let outcome = match drop.class {
        Class::Routing | Class::Neighbour if !is_answer => Outcome::Unreachable,
        _ => Outcome::Timeout,
    };
    Some(local::finding(story, drop, is_answer, Some(outcome)))
}

/// Nothing of the other end has come in since the drop.
fn is_last(story: &Story, end: End, drop: &Dropped, now: Timestamp) -> bool {
    let Some(came) = story.trail(end.other()).and_then(|trail| trail.last_in) else {
        return true;
    };
    // Not each packet is seen: one may have come in since the last that was.
    let is_long_ago = |at| between(at, now) >= SEEN_AT_LEAST;
    let since_the_first = between(drop.first, came) <= TOGETHER && is_long_ago(drop.first);
    came <= drop.last && (is_long_ago(drop.last) || since_the_first)
}

/// It worked, more or less.
fn worked(story: &Story, court: Court<'_>) -> Finding {
    if let Some(finding) = local::lossy(story) {
        return finding;
    }
    if let Some(finding) = overflow::at_first(story, court) {
        return finding;
    }
    if let Some(finding) = losses::outside(story) {
        return finding;
    }
    let is_over = story
        .role()
        .end()
        .is_some_and(|end| story.sockets.of(end).closed.is_some())
        || [End::Client, End::Server]
            .iter()
            .all(|end| story.trail(*end).is_some_and(|trail| trail.fin.is_some()));
    let code = if is_over {
        Code::Connected
    } else {
        Code::InProgress
    };
    let within = handshake::took(story).map(|took| format!(" in {}", words::span(took)));
    let explanation = format!(
        "{} reached {}{}{}",
        story.client.ip(),
        story.server,
        within.unwrap_or_default(),
        if is_over {
            ""
        } else {
            ", and the connection is open"
        }
    );
    Finding::new(Outcome::Connected, code, Confidence::Observed, explanation)
        .with(handshake::told(story))
        .with(losses::sent_again(story))
}
