//! What an error tells where no packet was seen and no drop reported.

use std::time::Duration;

use super::Finding;
use crate::{
    conversation::{story::Story, words},
    event::{Code, Confidence, Outcome},
};

/// A next hop is asked for longer than this before it counts as absent.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Nothing left this machine. `error` is what the application got; `packets` are what
/// was to leave.
pub(super) fn nothing_left(story: &Story, error: i32, packets: &str) -> Finding {
    let took = story.attempt.map(|tried| tried.took);
    let server = story.server.ip();
    let no_route = |why: &str| {
        let explanation = format!("this machine has {why} to {server}");
        (Outcome::Unreachable, Code::LocalNoRoute, explanation)
    };
    let (outcome, code, explanation) = match error {
        libc::ENETUNREACH => no_route("no route"),
        libc::EINVAL => no_route("a blackhole route"),
        libc::EACCES => no_route("a route that prohibits the way"),
        libc::EHOSTUNREACH if took.is_some_and(|took| took < AT_ONCE) => {
            no_route("an unreachable route")
        }
        libc::EHOSTUNREACH => (
            Outcome::Unreachable,
            Code::LocalNoNeighbour,
            format!("no next hop answers on the way to {server}"),
        ),
        libc::EPERM => (
            Outcome::Refused,
            Code::LocalRuleDrop,
            "this machine does not permit it (a rule, or a program of the control group)"
                .to_owned(),
        ),
        _ => (
            Outcome::Timeout,
            Code::LocalDrop,
            format!("its {packets} did not leave this machine, and no drop was reported"),
        ),
    };
    let mut evidence = Vec::new();
    if error != 0 {
        evidence.push(format!("the application got {}", words::error_name(error)));
    }
    evidence.push("no packet of it was seen at any interface".to_owned());
    Finding::new(outcome, code, Confidence::Inferred, explanation).with(evidence)
}
