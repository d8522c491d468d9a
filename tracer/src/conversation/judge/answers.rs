//! ICMP errors that came back.

use super::Finding;
use crate::{
    conversation::{ends::End, facts::Complaint, input::Way, origin::hops, story::Story, words},
    event::{Code, Confidence, Outcome},
};

/// What an ICMP error says of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Port,
    Unreachable,
    Prohibited,
    TooBig,
    TimeExceeded,
}

pub(super) fn says(complaint: &Complaint) -> Option<Says> {
    let (kind, code) = (complaint.kind, complaint.code);
    Some(if complaint.from.is_ipv4() {
        match (kind, code) {
            (3, 3) => Says::Port,
            (3, 4) => Says::TooBig,
            (3, 9 | 10 | 13) => Says::Prohibited,
            (3, _) => Says::Unreachable,
            (11, 0) => Says::TimeExceeded,
            _ => return None,
        }
    } else {
        match (kind, code) {
            (1, 4) => Says::Port,
            (1, 1 | 5 | 6) => Says::Prohibited,
            (1, _) => Says::Unreachable,
            (2, _) => Says::TooBig,
            (3, 0) => Says::TimeExceeded,
            _ => return None,
        }
    })
}

/// The errors about one end's packets that came in at home.
pub(super) fn about(story: &Story, end: End) -> impl Iterator<Item = (&Complaint, Says)> {
    let home = story.home();
    story.complaints.iter().filter_map(move |complaint| {
        let is_here =
            complaint.about == end && complaint.way == Way::In && Some(complaint.netns) == home;
        Some((complaint, says(complaint).filter(|_| is_here)?))
    })
}

/// What the first error that ends a conversation tells.
pub(super) fn finding(story: &Story, end: End) -> Option<Finding> {
    let (complaint, says) = about(story, end).find(|(_, says)| *says != Says::TooBig)?;
    let target = story.address(end.other()).ip();
    let own = story.address(end).ip();
    let is_target = complaint.from == target;
    let told = words::complaint(complaint);
    let (outcome, code, explanation) = if complaint.from == own {
        // This machine tells itself that it found no way.
        let code = match says {
            Says::Unreachable => Code::LocalNoNeighbour,
            _ => Code::LocalRuleDrop,
        };
        let outcome = match says {
            Says::Unreachable => Outcome::Unreachable,
            _ => Outcome::Refused,
        };
        (
            outcome,
            code,
            format!("this machine itself answered: {told}"),
        )
    } else {
        match says {
            Says::TimeExceeded => (
                Outcome::Unreachable,
                Code::TtlExceeded,
                format!("its packets go in a loop or too far: {told}"),
            ),
            Says::Port | Says::Prohibited if is_target => (
                Outcome::Refused,
                Code::PeerRefused,
                format!("{target} itself refused: {told}"),
            ),
            Says::Port | Says::Prohibited => (
                Outcome::Unreachable,
                Code::PathProhibited,
                format!("a device on the path refused: {told}"),
            ),
            Says::Unreachable | Says::TooBig => (
                Outcome::Unreachable,
                Code::PathUnreachable,
                format!("there is no way to {target}: {told}"),
            ),
        }
    };
    let field = words::ttl_field(complaint.from.is_ipv4());
    let (initial, distance) = hops(complaint.ttl);
    let confidence = if complaint.from == own {
        Confidence::Inferred
    } else {
        Confidence::Observed
    };
    Some(
        Finding::new(outcome, code, confidence, explanation).with([format!(
            "{told} came in with {field} {} ({initial} at its start: {})",
            complaint.ttl,
            words::several(distance.into(), "hop", "hops")
        )]),
    )
}
