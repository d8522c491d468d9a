//! Tracing: set up, follow, drain at every interval, end.

use std::{
    future, io,
    os::fd::{AsRawFd as _, RawFd},
    pin::pin,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use droptrace_types::{Config, Sighting};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{self, MissedTickBehavior},
};

use super::{
    Failure,
    conversations::{self, Watch},
    follow::Follow,
    probe::{self, Attempts},
    rules::Rules,
    select::{self, Selected},
    traces,
};
use crate::{
    cli::Trace,
    conversation::Attempt,
    event::{Class, Event, Outcome},
    kernel::{
        btf::Btf,
        layout,
        modules::{self, Modules},
        preflight::{self, Surroundings},
        reasons::Reasons,
        symbols::Symbols,
    },
    nftrace::Traces,
    output::{FileSink, Format, Options, Output, Totals},
    owner::netns,
    record::{Comparison, Recorder},
    tracer::{DETAILS_PER_SECOND, Setup, Tracer, Watching},
    xtables,
};

/// How often to look for kernel modules that matter.
const FOR_MODULES: Duration = Duration::from_secs(1);

/// How often to look whether records still have to wait for the text of their
/// rules.
const FOR_RULES: Duration = Duration::from_millis(10);

/// At the end they wait so long at most; another signal ends it at once.
const AT_THE_END: Duration = Duration::from_secs(10);

/// A wait that is longer is said.
const SHORT: Duration = Duration::from_secs(1);

/// Records that are in memory at a time.
const AT_ONCE: usize = 256;

/// Traces until a signal, the end of `--duration` or `--count`, or until
/// nobody reads the output any more.
///
/// # Errors
///
/// If the command line asks for what is not there, this kernel or user cannot
/// trace, or something fails on the way.
pub fn trace(args: &Trace) -> Result<(), Failure> {
    run(args, None).map(|_| ())
}

/// As [`trace`]; where attempts are made, until the last of them has ended, and what
/// became of them is the answer.
pub(super) fn run(args: &Trace, attempts: Option<Attempts>) -> Result<Option<Outcome>, Failure> {
    let started = Instant::now();
    let filter = select::filter(&args.select)?;
    let follow = Follow::new(&args.select)?;
    traces::check(args, &filter)?;
    Surroundings::look()
        .context("cannot read /proc/self/status")?
        .check()
        .map_err(Failure::unable)?;
    let sink = match &args.output {
        Some(path) => FileSink::create(path),
        None => FileSink::stdout(),
    }
    .map_err(anyhow::Error::new)?;
    // Reading the symbols takes the kernel a while; meanwhile, the types.
    let symbols = thread::spawn(Symbols::of_running_kernel);
    let btf = Btf::of_running_kernel().map_err(Failure::unable)?;
    preflight::check_types(&btf).map_err(Failure::unable)?;
    let reasons = Reasons::from_btf(&btf);
    let selected = select::with_reasons(&args.select, filter, &reasons)?;
    let watching = conversations::watching(args, &selected);
    let layout = layout::layout(&btf).map_err(Failure::unable)?;
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
            "the kernel hides its symbols, so functions have no names; CAP_SYSLOG would show them"
        );
    }
    let config = Config {
        filters: selected.filters,
        details_per_second: DETAILS_PER_SECOND,
        nf_trace: traces::bit(args, &btf),
        watch: conversations::watch_bits(watching, &selected.filter),
        ..layout::config(&btf, &symbols, &reasons)
    };
    let conntrack = layout::conntrack(&btf);
    let rule_layout = layout::rules(&btf);
    let xt_layout = xtables::Layout::of(&btf);
    let modules = Modules::new(&btf);
    drop(btf);
    let mut tracer = start(args, &layout, &config, &selected, watching)?;
    if let Some(conntrack) = conntrack {
        tracer
            .set_conntrack(&conntrack)
            .context("cannot set up the kernel programs")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let mut rules = Rules::new(args.rules, args.interval, &config, &layout);
    let mut recorder = Recorder::new(reasons, symbols);
    let nftrace = traces::start(args, &selected.filter, &mut recorder, &runtime);
    if let Some(layout) = rule_layout {
        rules
            .learn(&layout, &mut tracer, &mut recorder)
            .context("cannot set up the kernel programs")?;
    }
    if let Some(layout) = &xt_layout {
        rules.learn_xtables(layout, &mut tracer);
    }
    return_memory();
    let options = Options {
        all: args.all,
        color: args.color,
        verdicts_only: attempts.is_some(),
        netns: Some(netns::own()),
        ..Options::from_env(args.format)
    };
    let watch = tracer
        .watches_conversations()
        .then(|| Watch::new(watching, selected));
    let run = Run {
        args,
        started,
        tracer,
        recorder,
        rules,
        nftrace,
        modules,
        watch,
        attempts,
        outcome: None,
        output: Output::new(sink, options),
        follow,
        shown: 0,
    };
    match runtime.block_on(run.go()) {
        Err(error) if is_closed_pipe(&error) => Ok(None),
        other => Ok(other?),
    }
}

