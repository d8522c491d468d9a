//! SYNs that a full listen queue of this machine swallowed.

use super::{Court, Finding};
use crate::{
    conversation::{
        ends::End,
        facts::Kind,
        input::Way,
        story::{Story, View},
    },
    event::{Code, Confidence, Outcome},
};

/// A SYN that came in for a listener here and got no answer, where the kernel counted
/// overflows. Linux frees such a SYN as if it had been of use
/// ([`tcp_conn_request`](https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_input.c)),
/// and so there is no record of it.
pub(super) fn finding(story: &Story, court: Court<'_>) -> Option<Finding> {
    let counted = counted(story, court, |view| {
        view.sent.server.first_way.is_none() && view.sent.server.reset.is_none()
    })?;
    let explanation = format!(
        "the listener on {} takes no more connections: its queue is full",
        story.server
    );
    Some(
        Finding::new(
            Outcome::Timeout,
            Code::ListenOverflow,
            Confidence::Inferred,
            explanation,
        )
        .with([
            "a SYN came in, nothing answered it, and no drop of it was reported".to_owned(),
            counted,
        ]),
    )
}

/// The same of an established connection: not each SYN was answered.
pub(super) fn at_first(story: &Story, court: Court<'_>) -> Option<Finding> {
    let counted = counted(story, court, |view| {
        view.sent.client.openings > view.sent.server.openings && view.sent.server.openings > 0
    })?;
    let explanation = format!(
        "it works, and the queue of the listener on {} was full at first",
        story.server
    );
    Some(
        Finding::new(
            Outcome::Degraded,
            Code::LocalLoss,
            Confidence::Inferred,
            explanation,
        )
        .with([
            "not each SYN that came in was answered, and no drop of one was reported".to_owned(),
            counted,
        ]),
    )
}

/// How many overflows were counted where a SYN came in for this machine and was
/// `swallowed`.
fn counted(story: &Story, court: Court<'_>, swallowed: fn(&View) -> bool) -> Option<String> {
    let is_recorded = story
        .drops
        .iter()
        .any(|drop| drop.by == End::Client && matches!(drop.kind, Kind::Syn | Kind::Unknown));
    if is_recorded || !story.resets_sent.is_empty() {
        return None;
    }
    let mut views = story.views.iter();
    let (netns, overflows) = views.find_map(|view| {
        let overflows = court.overflows.get(&view.netns)?;
        (is_for_here(view) && swallowed(view)).then_some((view.netns, overflows))
    })?;
    let place = if Some(netns) == story.home() {
        "this namespace".to_owned()
    } else {
        format!("network namespace {netns}")
    };
    Some(format!(
        "the kernel counted {overflows} overflows of listen queues in {place} meanwhile (nstat -az TcpExtListenOverflows)"
    ))
}

/// A SYN came in and was not passed on.
fn is_for_here(view: &View) -> bool {
    let asked = &view.sent.client;
    // On the loopback interface it left before it came in.
    let stayed = asked.first_way == Some(Way::Out) || asked.left.is_none();
    asked.openings > 0 && asked.came_in.is_some() && stayed
}
