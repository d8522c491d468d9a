//! Paths that lose large packets and do not say so.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    ends::End,
    facts::{Dropped, Kind, Repeated},
    judge::Finding,
    story::{Story, between},
    trail::{Trail, is_after},
    words,
};
use crate::event::{Code, Confidence, Outcome};

/// Less of the largest segment (in percent) is not large.
const LARGE_PERCENT: u64 = 85;
/// What a path must take in any case, without headers: a smaller segment is not large.
const LEAST: u64 = 500;
/// How long after "fragmentation needed" segments are sent again because of it.
const ADAPTS: Duration = Duration::from_secs(1);

/// When the path said how large packets may be, and was heard.
pub(super) fn adapted_at(story: &Story) -> Option<Timestamp> {
    let home = story.home();
    if story.drops.iter().any(Dropped::says_too_big) {
        return None;
    }
    let told = story.complaints.iter().filter(|complaint| {
        let is_too_big = if complaint.from.is_ipv4() {
            (complaint.kind, complaint.code) == (3, 4)
        } else {
            complaint.kind == 2
        };
        is_too_big && Some(complaint.netns) == home
    });
    told.map(|complaint| complaint.at).max()
}

/// Whether what was sent again at `at` was so because the path had just said so.
pub(super) fn follows(told: Timestamp, at: Timestamp) -> bool {
    at >= told && between(told, at) <= ADAPTS
}

/// What `end` sent again and nobody acknowledged.
pub(super) fn unanswered(story: &Story, end: End) -> impl Iterator<Item = &Repeated> {
    let acked = story.trail(end.other()).and_then(|trail| trail.acked);
    story.repeated.iter().filter(move |repeated| {
        let is_acked = match (acked, repeated.seq) {
            (Some(acked), Some(seq)) => is_after(acked, seq),
            _ => false,
        };
        repeated.by == end && repeated.kind == Kind::Other && !is_acked
    })
}

/// What `end` sent is lost where it is large, and only there.
pub(super) fn black_hole(story: &Story, end: End) -> Option<Finding> {
    if adapted_at(story).is_some() {
        return None;
    }
    let (own, other) = (story.trail(end), story.trail(end.other()));
    let again: Vec<&Repeated> = unanswered(story, end).collect();
    let hidden = story
        .drops
        .iter()
        .find(|drop| drop.by == end.other() && drop.says_too_big());
    let most: u64 = again.iter().map(|repeated| repeated.times).max()?;
    if hidden.is_none() {
        // Something small passed: at least the handshake was acknowledged.
        let small_passed = other
            .is_some_and(|trail| trail.acked.is_some() && (trail.went_on || trail.openings > 0));
        let large = large(own?, other);
        let are_large = again.iter().all(|repeated| repeated.bytes >= large);
        if !are_large || most < 2 || !small_passed {
            return None;
        }
    }
    let smallest = again.iter().map(|repeated| repeated.bytes).min()?;
    let times = again.iter().map(|repeated| repeated.times).sum();
    let times = words::several(times, "time", "times");
    let peer = story.address(end.other());
    let mut finding = Finding {
        outcome: Outcome::Timeout,
        code: Code::MtuBlackhole,
        confidence: Confidence::Inferred,
        explanation: format!(
            "large packets to {peer} are lost and small ones arrive: something on the path takes no packets of this size"
        ),
        evidence: vec![format!(
            "segments of {smallest} bytes and more were sent again {times}, and none was acknowledged"
        )],
        rule: None,
        process: None,
        advice: None,
    };
    if let Some(drop) = hidden {
        let told = words::dropped(drop, story.home());
        finding.evidence.insert(
            0,
            format!("the path did say that they are too large: {told}"),
        );
        finding.rule.clone_from(&drop.rule);
        finding.confidence = Confidence::Observed;
        return Some(finding);
    }
    finding.evidence.extend([
        "what was smaller was acknowledged".to_owned(),
        "no ICMP error said that they are too large".to_owned(),
    ]);
    let first_lost = again.iter().map(|repeated| repeated.at).min()?;
    let heard = other.and_then(|trail| trail.last_in);
    if heard.is_none_or(|heard| heard < first_lost) {
        finding.evidence.push(
            "nothing came in since: a path that broke at that moment would look the same"
                .to_owned(),
        );
    }
    Some(finding)
}

/// From how many bytes on a segment of this end is large.
fn large(own: &Trail, other: Option<&Trail>) -> u64 {
    let mss = [own.mss, other.and_then(|trail| trail.mss)]
        .into_iter()
        .flatten()
        .min();
    // Room for timestamps and other options.
    let full = mss.map_or_else(
        || own.largest.min(1460).into(),
        |mss| u64::from(mss).saturating_sub(40),
    );
    (full * LARGE_PERCENT / 100).max(LEAST)
}
