//! `droptrace daemon`: tracing for months, for the machine's monitoring agent.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::{
    runtime::{Builder, Handle},
    signal::unix::{Signal, SignalKind, signal},
    time,
};

use super::{
    Failure,
    capture::{self, Capture, tick, ticks},
    config, memory,
    rehearse::rehearse,
};
use crate::{
    cli::{self, Configuration, Developer},
    daemon::{
        budget::{Budget, Level},
        config::Config,
        exporters::Exporters,
        gap::since_start,
        meter::Meter,
        notify::Manager,
        pace::pause,
        privileges,
    },
    event::{Event, EventKind, Loss, LossCause, LossOf, utc},
    output::{ColorChoice, Format},
};

/// How often to look whether records still have to wait for the text of their rules, and
/// whether those that need not are safe.
const FOR_RECORDS: Duration = Duration::from_millis(100);
/// Before programs go, they wait so long at most.
const AT_THE_END: Duration = Duration::from_secs(2);

/// Runs until it is asked to end, or for one interval.
///
/// # Errors
///
/// If the configuration is wrong, this kernel or user cannot trace, what is configured
/// cannot be opened, or something fails on the way.
pub fn daemon(args: &cli::Daemon) -> Result<(), Failure> {
    let config = config::read(&args.configuration)?;
    if args.dry_run {
        return rehearse(&config);
    }
    memory::stay_small();
    let trace = trace_of(&config);
    let checked = capture::check(&trace)?;
    log::set_max_level(config.log.level.filter());
    let has_rules = config.trace.has_rules();
    privileges::keep_needed(has_rules).map_err(Failure::unable)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .context("cannot start the event loop")?;
    let mut capture = Capture::start(&trace, checked, runtime.handle())?;
    capture.begin()?;
    let attached = since_start();
    privileges::keep_after_attaching(has_rules).map_err(Failure::unable)?;
    runtime.block_on(async {
        let mut exporters = Exporters::open(&config).await?;
        exporters.begin(attached)?;
        let run = Run {
            configuration: &args.configuration,
            budget: Budget::new(&config.limits),
            meter: Meter::new(),
            manager: Manager::of_environment(),
            capture,
            exporters,
            config,
        };
        Box::pin(run.go(args.once)).await
    })?;
    // A disk that hangs is not waited for.
    runtime.shutdown_background();
    Ok(())
}

/// The command line that traces what the configuration says.
fn trace_of(config: &Config) -> cli::Trace {
    let trace = &config.trace;
    cli::Trace {
        select: trace.select(),
        format: Format::Json,
        output: None,
        all: trace.all,
        color: ColorChoice::Never,
        duration: None,
        count: None,
        interval: trace.interval.0,
        max_flows: trace.max_flows,
        rules: trace.rules,
        allow_system_changes: false,
        verdicts: trace.verdicts,
        developer: Developer::default(),
    }
}

/// What only setting up needed.
fn return_memory() {
    memory::return_free();
    memory::return_code();
}

/// A daemon at work.
struct Run<'a> {
    configuration: &'a Configuration,
    config: Config,
    capture: Capture,
    exporters: Exporters,
    budget: Budget,
    meter: Meter,
    manager: Manager,
}

