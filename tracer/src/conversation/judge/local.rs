//! What this machine dropped of a conversation.

use super::{Finding, losses, opening::TOGETHER};
use crate::{
    conversation::{
        ends::End,
        facts::{Complaint, Dropped},
        input::Way,
        story::{Story, between},
        words,
    },
    event::{Class, Code, Confidence, Outcome},
};

/// Drops of `end`'s own packets.
pub(super) fn losses_of(story: &Story, end: End) -> impl Iterator<Item = &Dropped> {
    let drops = story.drops.iter();
    drops.filter(move |drop| drop.by == end && drop.is_loss() && !drop.is_about())
}

/// The drop that stands in the way of `end`'s packets: the latest.
pub(super) fn loss_of(story: &Story, end: End) -> Option<&Dropped> {
    losses_of(story, end).max_by_key(|drop| drop.last)
}

/// The drop of the answer to a request of the other end: of `end`'s packets, or of an
/// ICMP error that says no.
pub(super) fn answer_loss_of(story: &Story, end: End) -> Option<&Dropped> {
    let drops = story.drops.iter();
    let of = drops.filter(|drop| drop.by == end && drop.is_loss() && !drop.says_too_big());
    of.max_by_key(|drop| drop.last)
}

/// What TCP here refused of a connection's first packets, without an answer.
pub(super) fn refused(story: &Story) -> Option<&Dropped> {
    let is_unclear = |class| matches!(class, Class::Protocol | Class::Unknown);
    let drops = story.drops.iter();
    let of =
        drops.filter(|drop| drop.by == End::Client && !drop.is_about() && is_unclear(drop.class));
    of.max_by_key(|drop| drop.last)
        .filter(|_| !story.is_established())
}

/// Packets that came to a namespace of this machine and were not for it, with what that
/// says of a silence.
pub(super) fn astray(story: &Story, silence: Finding) -> Finding {
    let strays = story.drops.iter().filter(|drop| drop.is_for_another());
    let strays = strays.filter(|drop| drop.by == End::Client && !story.is_established());
    let Some(stray) = strays.max_by_key(|drop| drop.last) else {
        return silence;
    };
    if went_nowhere_else(story, stray) {
        let mut finding = finding(story, stray, false, None);
        finding.confidence = Confidence::Inferred;
        let nowhere = "they left this machine by no other interface".to_owned();
        return finding.with([nowhere]);
    }
    // A bridge sends a packet to all of its ports, if it does not know the right one.
    let told = words::dropped(stray, story.home());
    let mut finding = silence;
    finding.explanation = format!(
        "{} did not answer; whether its packets went anywhere else than where they were dropped is not known: {told}",
        story.server
    );
    let evidence = &mut finding.evidence;
    evidence.retain(|evidence| evidence != super::DROPPED_NONE);
    evidence.push(told);
    finding
}

/// Whether each way out of a namespace led the client's packets into the next, and the
/// last one dropped them.
fn went_nowhere_else(story: &Story, drop: &Dropped) -> bool {
    let trails = || {
        story
            .views
            .iter()
            .map(|view| (view.netns, &view.sent.client))
    };
    let ends_there = trails().any(|(netns, trail)| {
        drop.netns == Some(netns) && trail.came_in.is_some() && trail.left.is_none()
    });
    let left = trails().filter(|(_, trail)| trail.left.is_some()).count();
    let came = trails()
        .filter(|(_, trail)| trail.came_in.is_some())
        .count();
    ends_there && left == came && trails().all(|(_, trail)| !trail.branches)
}

/// The outcome that the error of the client's socket tells, or an ICMP error of its own
/// machine, which the kernel may have kept to itself while the socket was busy.
fn of_error(story: &Story) -> Option<Outcome> {
    let mut complaints = story.complaints.iter();
    if complaints.any(|complaint| complaint.from == story.client.ip()) {
        return Some(Outcome::Refused);
    }
    match story.sockets.of(End::Client).error {
        libc::ECONNREFUSED => Some(Outcome::Refused),
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES => Some(Outcome::Unreachable),
        _ => None,
    }
}

/// What the namespace that dropped the packets sent back with that: a rule that is not
/// known rejects them.
fn sent_back(story: &Story, drop: &Dropped) -> Option<String> {
    let netns = drop.netns?;
    let is_with_it = |at| between(at, drop.first) <= TOGETHER && between(drop.last, at) <= TOGETHER;
    let view = story.views.iter().find(|view| view.netns == netns);
    let reset = view.and_then(|view| view.sent.of(drop.by.other()).reset.as_ref());
    if let Some(reset) = reset.filter(|reset| reset.left && !reset.came_in)
        && is_with_it(reset.at)
    {
        let sender = story.address(drop.by.other()).ip();
        return Some(format!("a RST of {sender} left with that"));
    }
    let about = || {
        let complaints = story.complaints.iter();
        complaints.filter(|complaint| complaint.netns == netns && complaint.about == drop.by)
    };
    let is_passed_on = |complaint: &Complaint| {
        about().any(|other| other.way == Way::In && other.from == complaint.from)
    };
    let complaint = about().find(|complaint| {
        complaint.way == Way::Out && is_with_it(complaint.at) && !is_passed_on(complaint)
    })?;
    Some(format!("{} left with that", words::complaint(complaint)))
}

