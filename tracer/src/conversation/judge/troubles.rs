//! Conversations of which only the trouble was seen: records, and how the sockets
//! concerned ended. Packets that pass were not watched, so nothing follows from those
//! that are missing; and what is not certain is not said.

use std::{net::IpAddr, time::Duration};

use super::{
    Court, DROPPED_NONE, Finding, established, local,
    losses::{self, FEW},
    opening::{self, PATIENCE, TOGETHER},
    resets,
};
use crate::{
    conversation::{
        ends::{End, UDP},
        facts::{Cause, Dropped, Kind, Repeated},
        story::{Role, Story, between},
        words,
    },
    event::{Class, Code, Confidence, Outcome},
};

/// What the evidence lacks.
const NOT_WATCHED: &str = "packets that pass were not watched";

/// `knows_drops`: each packet that this machine drops has a record.
pub(super) fn judge(story: &Story, court: Court<'_>, knows_drops: bool) -> Option<Finding> {
    let finding = if story.proto == UDP {
        datagrams(story)
    } else if story.is_established() {
        established(story, court, knows_drops)
    } else {
        unestablished(story, court, knows_drops)
    };
    Some(finding?.with([NOT_WATCHED.to_owned()]))
}

/// Datagrams of which this machine dropped some. Those that found no room may be few of
/// many; a rule, a route and a missing listener concern them all.
fn datagrams(story: &Story) -> Option<Finding> {
    if is_group(story.client.ip()) || is_group(story.server.ip()) {
        return None;
    }
    let is_told = |drop: &&Dropped| {
        matches!(
            drop.class,
            Class::Policy | Class::Routing | Class::Neighbour | Class::NoListener
        ) && !drop.is_about()
    };
    let drops = story.drops.iter().filter(is_told);
    let drop = drops.max_by_key(|drop| drop.last)?;
    Some(if drop.is_for_nobody() {
        local::no_listener(story, drop, Outcome::Refused)
    } else {
        inferred(local::finding(story, drop, false, None))
    })
}

fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || matches!(address, IpAddr::V4(address) if address.is_broadcast())
}

/// Others of the conversation may have got through.
fn inferred(mut finding: Finding) -> Finding {
    if finding.outcome != Outcome::Refused {
        finding.confidence = Confidence::Inferred;
    }
    finding
}

/// A connection of which it is not known that it was established.
fn unestablished(story: &Story, court: Court<'_>, knows_drops: bool) -> Option<Finding> {
    let dropped = opening_dropped(story);
    if dropped.is_some() {
        return dropped;
    }
    own_reset(story)
        .or_else(|| refused(story, court))
        .or_else(|| unanswered(story, court).filter(|_| knows_drops))
}

/// This machine dropped packets of the handshake, and nothing of it went on afterwards.
fn opening_dropped(story: &Story) -> Option<Finding> {
    let role = story.role();
    if let Some(overflow) = story.drops.iter().find(|drop| drop.is_overflow()) {
        return Some(inferred(local::finding(story, overflow, false, None)));
    }
    let drops = story.drops.iter().filter(|drop| is_of_handshake(drop));
    let drop = drops.max_by_key(|drop| drop.last)?;
    let goes_on = |at| between(drop.last, at) > TOGETHER;
    let is_repeated = syns(story).any(|again| goes_on(again.at));
    let is_answered = story.reset_from(End::Server).is_some_and(goes_on);
    if !drop.is_rejected() && (is_repeated || is_answered) {
        return None;
    }
    let is_answer = drop.kind == Kind::SynAck && role != Role::Server;
    let finding = local::finding(story, drop, is_answer, None);
    if let Some(waited) = gave_up_at_once(story, drop)
        && finding.outcome == Outcome::Timeout
    {
        return Some(seems_refused(finding, waited));
    }
    // The own end tells how the attempt ended.
    let has_failed = story.sockets.client.closed.is_some();
    Some(if has_failed {
        finding
    } else {
        inferred(finding)
    })
}

