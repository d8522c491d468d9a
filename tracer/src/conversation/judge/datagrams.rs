//! UDP.

use std::time::Duration;

use super::{Court, Finding, answers, errors, local};
use crate::{
    conversation::{
        ends::End,
        facts::Dropped,
        input::Way,
        story::{Role, Story, between},
        words,
    },
    event::{Code, Confidence, Outcome},
};

/// Of the packets of a flow, one is seen so often.
const SEEN_AT_LEAST: Duration = Duration::from_secs(1);

pub(super) fn judge(story: &Story, _court: Court<'_>) -> Finding {
    let role = story.role();
    let server = story.trail(End::Server);
    let answers_passed = server
        .and_then(|trail| trail.first_way.map(|_| trail.packets.max(1)))
        .unwrap_or(0);
    let was_answered = story.attempt.is_some_and(|tried| tried.answered);
    let dropped_of = |end| -> u64 { local::losses_of(story, end).map(|drop| drop.packets).sum() };
    let lost = local::loss_of(story, End::Client);
    let has_answer = was_answered || answers_passed > dropped_of(End::Server);
    let stopped = lost.filter(|drop| is_last(story, role, drop));
    if let (true, Some(drop)) = (has_answer, stopped) {
        let answers = words::several(answers_passed, "datagram", "datagrams");
        return local::finding(story, drop, false, None).with([format!("{answers} came before")]);
    }
    if has_answer {
        if let Some(drop) = lost.or_else(|| local::loss_of(story, End::Server)) {
            let dropped = dropped_of(End::Client).saturating_add(dropped_of(End::Server));
            let mut finding = local::finding(story, drop, false, Some(Outcome::Degraded));
            finding.code = Code::LocalLoss;
            finding.explanation = format!(
                "answers came, and this machine dropped {}",
                words::several(dropped, "packet", "packets")
            );
            return finding;
        }
        return Finding::new(
            Outcome::Connected,
            Code::Answered,
            Confidence::Observed,
            format!("{} answered", story.server),
        )
        .with([format!(
            "{} of it passed",
            words::several(answers_passed, "datagram", "datagrams")
        )]);
    }
    if let Some(drop) = local::answer_loss_of(story, End::Server) {
        return local::finding(story, drop, role != Role::Server, None);
    }
    if let Some(drop) = lost {
        return local::finding(story, drop, false, None);
    }
    if let Some(nobody) = story.drops.iter().find(|drop| drop.is_for_nobody()) {
        return local::no_listener(story, nobody, Outcome::Refused);
    }
    if let Some(finding) = answers::finding(story, End::Client) {
        return finding;
    }
    let refused = story.complaints.iter().find(|complaint| {
        complaint.way == Way::Out && answers::says(complaint) == Some(answers::Says::Port)
    });
    if let (Role::Server, Some(refused)) = (role, refused) {
        return Finding::new(
            Outcome::Refused,
            Code::NoListener,
            Confidence::Observed,
            format!("nothing listens on {} of this machine", story.server),
        )
        .with([format!("{} left", words::complaint(refused))]);
    }
    silence(story, role)
}

/// No answer has come in since the drop.
fn is_last(story: &Story, role: Role, drop: &Dropped) -> bool {
    let answered = story.trail(End::Server).and_then(|trail| trail.last_in);
    role == Role::Client && answered.is_some_and(|at| between(at, drop.last) >= SEEN_AT_LEAST)
}

fn silence(story: &Story, role: Role) -> Finding {
    let error = story.attempt.map_or(0, |tried| tried.error);
    let trail = story.trail(End::Client);
    let Some(trail) = trail else {
        return errors::nothing_left(story, error, "datagrams");
    };
    let count = words::several(trail.packets.max(1), "datagram", "datagrams");
    let (explanation, sent) = match role {
        Role::Server => (
            format!(
                "{} got datagrams and sent none back; a program that does not answer looks the same",
                story.server
            ),
            format!("{count} came in"),
        ),
        _ => (
            format!(
                "{} did not answer: lost outside this machine, or it is not the way of the program there to answer",
                story.server
            ),
            format!(
                "{count} left{}",
                trail
                    .left
                    .as_ref()
                    .map_or_else(String::new, |left| words::by(&left.1))
            ),
        ),
    };
    Finding::new(
        Outcome::Timeout,
        Code::NoAnswer,
        Confidence::Inferred,
        explanation,
    )
    .with([sent, super::DROPPED_NONE.to_owned()])
}
