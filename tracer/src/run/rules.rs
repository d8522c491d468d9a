//! Sees to it that the kernel side finds the rules that drop packets.

use std::time::{Duration, Instant};

use aya::maps::MapError;
use droptrace_types::RuleLayout;

use crate::{cli::RulesMode, record::Recorder, rules::place, tracer::Tracer};

/// A trial that has become invalid is repeated at most so often.
const AGAIN: Duration = Duration::from_secs(10);

/// Whether and how rules are found.
pub struct Rules {
    mode: RulesMode,
    /// After what happened, records come at the latest.
    interval: Duration,
    /// What rules look like, once that is known.
    layout: Option<RuleLayout>,
    last_trial: Instant,
}

impl Rules {
    pub fn new(mode: RulesMode, interval: Duration) -> Self {
        Self {
            mode,
            interval,
            layout: None,
            last_trial: Instant::now(),
        }
    }

    /// Learns what rules look like. From now on records name the rule, if this
    /// kernel lets it be found.
    pub fn learn(
        &mut self,
        layout: &RuleLayout,
        tracer: &mut Tracer,
        recorder: &mut Recorder,
    ) -> Result<(), MapError> {
        if self.mode == RulesMode::Off {
            return Ok(());
        }
        recorder.read_rules(self.interval);
        tracer.rules().set_layout(layout)?;
        self.layout = Some(*layout);
        self.try_out(tracer);
        Ok(())
    }

    /// A rule dropped a packet and was not found. The stack may have another form
    /// by now, as when another tracer was attached to the same tracepoint.
    pub fn missed(&mut self, tracer: &mut Tracer) {
        if self.layout.is_some() && self.last_trial.elapsed() >= AGAIN {
            self.try_out(tracer);
        }
    }

    fn try_out(&mut self, tracer: &mut Tracer) {
        match place::find(tracer.rules()) {
            Ok(true) => {}
            Ok(false) => log::info!(
                "records name no nftables rules: this kernel keeps the rule that drops a packet \
                 nowhere that a trial could find"
            ),
            Err(error) => log::info!(
                "records name no nftables rules: the trial that shows where the kernel keeps \
                 them failed: {error}"
            ),
        }
        self.last_trial = Instant::now();
    }
}
