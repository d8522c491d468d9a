//! When nftables' own functions are watched: these programs run on packets that
//! pass.

use std::time::{Duration, Instant};

use droptrace_types::{POLICY, Places, VerdictPlaces, XtRule};

use crate::{
    cli::RulesMode,
    kernel::modules,
    record::{ByNftables, Recorder},
    rules::trial,
    tracer::{Drained, Tracer},
};

/// They are watched until nftables has dropped nothing for so long: longer than the
/// longest pause in which a connection attempt repeats its SYN (32 s, with the usual
/// `tcp_syn_retries`), so that what one client sends is told from its second packet
/// to its last.
const LINGER: Duration = Duration::from_secs(40);

/// What has failed is tried again after this time, or when modules have come or gone.
/// So is what is watched without being seen: the module may have gone and come back.
const AGAIN: Duration = Duration::from_secs(60);

/// Who sends packets to a queue that takes none is looked for so often, if it is no rule
/// of nftables.
const IN_VAIN: Duration = Duration::from_secs(600);

/// Whether nftables' own functions are watched.
pub struct Verdicts {
    mode: RulesMode,
    interval: Duration,
    /// The modules whose functions are watched, if they are.
    watched: Option<Vec<String>>,
    /// What was there when it failed, and when that was.
    failed: Option<(Vec<String>, Instant)>,
    /// Since when they are watched.
    since: Instant,
    /// They were not all watched since records were last made.
    is_partial: bool,
    /// When nftables last dropped a packet.
    last_drop: Instant,
    /// When watching for who sends packets to a queue began, if that was no rule of
    /// nftables so far.
    for_queue: Option<Instant>,
}

impl Verdicts {
    pub fn new(mode: RulesMode, interval: Duration) -> Self {
        Self {
            mode,
            interval,
            watched: None,
            failed: None,
            since: Instant::now(),
            is_partial: false,
            last_drop: Instant::now(),
            for_queue: None,
        }
    }

    /// Follows what modules come and go; ends it when it is no longer needed.
    pub fn update(&mut self, tracer: &mut Tracer, recorder: &mut Recorder, places: &mut Places) {
        let Some(watched) = &self.watched else {
            if self.mode == RulesMode::Exact {
                self.begin(tracer, recorder, places);
            }
            return;
        };
        let here = modules::of_nftables();
        let is_gone = |name: &String| name == modules::NFTABLES && !here.contains(name);
        if watched.iter().any(is_gone) {
            self.end(tracer, places, "nf_tables is unloaded");
        } else if *watched != here {
            self.is_partial = true;
            self.watch(tracer, here, places);
        } else if self.mode == RulesMode::Auto && self.last_drop.elapsed() >= LINGER {
            self.end(tracer, places, "nftables has dropped nothing for a while");
        }
    }

    /// That nobody was seen to decide means something only if all that may decide is
    /// watched: no module has come since.
    pub fn before(&mut self, drained: &Drained, recorder: &mut Recorder) {
        let is_partial = std::mem::take(&mut self.is_partial);
        let mut rules = drained.counts.iter().map(|(key, ..)| key.cause.rule);
        let is_policy = |rule: u64| rule & POLICY != 0 && XtRule::unpack(rule).is_none();
        if rules.any(is_policy) {
            let are_same = |watched: &Vec<String>| *watched == modules::of_nftables();
            let is_whole = self.watched.as_ref().is_some_and(are_same);
            recorder.trust_policies(is_whole && !is_partial);
        }
    }

    /// Begins where a rule was not found.
    pub fn after(&mut self, tracer: &mut Tracer, recorder: &mut Recorder, places: &mut Places) {
        let ByNftables {
            any,
            mut unnamed,
            queued,
        } = recorder.by_nftables();
        if any {
            self.last_drop = Instant::now();
            self.for_queue = None;
        }
        if queued && self.for_queue.is_none_or(|at| at.elapsed() >= IN_VAIN) {
            (self.last_drop, self.for_queue) = (Instant::now(), Some(Instant::now()));
            unnamed = true;
        }
        if !unnamed || matches!(self.mode, RulesMode::Cheap | RulesMode::Off) {
            return;
        }
        if self.watched.is_some() {
            if self.since.elapsed() < AGAIN {
                return;
            }
            self.end(tracer, places, "a rule was not seen");
        }
        self.begin(tracer, recorder, places);
    }

    fn begin(&mut self, tracer: &mut Tracer, recorder: &mut Recorder, places: &mut Places) {
        let here = modules::of_nftables();
        let is_known_to_fail =
            |(then, at): &(Vec<String>, Instant)| *then == here && at.elapsed() < AGAIN;
        if self.failed.as_ref().is_some_and(is_known_to_fail) {
            return;
        }
        if self.watch(tracer, here, places) {
            recorder.read_rules(self.interval);
        }
    }

    /// Watches the functions that are there; false if that fails.
    fn watch(&mut self, tracer: &mut Tracer, here: Vec<String>, places: &mut Places) -> bool {
        match trial::verdicts::watch(tracer, places) {
            Ok(()) => {
                log::info!("nftables' functions are watched, to see which rule drops a packet");
                self.watched = Some(here);
                self.failed = None;
                self.since = Instant::now();
                true
            }
            Err(error) => {
                // While nftables is not there, nothing is missing.
                if here.is_empty() {
                    log::debug!("nftables' functions are not watched: {error}");
                } else {
                    log::info!(
                        "which rule of nftables drops a packet cannot be seen at its functions: \
                         {error}"
                    );
                }
                self.end(tracer, places, "that failed");
                self.failed = Some((here, Instant::now()));
                false
            }
        }
    }

    fn end(&mut self, tracer: &mut Tracer, places: &mut Places, why: &str) {
        if self.watched.take().is_some() {
            log::info!("nftables' functions are no longer watched: {why}");
        }
        places.verdict = VerdictPlaces::default();
        if let Err(error) = tracer.rules().set_places(places) {
            log::warn!("the kernel cannot be told where rules stand: {error}");
        }
        tracer.unwatch_verdicts();
    }
}
