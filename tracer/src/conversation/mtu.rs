//! Paths that lose large packets and do not say so.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    facts::{Kind, Repeated},
    judge::Finding,
    story::{End, Story, between},
    trail::is_after,
    words,
};
use crate::event::{Code, Confidence, Outcome};

/// Less of the largest segment (in percent) is not large.
const LARGE_PERCENT: u64 = 85;
/// What a path must take in any case, without headers: a smaller segment is not large.
const LEAST: u64 = 500;
/// How long after "fragmentation needed" segments are sent again because of it.
const ADAPTS: Duration = Duration::from_secs(1);

/// When the path said how large packets may be.
pub(super) fn adapted_at(story: &Story) -> Option<Timestamp> {
    let home = story.home();
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

/// What `end` sent is lost where it is large, and only there.
pub(super) fn black_hole(story: &Story, end: End) -> Option<Finding> {
    if adapted_at(story).is_some() {
        return None;
    }
    let (own, other) = (story.trail(end)?, story.trail(end.other()));
    let acked = other.and_then(|trail| trail.acked);
    let again: Vec<&Repeated> = story
        .repeated
        .iter()
        .filter(|repeated| {
            repeated.by == end
                && repeated.kind == Kind::Other
                && !matches!((acked, repeated.seq), (Some(acked), Some(seq)) if is_after(acked, seq))
        })
        .collect();
    let mss = [own.mss, other.and_then(|trail| trail.mss)]
        .into_iter()
        .flatten()
        .min();
    // Room for timestamps and other options.
    let full = mss.map_or_else(
        || own.largest.min(1460).into(),
        |mss| u64::from(mss).saturating_sub(40),
    );
    let large = (full * LARGE_PERCENT / 100).max(LEAST);
    let are_large = !again.is_empty() && again.iter().all(|repeated| repeated.bytes >= large);
    let most: u64 = again.iter().map(|repeated| repeated.times).max()?;
    // Something small passed: at least the handshake was acknowledged.
    let small_passed =
        acked.is_some() && other.is_some_and(|trail| trail.went_on || trail.openings > 0);
    if !are_large || most < 2 || !small_passed {
        return None;
    }
    let smallest = again.iter().map(|repeated| repeated.bytes).min()?;
    let hidden = story.drops.iter().find(|drop| {
        drop.by == end.other() && matches!(drop.kind, Kind::Icmp(3, 4) | Kind::Icmp(2, _))
    });
    let peer = story.address(end.other());
    let mut finding = Finding {
        outcome: Outcome::Timeout,
        code: Code::MtuBlackhole,
        confidence: Confidence::Inferred,
        explanation: format!(
            "large packets to {peer} are lost and small ones arrive: something on the path takes no packets of this size"
        ),
        evidence: vec![
            format!(
                "segments of {smallest} bytes and more were sent again {}, and none was acknowledged",
                words::several(
                    again.iter().map(|repeated| repeated.times).sum(),
                    "time",
                    "times"
                )
            ),
            "what was smaller was acknowledged".to_owned(),
        ],
        rule: None,
        process: None,
        advice: None,
    };
    match hidden {
        Some(drop) => {
            let told = words::dropped(drop, story.home());
            finding
                .evidence
                .push(format!("the path did say that they are too large: {told}"));
            finding.rule.clone_from(&drop.rule);
            finding.confidence = Confidence::Observed;
        }
        None => finding
            .evidence
            .push("no ICMP error said that they are too large".to_owned()),
    }
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
