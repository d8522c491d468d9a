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
    let is_recorded = story
        .drops
        .iter()
        .any(|drop| drop.by == End::Client && matches!(drop.kind, Kind::Syn | Kind::Unknown));
    if is_recorded || !story.resets_sent.is_empty() {
        return None;
    }
    let swallowed = |view: &&View| is_swallowed(view);
    let (view, overflows) = story.views.iter().filter(swallowed).find_map(|view| {
        let overflows = court.overflows.get(&view.netns)?;
        Some((view, *overflows))
    })?;
    let place = if Some(view.netns) == story.home() {
        "this namespace".to_owned()
    } else {
        format!("network namespace {}", view.netns)
    };
    Some(
        Finding::new(
            Outcome::Timeout,
            Code::ListenOverflow,
            Confidence::Inferred,
            format!(
                "the listener on {} takes no more connections: its queue is full",
                story.server
            ),
        )
        .with([
            "a SYN came in, nothing answered it, and no drop of it was reported".to_owned(),
            format!(
                "the kernel counted {overflows} overflows of listen queues in {place} meanwhile (nstat -az TcpExtListenOverflows)"
            ),
        ]),
    )
}

/// A SYN came in, was not passed on, and nothing came back.
fn is_swallowed(view: &View) -> bool {
    let asked = &view.sent.client;
    // On the loopback interface it left before it came in.
    let is_for_here = asked.first_way == Some(Way::Out) || asked.left.is_none();
    let has_answer = view.sent.server.first_way.is_some() || view.sent.server.reset.is_some();
    asked.openings > 0 && asked.came_in.is_some() && is_for_here && !has_answer
}