fn start(
    args: &Trace,
    layout: &droptrace_types::Layout,
    config: &Config,
    selected: &Selected,
    watching: Watching,
) -> Result<Tracer, Failure> {
    Tracer::start(&Setup {
        layout,
        config,
        filter: &selected.filter,
        reasons: &selected.reasons,
        harmless: &selected.harmless,
        max_flows: args.max_flows,
        conversations: watching,
        debug: args.developer.debug_programs,
    })
    .map_err(Failure::unable)
}

/// Gives the kernel back what only setting up needed: two readings of its type
/// information, which are larger than all that comes later.
fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A run under way.
struct Run<'a> {
    args: &'a Trace,
    /// When the process began to set up.
    started: Instant,
    tracer: Tracer,
    recorder: Recorder,
    rules: Rules,
    nftrace: Traces,
    modules: Modules,
    /// The conversations, where they are watched.
    watch: Option<Watch>,
    /// Those that the tracer makes itself.
    attempts: Option<Attempts>,
    /// What became of the conversations that most need attention.
    outcome: Option<Outcome>,
    output: Output<FileSink>,
    follow: Follow<'a>,
    /// Packets shown so far.
    shown: u64,
}

impl Run<'_> {
    async fn go(mut self) -> anyhow::Result<Option<Outcome>> {
        let started = Instant::now();
        let mut end = pin!(end(self.args.duration)?);
        self.follow.update(&mut self.tracer)?;
        self.add_modules()?;
        let what = if self.attempts.is_some() {
            "trying"
        } else {
            "tracing"
        };
        eprintln!(
            "droptrace: {what} {} (attached after {} ms); Ctrl-C ends",
            self.args.select.text().as_deref().unwrap_or("all packets"),
            self.started.elapsed().as_millis(),
        );
        if let Some(attempts) = &mut self.attempts {
            attempts.begin()?;
        }
        let mut logger = if self.args.developer.debug_programs {
            Some(self.tracer.logger()?)
        } else {
            None
        };
        let mut steps = ticks(self.args.interval);
        let mut looks = self.follow.every().map(ticks);
        let mut looks_for_modules = ticks(FOR_MODULES);
        let mut looks_for_rules = ticks(FOR_RULES);
        loop {
            tokio::select! {
                () = &mut end => break,
                _ = steps.tick() => {
                    self.step()?;
                    if let Some(logger) = &mut logger {
                        logger.flush();
                    }
                    if self.is_over() {
                        break;
                    }
                }
                _ = looks_for_rules.tick(), if self.recorder.has_waiting() => {
                    self.show_told()?;
                    if self.is_over() {
                        break;
                    }
                }
                () = self.nftrace.told(), if self.nftrace.is_on() => self.nftrace.hear(),
                () = tick(&mut looks) => self.follow.update(&mut self.tracer)?,
                _ = looks_for_modules.tick() => self.add_modules()?,
                attempt = probe::next(&mut self.attempts) => match attempt {
                    Some(attempt) => self.attempted(&attempt),
                    None => break,
                }
            }
        }
        self.step()?;
        self.wait_for_rules().await?;
        self.conclude()?;
        self.output.finish(&Totals {
            duration: started.elapsed(),
            filter: self.args.select.text(),
            watched: self
                .tracer
                .watched()
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
        })?;
        let hidden = self.output.hidden();
        if hidden > 0 && self.args.format == Format::Json {
            eprintln!(
                "droptrace: {hidden} packets of normal clean-up not written (--all writes them too)"
            );
        }
        self.recorder.comparison().map_or(Ok(()), compared)?;
        Ok(self.outcome)
    }

    fn attempted(&mut self, attempt: &Attempt) {
        if let Some(watch) = &mut self.watch {
            watch.attempted(attempt);
        }
    }

    /// Says what became of the conversations.
    fn conclude(&mut self) -> anyhow::Result<()> {
        if let Some(watch) = &mut self.watch {
            let verdicts = watch.conclude();
            self.outcome = outcome_of(&verdicts).or(self.outcome);
            self.output.events(&verdicts)?;
        }
        Ok(())
    }

    /// At the end: waits for the text of rules that is still being read.
    async fn wait_for_rules(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.recorder.hurry(began + AT_THE_END);
        let mut again = pin!(end(None)?);
        let (mut is_said, mut is_over) = (false, false);
        while self.recorder.has_waiting() {
            tokio::select! {
                () = &mut again, if !is_over => {
                    self.recorder.hurry(Instant::now());
                    is_over = true;
                }
                () = time::sleep(FOR_RULES) => {}
            }
            self.show_told()?;
            if !is_said && began.elapsed() > SHORT && self.recorder.has_waiting() {
                eprintln!("droptrace: reading the text of rules; Ctrl-C once more ends at once");
                is_said = true;
            }
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

    /// Whether enough was shown, or nobody looks any more.
    fn is_over(&self) -> bool {
        self.args.count.is_some_and(|count| self.shown >= count)
            || (self.args.output.is_none() && is_closed(io::stdout().as_raw_fd()))
    }

    /// Shows the records that have waited for the text of their rules.
    fn show_told(&mut self) -> anyhow::Result<()> {
        let told = self.recorder.told();
        if let Some(watch) = &mut self.watch {
            watch.record(&told);
        }
        self.output.events(&told)?;
        self.shown += packets_shown(&told, self.args.all);
        Ok(())
    }

    /// Learns from what was seen of conversations, and says what became of those that
    /// are over; not while records that may tell why are still to come.
    fn see(&mut self, sightings: &[Sighting], lost: u64) -> anyhow::Result<()> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        let mut records = watch.see(sightings, lost, &mut self.recorder);
        if !self.recorder.has_waiting() {
            let verdicts = watch.settled();
            self.outcome = outcome_of(&verdicts).or(self.outcome);
            records.extend(verdicts);
        }
        Ok(self.output.events(&records)?)
    }

    /// Takes away what was counted and shows it.
    fn step(&mut self) -> anyhow::Result<()> {
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
            let some: Vec<Event> = records.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            if let Some(watch) = &mut self.watch {
                watch.record(&some);
            }
            self.output.events(&some)?;
            self.shown += packets_shown(&some, self.args.all);
        }
        drop(records);
        self.see(&sightings, lost)?;
        self.nftrace.forget(counted);
        self.rules.after(&mut self.tracer, &mut self.recorder);
        self.output.interval_ends()?;
        Ok(())
    }
}