/// How soon after its SYN was dropped the client's socket was closed, if that was too soon
/// for silence. The error of an ICMP error is not seen where it comes before `connect` has
/// returned, and the application asks for it.
fn gave_up_at_once(story: &Story, drop: &Dropped) -> Option<Duration> {
    /// Applications wait longer for an answer.
    const AT_ONCE: Duration = Duration::from_millis(50);
    let client = &story.sockets.client;
    let closed = client.closed.filter(|_| client.error == 0)?;
    let waited = between(drop.last, closed);
    let is_syn = drop.by == End::Client && drop.kind == Kind::Syn && drop.is_by_unknown();
    (is_syn && waited <= AT_ONCE).then_some(waited)
}

/// The rule is not known, and what the application did is as if it rejects.
fn seems_refused(mut finding: Finding, waited: Duration) -> Finding {
    finding.outcome = Outcome::Refused;
    finding.confidence = Confidence::Inferred;
    finding.evidence.push(format!(
        "the application gave up {} later: it was told, so the rule seems to reject",
        words::span(waited)
    ));
    finding
}

fn is_of_handshake(drop: &Dropped) -> bool {
    let is_opening = match drop.by {
        End::Client => drop.kind == Kind::Syn,
        End::Server => drop.kind == Kind::SynAck,
    };
    is_opening && drop.is_loss()
}

/// The SYNs that were sent again.
fn syns(story: &Story) -> impl Iterator<Item = &Repeated> {
    let repeated = story.repeated.iter();
    repeated.filter(|again| again.by == End::Client && again.kind == Kind::Syn)
}

/// A reset of this machine's own. One that is sent for want of a socket says something
/// only if it answers a SYN: else it may be about what is long over.
fn own_reset(story: &Story) -> Option<Finding> {
    let mut finding = opening::by_own_reset(story, story.role())?;
    let answers_syn = || {
        let mut drops = story.drops.iter();
        drops.any(|drop| drop.is_for_nobody() && drop.kind == Kind::Syn)
    };
    if finding.code == Code::NoListener {
        let is_known = !story.resets_sent.is_empty() && answers_syn();
        return is_known.then_some(finding);
    }
    // There was a connection to break off.
    if finding.outcome == Outcome::Refused {
        finding.outcome = Outcome::Reset;
    }
    Some(finding)
}

/// The client's socket was told that it is refused.
fn refused(story: &Story, court: Court<'_>) -> Option<Finding> {
    let client = &story.sockets.client;
    client.began?;
    if let Some(traced) = resets::traced(story, End::Server, court) {
        return Some(resets::received(traced, Outcome::Refused));
    }
    let is_refused = client.error == libc::ECONNREFUSED && client.closed.is_some();
    is_refused.then(|| {
        Finding::new(
            Outcome::Refused,
            Code::ResetOriginUnknown,
            Confidence::Inferred,
            format!(
                "{} or a device on the path refused by an ICMP error",
                story.server
            ),
        )
        .with([
            format!("the application got {}", words::error_name(client.error)),
            "the kernel reports no RST".to_owned(),
        ])
    })
}

/// The client's socket sent its SYN again, and got no further.
fn unanswered(story: &Story, court: Court<'_>) -> Option<Finding> {
    let client = &story.sockets.client;
    // A full queue of a listener here swallows a SYN without a record.
    let stays_here = story.client.ip() == story.server.ip() || story.server.ip().is_loopback();
    let has_drops = story.drops.iter().any(|drop| drop.class != Class::Benign);
    if client.netns.is_none() || stays_here || has_drops {
        return None;
    }
    let first = syns(story).map(|again| again.first).min()?;
    let times: u64 = syns(story).map(|again| again.times).sum();
    let ended = client.closed.unwrap_or(court.now);
    let is_over = match client.error {
        0 => client.closed.is_some() || between(first, ended) >= PATIENCE,
        error => error == libc::ETIMEDOUT,
    };
    if !is_over {
        return None;
    }
    let end = match (client.closed, client.error) {
        (None, _) => "the connection was still being tried when droptrace ended".to_owned(),
        (Some(_), 0) => "the application itself stopped waiting".to_owned(),
        (Some(_), error) => format!("the application got {}", words::error_name(error)),
    };
    Some(
        Finding::new(
            Outcome::Timeout,
            Code::NoAnswer,
            Confidence::Inferred,
            format!("{} did not answer", story.server),
        )
        .with([
            format!(
                "the SYN was sent again {}, for {} from the first time on",
                words::several(times, "time", "times"),
                words::span(between(first, ended))
            ),
            end,
            DROPPED_NONE.to_owned(),
        ]),
    )
}