/// A conversation whose packets this machine dropped. `answers` are the other end's;
/// `outcome` is how it ended if the drop does not tell.
pub(super) fn finding(
    story: &Story,
    drop: &Dropped,
    is_answer: bool,
    outcome: Option<Outcome>,
) -> Finding {
    let home = story.home();
    let told = words::dropped(drop, home);
    let answer = sent_back(story, drop).filter(|_| drop.class == Class::Policy);
    let (code, own) = if is_answer {
        (Code::ReturnPathDrop, Outcome::Timeout)
    } else if drop.is_overflow() {
        (Code::ListenOverflow, Outcome::Timeout)
    } else if drop.is_full_table() {
        (Code::ConntrackFull, Outcome::Timeout)
    } else {
        match drop.class {
            Class::Policy if drop.is_rejected() => (Code::LocalRuleDrop, Outcome::Refused),
            // A race or a clash of translations, no rule.
            Class::Policy if drop.is_by_tracking() => (Code::LocalDrop, Outcome::Timeout),
            Class::Policy => {
                let refused = answer.as_ref().map(|_| Outcome::Refused);
                let outcome = refused.or_else(|| of_error(story));
                (Code::LocalRuleDrop, outcome.unwrap_or(Outcome::Timeout))
            }
            Class::Routing if drop.is_for_its_addresses() => (Code::LocalDrop, Outcome::Timeout),
            Class::Malformed if drop.is_out_of_hops() => (Code::TtlExceeded, Outcome::Unreachable),
            Class::Routing => (Code::LocalNoRoute, Outcome::Unreachable),
            Class::Neighbour => (Code::LocalNoNeighbour, Outcome::Unreachable),
            _ => (Code::LocalDrop, Outcome::Timeout),
        }
    };
    let explanation = match code {
        Code::ReturnPathDrop => format!("an answer came, and was not let in: {told}"),
        Code::ListenOverflow => {
            format!(
                "the listener on {} takes no more connections: {told}",
                story.server
            )
        }
        Code::ConntrackFull => format!("the connection tracking table is full: {told}"),
        Code::TtlExceeded => format!("its packets go in a loop or too far: {told}"),
        Code::LocalNoRoute => format!("this machine has no way to send it: {told}"),
        Code::LocalNoNeighbour => {
            format!("the next hop does not answer for its link address: {told}")
        }
        _ => words::dropped_by(drop),
    };
    let confidence = match &drop.rule {
        Some(rule) if !rule.exact => Confidence::Inferred,
        _ => Confidence::Observed,
    };
    let mut finding = Finding::new(outcome.unwrap_or(own), code, confidence, explanation);
    finding.evidence.push(told);
    let answer = answer.filter(|_| code == Code::LocalRuleDrop);
    finding.evidence.extend(answer);
    finding.rule.clone_from(&drop.rule);
    finding.advice.clone_from(&drop.advice);
    finding
}

/// Packets for a port that nobody has.
pub(super) fn no_listener(story: &Story, nobody: &Dropped, outcome: Outcome) -> Finding {
    let told = words::dropped(nobody, story.home());
    let explanation = format!("nothing listens on {} of this machine", story.server);
    let mut finding =
        Finding::new(outcome, Code::NoListener, Confidence::Observed, explanation).with([told]);
    finding.advice.clone_from(&nobody.advice);
    finding
}

/// What worked all the same, and this machine dropped some of it.
pub(super) fn lossy(story: &Story) -> Option<Finding> {
    let ends = [End::Client, End::Server].into_iter();
    let drops: Vec<_> = ends.flat_map(|end| losses_of(story, end)).collect();
    let worst = drops.iter().max_by_key(|drop| drop.packets)?;
    let packets: u64 = drops.iter().map(|drop| drop.packets).sum();
    let mut finding = finding(story, worst, false, Some(Outcome::Degraded));
    finding.code = Code::LocalLoss;
    finding.explanation = format!(
        "it works, and this machine dropped {} of it",
        words::several(packets, "packet", "packets")
    );
    finding.evidence = drops
        .iter()
        .map(|drop| words::dropped(drop, story.home()))
        .chain(losses::sent_again(story))
        .collect();
    Some(finding)
}