/// What it is asked to do from outside.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let of = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
            hangup: of(SignalKind::hangup())?,
        })
    }

    /// Comes back when it is to end.
    async fn end(interrupt: &mut Signal, terminate: &mut Signal) {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

impl Run<'_> {
    async fn go(mut self, once: bool) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        let mut next = Instant::now();
        let mut looks = ticks(FOR_RECORDS);
        let mut alive = self.manager.alive_every().map(ticks);
        self.manager.ready(&self.status());
        log::info!("tracing {}", self.traced());
        return_memory();
        let end = time::sleep(self.config.trace.interval.0);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = Signals::end(&mut signals.interrupt, &mut signals.terminate) => break,
                () = &mut end, if once => break,
                _ = signals.hangup.recv() => {
                    self.reload().await;
                    next = Instant::now();
                }
                () = time::sleep_until(next.into()) => {
                    let began = Instant::now();
                    let records = self.step()?;
                    next = began + pause(self.config.trace.interval.0, records);
                }
                _ = looks.tick(), if self.capture.has_waiting() || self.exporters.unsettled() => {
                    self.capture.told(&mut |records| self.exporters.take(records))?;
                    self.exporters.settle(self.capture.waits_since());
                }
                looked = self.capture.look_after() => looked?,
                () = time::sleep_until(self.meter.next().into()) => self.measure()?,
                () = tick(&mut alive) => self.manager.alive(),
            }
        }
        self.manager.stopping();
        self.step()?;
        self.conclude().await?;
        drop(self.capture);
        self.exporters.close().await;
        Ok(())
    }

    fn traced(&self) -> String {
        let select = self.config.trace.select();
        select.text().unwrap_or_else(|| "all packets".to_owned())
    }

    fn status(&self) -> String {
        match self.budget.level() {
            Level::Full => format!("tracing {}", self.traced()),
            level => format!("tracing {}; {level}", self.traced()),
        }
    }

    /// Takes away what was counted, and hands it over. Answers with how many records that
    /// were.
    fn step(&mut self) -> anyhow::Result<usize> {
        let until = since_start();
        let mut count = 0;
        self.capture.step(&mut |records| {
            count += records.len();
            self.exporters.take(records)
        })?;
        let waits_since = self.capture.waits_since();
        self.exporters.captured(until, waits_since);
        self.exporters.interval_ends();
        Ok(count)
    }

    /// Hands over what the capture still holds back.
    async fn conclude(&mut self) -> anyhow::Result<()> {
        self.capture.hurry(Instant::now() + AT_THE_END);
        while self.capture.has_waiting() {
            time::sleep(FOR_RECORDS).await;
            self.capture
                .told(&mut |records| self.exporters.take(records))?;
        }
        self.capture
            .conclude(&mut |records| self.exporters.take(records))
    }

    /// Looks at what it costs, and does less or more.
    fn measure(&mut self) -> anyhow::Result<()> {
        let Some(used) = self.meter.look(|| self.capture.run_time()) else {
            return Ok(());
        };
        let change = self.budget.judge(used);
        {
            let mut state = self.exporters.state();
            state.cpu_percent = used.cpu;
            state.memory = used.memory;
            state.degraded = self.budget.level().number();
        }
        let Some(change) = change else {
            return Ok(());
        };
        self.limit()?;
        log::warn!("{change}");
        let is_less = change.level != Level::Full;
        self.exporters.state().left_out = is_less.then(|| change.level.to_string());
        self.manager.status(&self.status());
        self.exporters.take(vec![Event {
            loss: Some(Loss {
                what: LossOf::Details,
                why: LossCause::Limits,
                count: 0,
            }),
            advice: Some(change.to_string()),
            ..Event::bare(EventKind::Loss, utc(Timestamp::now()))
        }])
    }

    fn limit(&mut self) -> anyhow::Result<()> {
        let level = self.budget.level();
        let max_flows = level.max_flows(self.config.trace.max_flows);
        self.capture.limit(level.details_per_second(), max_flows)
    }

    /// Reads the configuration again. Where it is wrong, the old one stays.
    async fn reload(&mut self) {
        // It may take longer than until the next time.
        self.manager.alive();
        self.manager.reloading();
        match self.try_reload().await {
            Ok(()) => log::info!("the configuration was read again"),
            Err(error) => log::error!("the configuration stays as it was: {error}"),
        }
        return_memory();
        self.manager.ready(&self.status());
        self.manager.alive();
    }

    async fn try_reload(&mut self) -> Result<(), Failure> {
        let new = config::read(self.configuration)?;
        let mut old = &self.config;
        if new.trace != old.trace {
            let trace = trace_of(&new);
            let checked = capture::check(&trace)?;
            let mut capture = Capture::start(&trace, checked, &Handle::current())?;
            capture.begin()?;
            // What the new one has counted so far, the old one has counted too.
            capture.step(&mut |_| Ok(()))?;
            self.step()?;
            self.conclude().await?;
            self.capture = capture;
            self.exporters.tell_all(new.trace.all);
            old = &self.config;
        }
        let needs_restart = [
            ("state", new.state != old.state),
            ("socket", new.socket != old.socket),
            ("metrics", new.metrics != old.metrics),
            ("file", new.file != old.file),
            ("otlp", new.otlp != old.otlp),
        ];
        let changed = needs_restart.into_iter().filter(|(_, changed)| *changed);
        let problems: Vec<String> = changed
            .map(|(section, _)| format!("section [{section}] has changed: restart the daemon"))
            .collect();
        for problem in &problems {
            log::warn!("{problem}");
        }
        self.exporters.state().problems = problems;
        log::set_max_level(new.log.level.filter());
        self.budget.limit(&new.limits);
        // What takes a restart stays, so that the next time it is told again.
        self.config = Config {
            trace: new.trace,
            limits: new.limits,
            log: new.log,
            ..self.config.clone()
        };
        self.limit()?;
        Ok(())
    }
}