/// A connection that was established. While it is open, nothing is said of losses: they
/// may be over.
fn established(story: &Story, court: Court<'_>, knows_drops: bool) -> Option<Finding> {
    let role = story.role();
    if let Some(finding) = established::by_reset(story, role, court) {
        return (finding.code != Code::NoListener).then_some(finding);
    }
    let end = role.end()?;
    let socket = story.sockets.of(end);
    socket.closed?;
    match socket.error {
        libc::ETIMEDOUT if knows_drops => given_up(story, end),
        0 if socket.said_goodbye => {
            let lossy = local::lossy(story);
            lossy.or_else(|| path_loss(story, end).filter(|_| knows_drops))
        }
        _ => None,
    }
}

/// The kernel gave it up: what was sent last was not acknowledged.
fn given_up(story: &Story, end: End) -> Option<Finding> {
    let again = || {
        let repeated = story.repeated.iter();
        repeated.filter(move |again| again.by == end && again.kind == Kind::Other)
    };
    let last = again().map(|again| again.at).max();
    let drops = [End::Client, End::Server].map(|by| local::loss_of(story, by));
    let drop = drops.into_iter().flatten().max_by_key(|drop| drop.last);
    if let Some(drop) = drop {
        let is_last = last.is_none_or(|last| between(drop.last, last) <= TOGETHER);
        let outcome = Some(Outcome::Timeout);
        let finding = || inferred(local::finding(story, drop, drop.by != end, outcome));
        return is_last.then(finding);
    }
    // What said how large packets may be was dropped: it is not the path's fault.
    let is_hidden = story.drops.iter().any(Dropped::says_too_big);
    let times: u64 = again().map(|again| again.times).sum();
    if is_hidden || times == 0 {
        return None;
    }
    let error = story.sockets.of(end).error;
    Some(
        Finding::new(
            Outcome::Timeout,
            Code::NoAnswer,
            Confidence::Inferred,
            format!(
                "{} acknowledged nothing any more",
                story.address(end.other())
            ),
        )
        .with([
            format!("the application got {}", words::error_name(error)),
            format!(
                "segments were sent again {}",
                words::several(times, "time", "times")
            ),
            DROPPED_NONE.to_owned(),
        ]),
    )
}

/// It was closed in order, and what was sent again before had been lost.
fn path_loss(story: &Story, end: End) -> Option<Finding> {
    let causes = || {
        let data = story.repeated.iter();
        data.filter(|again| again.kind == Kind::Other)
            .map(|again| again.cause)
    };
    // What is sent again because of its size is no loss.
    if causes().any(|cause| cause == Cause::TooLarge) {
        return None;
    }
    let is_lost = losses::lost(story) > FEW && causes().any(|cause| cause != Cause::Unknown);
    // The answer to a SYN may have been late where the way takes so long.
    let rtt_us = u128::from(story.sockets.of(end).rtt_us);
    let is_near = rtt_us != 0 && rtt_us < PATIENCE.as_micros() / 2;
    let is_syn_lost = end == End::Client && is_near && syns(story).next().is_some();
    losses::outside(story).filter(|_| is_lost || is_syn_lost)
}
