//! Sees to it that the kernel side finds out who drops packets in netfilter.

use std::{
    collections::HashMap,
    ops::Range,
    time::{Duration, Instant},
};

use aya::maps::MapError;
use droptrace_types::{Addresses, Layout, Places, RuleLayout, XtRule};

use super::verdicts::Verdicts;
use crate::{
    cli::RulesMode,
    kernel::modules,
    record::Recorder,
    rules::trial::{self, Known},
    tracer::{Drained, Tracer},
    xtables::{self, Dropped, Tables},
};

/// A trial that has become invalid is repeated at most so often.
const AGAIN: Duration = Duration::from_secs(10);

/// Whether and how rules are found.
pub struct Rules {
    mode: RulesMode,
    /// After what happened, records come at the latest.
    interval: Duration,
    known: Known,
    /// More is known than at the last trial.
    is_outdated: bool,
    last_trial: Instant,
    /// What the kernel side is told.
    places: Places,
    verdicts: Verdicts,
    tables: Tables,
    /// Where bridges free frames.
    bridge_pre: Range<u64>,
}

impl Rules {
    pub fn new(
        mode: RulesMode,
        interval: Duration,
        addresses: &Addresses,
        layout: &Layout,
    ) -> Self {
        Self {
            mode,
            interval,
            known: Known::new(addresses, layout),
            is_outdated: true,
            last_trial: Instant::now(),
            places: Places::default(),
            verdicts: Verdicts::new(mode, interval),
            tables: Tables::default(),
            bridge_pre: addresses.bridge_pre..addresses.bridge_pre_end,
        }
    }

    /// Learns what rules of nftables look like.
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
        self.known.has_rules = true;
        self.is_outdated = true;
        Ok(())
    }

    /// Makes a trial where something was learnt. From then on records say who
    /// dropped a packet in netfilter, as far as this kernel lets it be found. To be
    /// called from time to time.
    pub fn update(&mut self, tracer: &mut Tracer, recorder: &mut Recorder) {
        if self.mode == RulesMode::Off {
            return;
        }
        let has_appeared = !self.known.has_nftables && modules::is_loaded(modules::NFTABLES);
        if self.is_outdated || has_appeared {
            self.try_out(tracer);
        }
        self.verdicts.update(tracer, recorder, &mut self.places);
    }

    /// What nftables decided may be missing in these; to be called before they become
    /// records.
    pub fn before(&mut self, drained: &Drained, recorder: &mut Recorder) {
        self.verdicts.before(drained, recorder);
    }

    /// Those are records now.
    pub fn after(&mut self, tracer: &mut Tracer, recorder: &mut Recorder) {
        if recorder.missed_a_rule() {
            self.missed(tracer);
        }
        self.verdicts.after(tracer, recorder, &mut self.places);
    }

    /// Something in netfilter dropped a packet and was not found. The stack may
    /// have another form by now, as when another tracer was attached to the same
    /// tracepoint.
    fn missed(&mut self, tracer: &mut Tracer) {
        if self.mode != RulesMode::Off && self.last_trial.elapsed() >= AGAIN {
            self.try_out(tracer);
        }
    }

    /// Learns what xtables' tables look like. From now on records name their rules.
    pub fn learn_xtables(&mut self, layout: &xtables::Layout, tracer: &mut Tracer) {
        if self.mode != RulesMode::Off {
            let layout = if self.bridge_pre.is_empty() {
                *layout
            } else {
                layout.with_prerouting()
            };
            self.tables.learn(&layout, tracer.xtables());
        }
    }

    /// The xtables rules that dropped packets of an interval, by
    /// [`droptrace_types::Cause::rule`].
    pub fn xtables(
        &mut self,
        drained: &Drained,
        tracer: &mut Tracer,
    ) -> HashMap<u64, xtables::Found> {
        let (start, end) = self.known.nf_hook_slow;
        let dropped = drained.counts.iter().filter_map(|(key, ..)| {
            let cause = &key.cause;
            let is_in = |start, end| start < cause.location && cause.location <= end;
            let is_by_hook = is_in(start, end);
            let is_by_bridge = is_in(self.bridge_pre.start, self.bridge_pre.end);
            (is_by_hook || is_by_bridge).then(|| Dropped {
                netns: cause.netns,
                rule: XtRule::unpack(cause.rule),
                is_by_hook,
            })
        });
        let dropped: Vec<Dropped> = dropped.collect();
        let skipped = drained.losses.skipped_drops != 0;
        self.tables.find(&dropped, skipped, tracer.xtables())
    }

    fn try_out(&mut self, tracer: &mut Tracer) {
        self.known.has_nftables = self.known.has_rules || modules::is_loaded(modules::NFTABLES);
        let found = trial::find(tracer.rules(), &self.known);
        self.places = Places {
            verdict: self.places.verdict,
            ..found.as_ref().copied().unwrap_or_default()
        };
        if let Err(error) = tracer.rules().set_places(&self.places) {
            log::warn!("the kernel cannot be told where rules stand: {error}");
        }
        match found {
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
