//! Connections that were established.

use super::{Court, Finding, answers, local, losses, resets};
use crate::{
    conversation::{
        facts::{Kind, Repeated, ResetSent},
        mtu,
        pause::Pauses,
        story::{End, Role, Story},
        trail::is_after,
        words,
    },
    event::{Code, Confidence, Outcome},
};

pub(super) fn judge(story: &Story, court: Court<'_>) -> Finding {
    let role = story.role();
    if let Some(finding) = by_reset(story, role, court) {
        return finding;
    }
    if let Some(stuck) = stuck_end(story, role) {
        return given_up(story, role, stuck);
    }
    worked(story)
}

/// A reset that ended it, by whoever sent the first.
fn by_reset(story: &Story, role: Role, court: Court<'_>) -> Option<Finding> {
    if is_closed(story, role) {
        return None;
    }
    let sent = story.resets_sent.iter().min_by_key(|reset| reset.at);
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

fn from(received: Option<(End, jiff::Timestamp)>) -> End {
    received.map_or(End::Server, |(end, _)| end)
}

/// The first reset that came from outside.
fn received(story: &Story, role: Role) -> Option<(End, jiff::Timestamp)> {
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
fn stuck_end(story: &Story, role: Role) -> Option<End> {
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
        let unanswered: u64 = unanswered(story, *end).map(|repeated| repeated.times).sum();
        has_timed_out || unanswered > losses::FEW
    })
}

/// Data that `end` sent again and that was not acknowledged afterwards.
fn unanswered(story: &Story, end: End) -> impl Iterator<Item = &Repeated> {
    let acked = story.trail(end.other()).and_then(|trail| trail.acked);
    story.repeated.iter().filter(move |repeated| {
        let is_acked = match (acked, repeated.seq) {
            (Some(acked), Some(seq)) => is_after(acked, seq),
            _ => false,
        };
        repeated.by == end && repeated.kind == Kind::Other && !is_acked
    })
}

/// Nothing that `end` sent was acknowledged any more.
fn given_up(story: &Story, role: Role, end: End) -> Finding {
    let lost = local::loss_of(story, end);
    let answer_lost = local::loss_of(story, end.other());
    if let Some(drop) = answer_lost.filter(|a| lost.is_none_or(|lost| lost.last < a.last)) {
        let is_answer = role != Role::Router || end == End::Client;
        if let Kind::Icmp(..) = drop.kind
            && let Some(finding) = mtu::black_hole(story, end)
        {
            return finding;
        }
        return local::finding(story, drop, is_answer, Some(Outcome::Timeout));
    }
    if let Some(drop) = lost {
        return local::finding(story, drop, false, Some(Outcome::Timeout));
    }
    if let Some(finding) = answers::finding(story, end) {
        return finding;
    }
    if let Some(finding) = mtu::black_hole(story, end) {
        return finding;
    }
    let times: u64 = unanswered(story, end).map(|repeated| repeated.times).sum();
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
        Finding::new(
            Outcome::Timeout,
            Code::NoAnswer,
            Confidence::Inferred,
            format!("{peer} acknowledged nothing any more: the loss is outside this machine"),
        )
        .with([
            format!(
                "segments were sent again {}, and none was acknowledged",
                words::several(times, "time", "times")
            ),
            "this machine dropped none of them".to_owned(),
        ])
    };
    if let Some(pause) = story.view().and_then(|view| view.pauses.unanswered()) {
        finding.evidence.push(format!(
            "nothing had passed for {} before",
            words::span(pause)
        ));
    }
    finding
}

/// It worked, more or less.
fn worked(story: &Story) -> Finding {
    let drops: Vec<_> = story.drops.iter().filter(|drop| drop.is_loss()).collect();
    if let Some(worst) = drops.iter().max_by_key(|drop| drop.packets) {
        let count: u64 = drops.iter().map(|drop| drop.packets).sum();
        let mut finding = local::finding(story, worst, false, Some(Outcome::Degraded));
        finding.code = Code::LocalLoss;
        finding.explanation = format!(
            "it works, and this machine dropped {} of it",
            words::several(count, "packet", "packets")
        );
        finding.evidence = drops
            .iter()
            .map(|drop| words::dropped(drop, story.home()))
            .chain(losses::sent_again(story))
            .collect();
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
    let explanation = match code {
        Code::Connected => format!("{} and {} talked and parted", story.client, story.server),
        _ => format!("{} and {} talk", story.client, story.server),
    };
    Finding::new(Outcome::Connected, code, Confidence::Observed, explanation)
        .with(handshake(story))
        .with(losses::sent_again(story))
}

/// How long the handshake took.
fn handshake(story: &Story) -> Option<String> {
    let asked = story.trail(End::Client)?.first_opening?;
    let answered = story.trail(End::Server)?.first_opening?;
    let time = crate::conversation::story::between(asked, answered);
    Some(format!("SYN answered after {}", words::span(time)))
}
