//! Capturing: set up, look after what changes, and make records at every interval.

use std::{
    future, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use droptrace_types::{Addresses, Config, Sighting};
use tokio::{
    runtime::Handle,
    time::{self, MissedTickBehavior},
};

use super::{
    Failure,
    conversations::{self, Watch},
    follow::Follow,
    memory,
    rules::Rules,
    select, traces,
};
use crate::{
    cli::Trace,
    conversation::Attempt,
    daemon::pace::AFTER_MANY,
    event::Event,
    kernel::{
        btf::Btf,
        layout,
        modules::{self, Modules},
        preflight::{self, Surroundings},
        reasons::Reasons,
        symbols::Symbols,
    },
    nftrace::Traces,
    record::{Comparison, Recorder},
    tracer::{Loader, Setup, Targets, Tracer},
    xtables,
};

/// How often to look for kernel modules that matter.
const FOR_MODULES: Duration = Duration::from_secs(1);

/// Records that are in memory at a time: so few that the allocator need not ask the kernel
/// for them.
const AT_ONCE: usize = 64;

/// Who takes the records, some at a time and in order.
pub type Take<'t> = dyn FnMut(Vec<Event>) -> anyhow::Result<()> + 't;

/// Has its programs in the kernel until it is let go.
pub struct Capture {
    tracer: Tracer,
    recorder: Recorder,
    rules: Rules,
    nftrace: Traces,
    modules: Modules,
    /// The conversations, where they are watched.
    watch: Option<Watch>,
    follow: Follow,
    looks: Option<time::Interval>,
    looks_for_modules: time::Interval,
}

/// What can be said to be wrong before anything is set up.
pub struct Checked {
    filter: Box<droptrace_types::Filter>,
    follow: Follow,
}

/// Looks whether this machine has what the command line names, and whether this user
/// may trace.
///
/// # Errors
///
/// If not.
pub fn check(args: &Trace) -> Result<Checked, Failure> {
    let filter = select::filter(&args.select)?;
    let follow = Follow::new(&args.select)?;
    traces::check(args, &filter)?;
    Surroundings::look()
        .context("cannot read /proc/self/status")?
        .check()
        .map_err(Failure::unable)?;
    Ok(Checked { filter, follow })
}

impl Capture {
    /// Attaches everything. Rules are named from [`Capture::begin`] on.
    ///
    /// # Errors
    ///
    /// If the kernel lacks what it takes, or refuses.
    pub fn start(
        args: &Trace,
        Checked { filter, follow }: Checked,
        runtime: &Handle,
    ) -> Result<Self, Failure> {
        // Reading each of these takes a while, so it is done at the same time.
        let symbols = thread::spawn(Symbols::of_running_kernel);
        let loader = thread::spawn(Loader::default);
        let btf = Btf::of_running_kernel().map_err(Failure::unable)?;
        preflight::check_types(&btf).map_err(Failure::unable)?;
        let reasons = Reasons::from_btf(&btf);
        let selected = select::with_reasons(&args.select, filter, &reasons)?;
        let watching = conversations::watching(args, &selected);
        let layout = layout::layout(&btf).map_err(Failure::unable)?;
        let config = Config {
            filters: selected.filters,
            nf_trace: traces::bit(args, &btf),
            watch: conversations::watch_bits(watching, &selected.filter),
            debug: args.developer.debug_programs.into(),
            ..layout::config(&btf, &reasons)
        };
        let targets = Targets::of(&btf, &config).map_err(Failure::unable)?;
        let conntrack = layout::conntrack(&btf);
        let rule_layout = layout::rules(&btf);
        let xt_layout = xtables::Layout::of(&btf);
        let modules = Modules::new(&btf);
        drop(btf);
        let setup = Setup {
            targets: &targets,
            layout: &layout,
            config: &config,
            filter: &selected.filter,
            reasons: &selected.reasons,
            harmless: &selected.harmless,
            max_flows: args.max_flows,
            conversations: watching,
        };
        let loader = loader
            .join()
            .map_err(|_| Failure::unable(anyhow!("reading the kernel's types has failed")))?;
        let mut tracer = Tracer::start(loader, &setup).map_err(Failure::unable)?;
        let symbols = match symbols.join() {
            Ok(Ok(symbols)) => symbols,
            Ok(Err(error)) => {
                log::warn!("cannot read /proc/kallsyms, so functions have no names: {error}");
                Symbols::default()
            }
            Err(_) => Symbols::default(),
        };
        if symbols.is_empty() {
            log::warn!(
                "the kernel hides its symbols, so functions have no names; CAP_SYSLOG would show \
                 them"
            );
        }
        let left_unread = select::left_unread(args, &selected, watching, &symbols);
        let addresses = Addresses {
            kill_queues: left_unread.start,
            kill_queues_end: left_unread.end,
            ..layout::addresses(&symbols)
        };
        tracer
            .set_addresses(&addresses)
            .context("cannot set up the kernel programs")?;
        if let Some(conntrack) = conntrack {
            tracer
                .set_conntrack(&conntrack)
                .context("cannot set up the kernel programs")?;
        }
        let longest = args.interval.max(AFTER_MANY);
        let mut rules = Rules::new(args.rules, longest, &addresses, &layout);
        let mut recorder = Recorder::new(reasons, symbols);
        let nftrace = traces::start(args, &selected.filter, &mut recorder, runtime);
        if let Some(layout) = rule_layout {
            rules
                .learn(&layout, &mut tracer, &mut recorder)
                .context("cannot set up the kernel programs")?;
        }
        if let Some(layout) = &xt_layout {
            rules.learn_xtables(layout, &mut tracer);
        }
        memory::return_free();
        let watch = tracer
            .watches_conversations()
            .then(|| Watch::new(watching, selected));
        let _inside = runtime.enter();
        Ok(Self {
            tracer,
            recorder,
            rules,
            nftrace,
            modules,
            watch,
            looks: follow.every().map(ticks),
            looks_for_modules: ticks(FOR_MODULES),
            follow,
        })
    }

    /// Looks for the first time at all that changes. From then on records are complete.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        self.follow.update(&mut self.tracer)?;
        self.add_modules()
    }

    /// The tracepoints and functions at which programs run.
    pub fn watched(&self) -> &[&'static str] {
        self.tracer.watched()
    }

    /// The programs' own debug messages.
    ///
    /// # Errors
    ///
    /// If the programs were loaded without them.
    pub fn logger(&mut self) -> anyhow::Result<aya_log::EbpfLogger<&'static dyn log::Log>> {
        Ok(self.tracer.logger()?)
    }

    /// Waits until something has changed, and sees to it. To be called again and again.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub async fn look_after(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            () = self.nftrace.told(), if self.nftrace.is_on() => self.nftrace.hear(),
            () = tick(&mut self.looks) => self.follow.update(&mut self.tracer)?,
            _ = self.looks_for_modules.tick() => self.add_modules()?,
        }
        Ok(())
    }

    /// Learns the types of kernel modules that have been loaded meanwhile.
    fn add_modules(&mut self) -> anyhow::Result<()> {
        let mut tables: Option<xtables::Layout> = None;
        for (module, btf) in self.modules.appeared() {
            self.recorder.add_module(&btf);
            if module == modules::CONNTRACK
                && let Some(layout) = layout::conntrack(&btf)
            {
                self.tracer.set_conntrack(&layout)?;
            }
            if module == modules::NFTABLES
                && let Some(layout) = layout::rules(&btf)
            {
                self.rules
                    .learn(&layout, &mut self.tracer, &mut self.recorder)?;
            }
            if [modules::XTABLES, modules::EBTABLES].contains(&module)
                && let Some(layout) = xtables::Layout::of(&btf)
            {
                tables.get_or_insert(layout).learn(&layout);
            }
        }
        // Once for all of them, since every namespace is looked at.
        if let Some(layout) = &tables {
            self.rules.learn_xtables(layout, &mut self.tracer);
        }
        self.rules.update(&mut self.tracer, &mut self.recorder);
        self.nftrace.look_after();
        Ok(())
    }

    /// Whether records wait for the text of their rules.
    pub fn has_waiting(&self) -> bool {
        self.recorder.has_waiting()
    }

    /// Since when the oldest of them waits.
    pub fn waits_since(&self) -> Option<Instant> {
        self.recorder.waits_since()
    }

    /// Lets no record wait any longer than until then.
    pub fn hurry(&mut self, until: Instant) {
        self.recorder.hurry(until);
    }

    /// Hands over the records that have waited for the text of their rules.
    ///
    /// # Errors
    ///
    /// As `take`.
    pub fn told(&mut self, take: &mut Take<'_>) -> anyhow::Result<()> {
        let told = self.recorder.told();
        if let Some(watch) = &mut self.watch {
            watch.record(&told);
        }
        take(told)
    }

    /// Takes away what was counted, and hands over its records.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; as `take`.
    pub fn step(&mut self, take: &mut Take<'_>) -> anyhow::Result<()> {
        self.nftrace.hear();
        let counted = Instant::now();
        let mut drained = self
            .tracer
            .drain()
            .context("cannot take the counts from the kernel")?;
        self.nftrace.counted(&drained);
        let legacy = self.rules.xtables(&drained, &mut self.tracer);
        self.rules.before(&drained, &mut self.recorder);
        let sightings = std::mem::take(&mut drained.sightings);
        let lost = drained.losses.sightings;
        let mut records = self
            .recorder
            .records(drained, legacy, &self.nftrace, |id| self.tracer.stack(id));
        loop {
            let mut some = Vec::with_capacity(AT_ONCE);
            some.extend(records.by_ref().take(AT_ONCE));
            if some.is_empty() {
                break;
            }
            if let Some(watch) = &mut self.watch {
                watch.record(&some);
            }
            take(some)?;
        }
        drop(records);
        self.see(&sightings, lost, take)?;
        self.nftrace.forget(counted);
        self.rules.after(&mut self.tracer, &mut self.recorder);
        Ok(())
    }

    /// Learns from what was seen of conversations, and says what became of those that
    /// are over; not while records that may tell why are still to come.
    fn see(
        &mut self,
        sightings: &[Sighting],
        lost: u64,
        take: &mut Take<'_>,
    ) -> anyhow::Result<()> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        let mut records = watch.see(sightings, lost, &mut self.recorder);
        if !self.recorder.has_waiting() {
            records.extend(watch.settled());
        }
        take(records)
    }

    /// Learns from an attempt of the tracer's own.
    pub fn attempted(&mut self, attempt: &Attempt) {
        if let Some(watch) = &mut self.watch {
            watch.attempted(attempt);
        }
    }

    /// At the end: says what became of all conversations.
    ///
    /// # Errors
    ///
    /// As `take`.
    pub fn conclude(&mut self, take: &mut Take<'_>) -> anyhow::Result<()> {
        match &mut self.watch {
            Some(watch) => take(watch.conclude()),
            None => Ok(()),
        }
    }

    /// Looks at so many packets a second closely, on each CPU, and lists so many flows in
    /// an interval.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn limit(&mut self, details_per_second: u64, max_flows: u32) -> anyhow::Result<()> {
        self.tracer.list_flows(max_flows);
        let allowed = self.tracer.allow_details(details_per_second);
        allowed.context("cannot tell the kernel programs how much to look at")
    }

    /// How long the kernel programs have run, while the kernel took the time.
    pub fn run_time(&self) -> Duration {
        self.tracer.run_time()
    }

    /// What comparing the rules that several means name came to, where that was asked for.
    pub fn comparison(&self) -> Option<&Comparison> {
        self.recorder.comparison()
    }
}

/// At once, and then every so often.
pub fn ticks(every: Duration) -> time::Interval {
    let mut ticks = time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next tick, for ever if there are none.
pub async fn tick(ticks: &mut Option<time::Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => future::pending().await,
    }
}
