//! Sees to it that the kernel side finds the rules that drop packets.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use aya::maps::MapError;
use droptrace_types::{Config, RuleLayout, XtRule};

use crate::{
    cli::RulesMode,
    rules::place,
    tracer::{Drained, Tracer},
    xtables::{self, Dropped, Tables},
};

/// A trial that has become invalid is repeated at most so often.
const AGAIN: Duration = Duration::from_secs(10);

/// Whether and how rules are found.
pub struct Rules {
    mode: RulesMode,
    /// What rules look like, once that is known.
    layout: Option<RuleLayout>,
    last_trial: Instant,
    tables: Tables,
    /// Where the function that drops packets for xtables' rules begins, and its length.
    hook_slow: (u64, u64),
}

impl Rules {
    pub fn new(mode: RulesMode, config: &Config) -> Self {
        Self {
            mode,
            layout: None,
            last_trial: Instant::now(),
            tables: Tables::default(),
            hook_slow: (config.hook_slow, config.hook_slow_len.into()),
        }
    }

    /// Learns what rules look like. From now on records name the rule, if this
    /// kernel lets it be found.
    pub fn learn(&mut self, layout: &RuleLayout, tracer: &mut Tracer) -> Result<(), MapError> {
        if self.mode == RulesMode::Off {
            return Ok(());
        }
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

    /// Learns what xtables' tables look like. From now on records name their rules.
    pub fn learn_xtables(&mut self, layout: xtables::Layout, tracer: &mut Tracer) {
        if self.mode != RulesMode::Off {
            self.tables.learn(layout, tracer.xtables());
        }
    }

    /// The xtables rules that dropped packets of an interval, by
    /// [`droptrace_types::Cause::rule`].
    pub fn xtables(
        &mut self,
        drained: &Drained,
        tracer: &mut Tracer,
    ) -> HashMap<u64, xtables::Found> {
        let (start, len) = self.hook_slow;
        let dropped = drained.counts.iter().filter_map(|(key, ..)| {
            let cause = &key.cause;
            (cause.location.wrapping_sub(start) <= len).then(|| Dropped {
                netns: cause.netns,
                rule: XtRule::unpack(cause.rule),
            })
        });
        let dropped: Vec<Dropped> = dropped.collect();
        let skipped = drained.losses.skipped_drops != 0;
        self.tables.find(&dropped, skipped, tracer.xtables())
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
