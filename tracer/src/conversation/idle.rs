//! Devices on the path that forget connections which are quiet for long.

use std::time::Duration;

use jiff::Timestamp;

use super::{ends::End, judge::Finding, origin::Addresses, story::Story, words};
use crate::event::Code;

/// Failures that are kept of a destination.
const MAX_FAILED: usize = 64;
/// Fewer connections that fail after a pause prove nothing.
const LEAST_FAILED: usize = 2;
/// The two shortest pauses that failed may differ by this factor.
const SIMILAR: f64 = 2.0;
/// A pause this much (in parts) shorter than one that failed is as long.
const AS_LONG: f64 = 0.02;
/// A pause that is this much (in parts) longer than a known timeout still fits it.
const FITS: f64 = 0.05;

/// Timeouts that are well known.
const KNOWN: [(u64, &str); 6] = [
    (240, "Azure load balancers and NAT have 240 s"),
    (300, "many firewalls have 300 s"),
    (
        350,
        "AWS NAT gateways and Network Load Balancers have 350 s",
    ),
    (600, "Google Cloud has 600 s"),
    (3600, "many firewalls have 3600 s"),
    (
        432_000,
        "Linux connection tracking has 432000 s (nf_conntrack_tcp_timeout_established)",
    ),
];

/// What the connections to a destination did after pauses.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    failed: Vec<Failed>,
    survived: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    pause: Duration,
    /// The last packet of the conversation, where there was no answer.
    unanswered_at: Option<Timestamp>,
}

/// The pause after which the conversation failed, if it may have failed for that.
fn failed(story: &Story, finding: &Finding) -> Option<Failed> {
    let pauses = &story.view()?.pauses;
    match finding.code {
        Code::PathReset | Code::ResetOriginUnknown => Some(Failed {
            pause: pauses.reset?,
            unanswered_at: None,
        }),
        Code::NoAnswer | Code::LocalGiveUp => {
            let own = story.role().end().unwrap_or(End::Client);
            let heard = story.trail(own.other()).and_then(|trail| trail.last_in);
            Some(Failed {
                pause: pauses.unanswered()?,
                unanswered_at: Some(heard.unwrap_or(story.began)),
            })
        }
        _ => None,
    }
}

impl Ledger {
    /// Learns how a conversation took its pauses.
    pub(super) fn learn(&mut self, story: &Story, finding: &Finding) {
        if !story.is_established() {
            return;
        }
        let survived = story.view().and_then(|view| view.pauses.survived);
        self.survived = self.survived.max(survived);
        if let Some(failed) = failed(story, finding)
            && self.failed.len() < MAX_FAILED
        {
            self.failed.push(failed);
        }
    }

    /// How many connections failed after a pause.
    pub(super) fn failures(&self) -> u64 {
        self.failed.len() as u64
    }

    /// The shortest pause that failed, and how many did, if that is for a timeout.
    /// `heard` is when the destination was last heard of: one that is dead loses all
    /// connections, whatever they do.
    fn shortest(&self, heard: Option<Timestamp>) -> Option<(Duration, usize)> {
        let counts = |failed: &&Failed| match failed.unanswered_at {
            None => true,
            Some(at) => heard.is_some_and(|heard| heard > at + failed.pause),
        };
        let mut pauses: Vec<Duration> = self
            .failed
            .iter()
            .filter(counts)
            .map(|failed| failed.pause)
            .collect();
        pauses.sort_unstable();
        if pauses.len() < LEAST_FAILED {
            return None;
        }
        let (shortest, next) = (*pauses.first()?, *pauses.get(1)?);
        let is_similar = next.as_secs_f64() <= shortest.as_secs_f64() * SIMILAR;
        let as_long = shortest.as_secs_f64() * (1.0 - AS_LONG);
        let none_survived = self
            .survived
            .is_none_or(|survived| survived.as_secs_f64() < as_long);
        (is_similar && none_survived).then_some((shortest, pauses.len()))
    }

    /// Turns the finding of a conversation that failed after a pause into that of an
    /// idle timeout, if the others to the same destination say so.
    pub(super) fn explain(&self, story: &Story, finding: &mut Finding, addresses: &Addresses) {
        if !story.is_established() {
            return;
        }
        let (Some(failed), Some((shortest, count))) = (
            failed(story, finding),
            self.shortest(heard(story, addresses)),
        ) else {
            return;
        };
        finding.code = Code::IdleTimeout;
        finding.confidence = crate::event::Confidence::Inferred;
        finding.explanation = format!(
            "something on the path to {} forgets connections that are idle for {} or less: this one was for {}",
            story.server.ip(),
            words::span(shortest),
            words::span(failed.pause)
        );
        let mut evidence = vec![format!(
            "{count} connections failed at their first packet after a pause; the shortest was of {}",
            words::span(shortest)
        )];
        evidence.push(match self.survived {
            Some(survived) => format!(
                "the longest pause that a connection survived was of {}",
                words::span(survived)
            ),
            None => "no connection survived a pause".to_owned(),
        });
        evidence.extend(known(shortest, self.survived).map(ToOwned::to_owned));
        evidence.append(&mut finding.evidence);
        finding.evidence = evidence;
        finding.advice = Some(remedy(shortest));
    }
}

/// When the other end was last heard of.
fn heard(story: &Story, addresses: &Addresses) -> Option<Timestamp> {
    let own = story.role().end().unwrap_or(End::Client);
    addresses.heard(story.home(), story.address(own.other()).ip())
}

/// The well-known timeout that fits.
fn known(shortest: Duration, survived: Option<Duration>) -> Option<&'static str> {
    let shortest = shortest.as_secs_f64();
    let fits = |(seconds, _): &&(u64, &str)| {
        let timeout = Duration::from_secs(*seconds);
        let is_near = (shortest / timeout.as_secs_f64() - 1.0).abs() <= FITS;
        is_near && survived.is_none_or(|survived| survived < timeout)
    };
    KNOWN.iter().find(fits).map(|(_, words)| *words)
}

fn remedy(shortest: Duration) -> String {
    let seconds = (shortest.as_secs_f64() / 2.0).max(1.0);
    format!(
        "let the application, or TCP keepalive (SO_KEEPALIVE with sysctl net.ipv4.tcp_keepalive_time={seconds:.0} or TCP_KEEPIDLE), send something at least every {seconds:.0} s"
    )
}
