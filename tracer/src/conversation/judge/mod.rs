//! From a story to what became of the conversation.

mod answers;
mod datagrams;
mod errors;
mod established;
mod handshake;
mod local;
mod losses;
mod opening;
mod overflow;
pub(super) mod resets;
mod troubles;

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Scope, ends::UDP, origin::Addresses, story::Story, words};
use crate::event::{Code, Confidence, Outcome, Process, Rule};

/// What became of a conversation, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub outcome: Outcome,
    pub code: Code,
    pub confidence: Confidence,
    pub explanation: String,
    pub evidence: Vec<String>,
    /// The rule that decided.
    pub rule: Option<Rule>,
    /// Whose doing or whose socket it was.
    pub process: Option<Process>,
    /// What to do, where the packet that decided knows better than the code.
    pub advice: Option<String>,
}

/// Evidence that speaks for a loss outside.
const DROPPED_NONE: &str = "this machine dropped none of them";

/// Packets that this machine dropped, and that may have been of any conversation.
pub(super) fn unlisted_drops(unlisted: u64) -> String {
    let packets = words::several(unlisted, "packet", "packets");
    format!("this machine dropped {packets} whose flow is not known: they may have been these")
}

impl Finding {
    /// Takes back what is not certain where this machine dropped packets whose flow is
    /// not known.
    fn doubt(&mut self, story: &Story, unlisted: u64) {
        if ![Code::NoAnswer, Code::PathLoss].contains(&self.code) {
            return;
        }
        self.evidence.retain(|evidence| evidence != DROPPED_NONE);
        self.evidence.push(unlisted_drops(unlisted));
        let what = if self.code == Code::NoAnswer {
            "did not answer"
        } else {
            "answered, and packets were lost"
        };
        self.explanation = format!(
            "{} {what}; whether this machine dropped them is not known",
            story.server
        );
    }

    fn new(outcome: Outcome, code: Code, confidence: Confidence, explanation: String) -> Self {
        Self {
            outcome,
            code,
            confidence,
            explanation,
            evidence: Vec::new(),
            rule: None,
            process: None,
            advice: None,
        }
    }

    fn with(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }
}

/// What a story is judged by, beside itself.
#[derive(Clone, Copy)]
pub(super) struct Court<'a> {
    /// What was watched.
    pub scope: Scope,
    pub addresses: &'a Addresses,
    pub now: Timestamp,
    /// Sightings that were lost.
    pub lost: u64,
    /// Packets that this machine dropped, of which no flow with ports is known.
    pub unlisted: u64,
    /// Overflows of listen queues by namespace.
    pub overflows: &'a HashMap<u32, u64>,
}

/// What became of the conversation; `None` where too little was watched to say.
pub(super) fn judge(story: &Story, court: Court<'_>) -> Option<Finding> {
    let mut finding = match court.scope {
        Scope::Packets => by_packets(story, court),
        Scope::Troubles { knows_drops } => troubles::judge(story, court, knows_drops)?,
    };
    if court.unlisted > 0 {
        finding.doubt(story, court.unlisted);
    }
    finding.evidence.extend(losses::causes(story));
    if finding.process.is_none() {
        let end = story.role().end();
        finding.process = end.and_then(|end| story.sockets.of(end).process.clone());
    }
    if court.lost > 0 && finding.confidence == Confidence::Inferred {
        finding.evidence.push(format!(
            "{} sightings of packets were lost: what is missing here may have been there",
            court.lost
        ));
    }
    Some(finding)
}

/// What became of a conversation whose packets were watched.
fn by_packets(story: &Story, court: Court<'_>) -> Finding {
    let finding = if story.proto == UDP {
        datagrams::judge(story, court)
    } else if story.is_established() {
        established::judge(story, court)
    } else {
        opening::judge(story, court)
    };
    match local::refused(story) {
        Some(drop) if finding.code == Code::NoAnswer => local::finding(story, drop, false, None),
        None if finding.code == Code::NoAnswer => local::astray(story, finding),
        _ => finding,
    }
}