/// That of the last verdict.
fn outcome_of(verdicts: &[Event]) -> Option<Outcome> {
    let last = verdicts.last()?.verdict.as_ref()?;
    Some(last.outcome)
}

/// Says how the rules that several means named compare.
fn compared(comparison: &Comparison) -> anyhow::Result<()> {
    for difference in &comparison.differences {
        eprintln!("droptrace: rule by {difference}");
    }
    eprintln!("droptrace: {}", comparison.summary());
    let differing = comparison.named - comparison.agreed;
    if differing > 0 {
        bail!(
            "two means differ about the rules of {differing} records (above); this is a bug of \
             droptrace: please report it, with the rule set (nft -a list ruleset)"
        );
    }
    Ok(())
}

/// How many packets of these records are shown.
fn packets_shown(records: &[Event], all: bool) -> u64 {
    let shown = records.iter().filter(|record| is_shown(record, all));
    shown.map(|record| record.packets).sum()
}

fn is_shown(record: &Event, all: bool) -> bool {
    all || record
        .reason
        .as_ref()
        .is_none_or(|reason| reason.class != Class::Benign)
}

fn ticks(every: Duration) -> time::Interval {
    let mut ticks = time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn tick(ticks: &mut Option<time::Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => future::pending().await,
    }
}

/// Ends with the first of: a signal that asks to end, the given time.
fn end(duration: Option<Duration>) -> anyhow::Result<impl Future<Output = ()>> {
    let wait_for = |kind| signal(kind).context("cannot wait for signals");
    let mut interrupt = wait_for(SignalKind::interrupt())?;
    let mut terminate = wait_for(SignalKind::terminate())?;
    let mut hangup = wait_for(SignalKind::hangup())?;
    Ok(async move {
        let over = async {
            match duration {
                Some(duration) => time::sleep(duration).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = over => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// Whether the reader of a pipe has gone, which otherwise only the next write
/// would tell.
fn is_closed(fd: RawFd) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };
    // SAFETY: one valid `pollfd`; returns at once.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & libc::POLLERR != 0
}
