//! Sees to it that the kernel side finds out who drops packets in netfilter.

use std::time::{Duration, Instant};

use aya::maps::MapError;
use droptrace_types::{Config, Layout, RuleLayout};

use crate::{
    cli::RulesMode,
    kernel::modules,
    rules::trial::{self, Known},
    tracer::Tracer,
};

/// A trial that has become invalid is repeated at most so often.
const AGAIN: Duration = Duration::from_secs(10);

/// Whether and how rules are found.
pub struct Rules {
    mode: RulesMode,
    known: Known,
    /// More is known than at the last trial.
    is_outdated: bool,
    last_trial: Instant,
}

impl Rules {
    pub fn new(mode: RulesMode, config: &Config, layout: &Layout) -> Self {
        Self {
            mode,
            known: Known::new(config, layout),
            is_outdated: true,
            last_trial: Instant::now(),
        }
    }

    /// Learns what rules of nftables look like.
    pub fn learn(&mut self, layout: &RuleLayout, tracer: &mut Tracer) -> Result<(), MapError> {
        tracer.rules().set_layout(layout)?;
        self.known.has_rules = true;
        self.is_outdated = true;
        Ok(())
    }

    /// Makes a trial where something was learnt. From then on records say who
    /// dropped a packet in netfilter, as far as this kernel lets it be found.
    pub fn update(&mut self, tracer: &mut Tracer) {
        if self.mode == RulesMode::Auto && self.is_outdated {
            self.try_out(tracer);
        }
    }

    /// Something in netfilter dropped a packet and was not found. The stack may
    /// have another form by now, as when another tracer was attached to the same
    /// tracepoint.
    pub fn missed(&mut self, tracer: &mut Tracer) {
        if self.mode == RulesMode::Auto && self.last_trial.elapsed() >= AGAIN {
            self.try_out(tracer);
        }
    }

    fn try_out(&mut self, tracer: &mut Tracer) {
        self.known.has_nftables = self.known.has_rules || modules::is_loaded(modules::NFTABLES);
        match trial::find(tracer.rules(), &self.known) {
            Ok(places) => {
                log::debug!("who drops packets in netfilter is found at {places:?}");
                if self.known.has_rules && places.chain.is_known == 0 {
                    log::info!(
                        "records name no nftables rules: this kernel keeps the rule that drops \
                         a packet nowhere that a trial could find"
                    );
                }
            }
            Err(error) => log::info!(
                "records do not say who in netfilter dropped a packet: the trial that shows \
                 where the kernel keeps that failed: {error}"
            ),
        }
        self.is_outdated = false;
        self.last_trial = Instant::now();
    }
}
