//! Tracing: set up, follow, drain at every interval, end.

use std::{
    future, io,
    os::fd::{AsRawFd as _, RawFd},
    pin::pin,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use droptrace_types::Config;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{self, MissedTickBehavior},
};

use super::{
    Failure,
    follow::Follow,
    rules::Rules,
    select::{self, Selected},
};
use crate::{
    cli::Trace,
    event::{Class, Event},
    kernel::{
        btf::Btf,
        layout,
        modules::{self, Modules},
        preflight::{self, Surroundings},
        reasons::Reasons,
        symbols::Symbols,
    },
    output::{FileSink, Format, Options, Output, Totals},
    owner::netns,
    record::Recorder,
    tracer::{DETAILS_PER_SECOND, Setup, Tracer},
    xtables,
};

/// How often to look for kernel modules that matter.
const FOR_MODULES: Duration = Duration::from_secs(1);

/// How often to look whether records still have to wait for the text of their
/// rules.
const FOR_RULES: Duration = Duration::from_millis(10);

/// At the end they wait so long at most.
const AT_THE_END: Duration = Duration::from_secs(4);

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
    let started = Instant::now();
    let filter = select::filter(&args.select)?;
    let follow = Follow::new(&args.select)?;
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
        ..layout::config(&btf, &symbols, &reasons)
    };
    let conntrack = layout::conntrack(&btf);
    let rule_layout = layout::rules(&btf);
    let xt_layout = xtables::Layout::of(&btf);
    let modules = Modules::new(&btf);
    drop(btf);
    let mut tracer = start(args, &layout, &config, &selected)?;
    if let Some(conntrack) = conntrack {
        tracer
            .set_conntrack(&conntrack)
            .context("cannot set up the kernel programs")?;
    }
    let mut rules = Rules::new(args.rules, args.interval, &config, &layout);
    let mut recorder = Recorder::new(reasons, symbols);
    if let Some(layout) = rule_layout {
        rules
            .learn(&layout, &mut tracer, &mut recorder)
            .context("cannot set up the kernel programs")?;
    }
    if let Some(layout) = xt_layout {
        rules.learn_xtables(layout, &mut tracer);
    }
    return_memory();
    let options = Options {
        all: args.all,
        color: args.color,
        netns: Some(netns::own()),
        ..Options::from_env(args.format)
    };
    let run = Run {
        args,
        started,
        tracer,
        recorder,
        rules,
        modules,
        output: Output::new(sink, options),
        follow,
        shown: 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    match runtime.block_on(run.go()) {
        Err(error) if is_closed_pipe(&error) => Ok(()),
        other => Ok(other?),
    }
}

fn start(
    args: &Trace,
    layout: &droptrace_types::Layout,
    config: &Config,
    selected: &Selected,
) -> Result<Tracer, Failure> {
    Tracer::start(&Setup {
        layout,
        config,
        filter: &selected.filter,
        reasons: &selected.reasons,
        max_flows: args.max_flows,
        debug: args.debug_programs,
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
    modules: Modules,
    output: Output<FileSink>,
    follow: Follow<'a>,
    /// Packets shown so far.
    shown: u64,
}

impl Run<'_> {
    async fn go(mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut end = pin!(end(self.args.duration)?);
        self.follow.update(&mut self.tracer)?;
        self.add_modules()?;
        eprintln!(
            "droptrace: tracing {} (attached after {} ms); Ctrl-C ends",
            self.args.select.text().as_deref().unwrap_or("all packets"),
            self.started.elapsed().as_millis(),
        );
        let mut logger = if self.args.debug_programs {
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
                () = tick(&mut looks) => self.follow.update(&mut self.tracer)?,
                _ = looks_for_modules.tick() => self.add_modules()?,
            }
        }
        self.step()?;
        self.recorder.hurry(Instant::now() + AT_THE_END);
        while self.recorder.has_waiting() {
            time::sleep(FOR_RULES).await;
            self.show_told()?;
        }
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
        Ok(())
    }

    /// Learns the types of kernel modules that have been loaded meanwhile.
    fn add_modules(&mut self) -> anyhow::Result<()> {
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
            if module == modules::XTABLES
                && let Some(layout) = xtables::Layout::of(&btf)
            {
                self.rules.learn_xtables(layout, &mut self.tracer);
            }
        }
        self.rules.update(&mut self.tracer, &mut self.recorder);
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
        self.output.events(&told)?;
        self.shown += packets_shown(&told, self.args.all);
        Ok(())
    }

    /// Takes away what was counted and shows it.
    fn step(&mut self) -> anyhow::Result<()> {
        let drained = self
            .tracer
            .drain()
            .context("cannot take the counts from the kernel")?;
        let legacy = self.rules.xtables(&drained, &mut self.tracer);
        self.rules.before(&drained, &mut self.recorder);
        let mut records = self
            .recorder
            .records(drained, legacy, |id| self.tracer.stack(id));
        loop {
            let some: Vec<Event> = records.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            self.output.events(&some)?;
            self.shown += packets_shown(&some, self.args.all);
        }
        drop(records);
        self.rules.after(&mut self.tracer, &mut self.recorder);
        self.output.interval_ends()?;
        Ok(())
    }
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
