//! What happened, in order of time, within bounds.

use jiff::Timestamp;

use crate::event::{Step, utc};

/// Steps that are kept.
const MAX_STEPS: usize = 64;
/// Those of the beginning, which stay; of the others the latest do.
const FIRST: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Timeline {
    steps: Vec<Kept>,
    left_out: u64,
}

#[derive(Debug)]
struct Kept {
    at: Timestamp,
    /// The namespace that saw it, if it matters only there.
    netns: Option<u32>,
    what: String,
}

impl Timeline {
    /// Adds a step that counts if `netns` turns out to be the conversation's home.
    pub(super) fn add_in(&mut self, netns: u32, at: Timestamp, what: String) {
        self.push(Kept {
            at,
            netns: Some(netns),
            what,
        });
    }

    /// Adds a step.
    pub(super) fn add(&mut self, at: Timestamp, what: String) {
        self.push(Kept {
            at,
            netns: None,
            what,
        });
    }

    fn push(&mut self, step: Kept) {
        if self.steps.len() == MAX_STEPS {
            self.steps.remove(FIRST);
            self.left_out = self.left_out.saturating_add(1);
        }
        self.steps.push(step);
    }

    /// What was seen at `home`, and how many steps are missing.
    pub(super) fn at_home(&self, home: Option<u32>) -> (Vec<Step>, u64) {
        let mut steps: Vec<&Kept> = self
            .steps
            .iter()
            .filter(|step| step.netns.is_none() || step.netns == home)
            .collect();
        steps.sort_by_key(|step| step.at);
        let steps = steps.into_iter().map(|step| Step {
            time: utc(step.at),
            what: step.what.clone(),
        });
        (steps.collect(), self.left_out)
    }
}
