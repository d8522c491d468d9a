//! Packets that were lost, and arrived in the end.

use super::Finding;
use crate::{
    conversation::{
        ends::End,
        facts::{Cause, Kind},
        mtu,
        story::Story,
        words,
    },
    event::{Code, Confidence, Outcome},
};

/// As many repetitions may be no loss: a probe of the tail, an acknowledgement that
/// came late.
pub(super) const FEW: u64 = 2;

/// Segments behind the handshake that were sent again.
#[derive(Clone, Copy, Default)]
struct Again {
    segments: u64,
    /// Of those, what the other end had already.
    duplicates: u64,
}

/// What an end sent again: as its socket counted at its end, else by the records.
fn again(story: &Story, end: End) -> Again {
    let adapted = mtu::adapted_at(story);
    let more = story.repeated_more.of(end).values();
    let mut recorded = more.fold(0_u64, |sum, more| sum.saturating_add(*more));
    let (mut openings, mut adapting) = (0_u64, 0_u64);
    for repeated in story.repeated.iter().filter(|again| again.by == end) {
        let sum = match repeated.kind {
            Kind::Syn | Kind::SynAck => &mut openings,
            _ if adapted.is_some_and(|at| mtu::follows(at, repeated.at)) => &mut adapting,
            _ => &mut recorded,
        };
        *sum = sum.saturating_add(repeated.times);
    }
    let socket = story.sockets.of(end);
    // A record may stand for several segments, so what is due to the size is not taken
    // off the socket's count: it is all of it, or some.
    let all_by_size = adapting > 0 && recorded == 0;
    if socket.closed.is_none() || all_by_size {
        return Again {
            segments: recorded,
            duplicates: 0,
        };
    }
    let counted = u64::from(socket.retransmitted);
    Again {
        segments: counted.saturating_sub(openings.saturating_add(adapting)),
        duplicates: socket.duplicates.into(),
    }
}

fn by_both(story: &Story) -> Again {
    let (client, server) = (again(story, End::Client), again(story, End::Server));
    Again {
        segments: client.segments.saturating_add(server.segments),
        duplicates: client.duplicates.saturating_add(server.duplicates),
    }
}

/// How much was sent again behind the handshake and had not arrived.
pub(super) fn lost(story: &Story) -> u64 {
    let again = by_both(story);
    again.segments.saturating_sub(again.duplicates)
}

/// How much was sent again, in words; `None` where nothing was.
pub(super) fn sent_again(story: &Story) -> Option<String> {
    let again = by_both(story);
    if again.segments == 0 {
        return None;
    }
    let what = words::several(again.segments, "segment was", "segments were");
    let had = match again.duplicates {
        0 => String::new(),
        duplicates => format!(", {duplicates} of them the other end had already (DSACK)"),
    };
    Some(format!("{what} sent again{had}"))
}

/// What was sent again by why, in words; `None` where nothing tells.
pub(super) fn causes(story: &Story) -> Option<String> {
    let of_kind = |kind| -> u64 {
        let of = story.repeated.iter().filter(|again| again.kind == kind);
        of.fold(0, |sum, again| sum.saturating_add(again.times))
    };
    let of_cause = |cause| -> u64 {
        let of = story.repeated.iter().filter(|again| {
            again.cause == cause && !matches!(again.kind, Kind::Syn | Kind::SynAck)
        });
        let more = [&story.repeated_more.client, &story.repeated_more.server];
        let more = more
            .into_iter()
            .filter_map(|more| more.get(&cause).copied());
        let times = of.map(|again| again.times).chain(more);
        times.fold(0, u64::saturating_add)
    };
    let (syns, syn_acks) = (of_kind(Kind::Syn), of_kind(Kind::SynAck));
    let parts = [
        (syns, if syns == 1 { "SYN" } else { "SYNs" }),
        (syn_acks, if syn_acks == 1 { "SYN-ACK" } else { "SYN-ACKs" }),
        (of_cause(Cause::Timeout), "after a timeout"),
        (of_cause(Cause::Probe), "by a tail-loss probe"),
        (of_cause(Cause::Fast), "fast"),
        (of_cause(Cause::TooLarge), "as the path takes no larger"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let mut parts: Vec<String> = parts.map(|(n, what)| format!("{n} {what}")).collect();
    if parts.is_empty() {
        return None;
    }
    let unknown = of_cause(Cause::Unknown);
    if unknown > 0 {
        parts.push(format!("{unknown} otherwise"));
    }
    Some(format!("sent again: {}", parts.join(", ")))
}

/// Packets of the handshake that were sent again and not because the answer was late.
fn openings(story: &Story) -> u64 {
    let is_opening = |kind| matches!(kind, Kind::Syn | Kind::SynAck);
    let of_handshake = story.repeated.iter().filter(|again| is_opening(again.kind));
    let again: u64 = of_handshake.map(|repeated| repeated.times).sum();
    // Where each was answered, the answer was only late.
    let asked = story.openings(End::Client);
    let answered = story.openings(End::Server);
    if answered >= asked && again < asked {
        return 0;
    }
    again
}

/// Packets were lost, and not on this machine.
pub(super) fn outside(story: &Story) -> Option<Finding> {
    let lost = lost(story);
    let openings = openings(story);
    if lost <= FEW && openings == 0 {
        return None;
    }
    let mut evidence = Vec::new();
    if openings > 0 {
        let times = words::several(openings, "time", "times");
        evidence.push(format!("the handshake's packets were sent again {times}"));
    }
    evidence.extend(sent_again(story));
    evidence.push(super::DROPPED_NONE.to_owned());
    Some(
        Finding::new(
            Outcome::Degraded,
            Code::PathLoss,
            Confidence::Inferred,
            format!(
                "it works, and packets between {} and {} are lost outside this machine",
                story.client, story.server
            ),
        )
        .with(evidence),
    )
}
