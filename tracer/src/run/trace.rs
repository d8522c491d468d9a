//! Tracing: what is captured is shown, until the end.

use std::{
    future, io,
    os::fd::{AsRawFd as _, RawFd},
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};

use super::{
    Failure,
    capture::{self, Capture, ticks},
    probe::{self, Attempts},
};
use crate::{
    cli::Trace,
    event::{Class, Event, EventKind, Outcome},
    output::{FileSink, Format, Options, Output, Totals},
    owner::netns,
    record::Comparison,
};

/// How often to look whether records still have to wait for the text of their
/// rules.
const FOR_RULES: Duration = Duration::from_millis(10);

/// At the end they wait so long at most; another signal ends it at once.
const AT_THE_END: Duration = Duration::from_secs(10);

/// A wait that is longer is said.
const SHORT: Duration = Duration::from_secs(1);

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
    let checked = capture::check(args)?;
    let sink = match &args.output {
        Some(path) => FileSink::create(path),
        None => FileSink::stdout(),
    }
    .map_err(anyhow::Error::new)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let capture = Capture::start(args, checked, runtime.handle())?;
    let options = Options {
        all: args.all,
        color: args.color,
        verdicts_only: attempts.is_some(),
        netns: Some(netns::own()),
        ..Options::from_env(args.format)
    };
    let run = Run {
        args,
        started,
        capture,
        attempts,
        shown: Shown {
            output: Output::new(sink, options),
            all: args.all,
            packets: 0,
            outcome: None,
        },
    };
    match runtime.block_on(run.go()) {
        Err(error) if is_closed_pipe(&error) => Ok(None),
        other => Ok(other?),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// What was shown.
struct Shown {
    output: Output<FileSink>,
    /// Normal clean-up is shown too.
    all: bool,
    /// Packets of the records so far.
    packets: u64,
    /// What became of the conversations that most need attention.
    outcome: Option<Outcome>,
}

impl Shown {
    fn take(&mut self, records: &[Event]) -> anyhow::Result<()> {
        self.output.events(records)?;
        self.packets += packets_shown(records, self.all);
        self.outcome = outcome_of(records).or(self.outcome);
        Ok(())
    }
}

/// A run under way.
struct Run<'a> {
    args: &'a Trace,
    /// When the process began to set up.
    started: Instant,
    capture: Capture,
    /// Those that the tracer makes itself.
    attempts: Option<Attempts>,
    shown: Shown,
}

impl Run<'_> {
    async fn go(mut self) -> anyhow::Result<Option<Outcome>> {
        let started = Instant::now();
        let mut end = pin!(end(self.args.duration)?);
        self.capture.begin()?;
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
            Some(self.capture.logger()?)
        } else {
            None
        };
        let mut steps = ticks(self.args.interval);
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
                _ = looks_for_rules.tick(), if self.capture.has_waiting() => {
                    self.capture.told(&mut |records| self.shown.take(&records))?;
                    if self.is_over() {
                        break;
                    }
                }
                looked = self.capture.look_after() => looked?,
                attempt = probe::next(&mut self.attempts) => match attempt {
                    Some(attempt) => self.capture.attempted(&attempt),
                    None => break,
                }
            }
        }
        self.step()?;
        self.wait_for_rules().await?;
        self.capture
            .conclude(&mut |records| self.shown.take(&records))?;
        self.shown.output.finish(&Totals {
            duration: started.elapsed(),
            filter: self.args.select.text(),
            watched: self
                .capture
                .watched()
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
        })?;
        let hidden = self.shown.output.hidden();
        if hidden > 0 && self.args.format == Format::Json {
            eprintln!(
                "droptrace: {hidden} packets of normal clean-up not written (--all writes them too)"
            );
        }
        self.capture.comparison().map_or(Ok(()), compared)?;
        Ok(self.shown.outcome)
    }

    /// Takes away what was counted and shows it.
    fn step(&mut self) -> anyhow::Result<()> {
        self.capture
            .step(&mut |records| self.shown.take(&records))?;
        Ok(self.shown.output.interval_ends()?)
    }

    /// At the end: waits for the text of rules that is still being read.
    async fn wait_for_rules(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.capture.hurry(began + AT_THE_END);
        let mut again = pin!(end(None)?);
        let (mut is_said, mut is_over) = (false, false);
        while self.capture.has_waiting() {
            tokio::select! {
                () = &mut again, if !is_over => {
                    self.capture.hurry(Instant::now());
                    is_over = true;
                }
                () = time::sleep(FOR_RULES) => {}
            }
            self.capture
                .told(&mut |records| self.shown.take(&records))?;
            if !is_said && began.elapsed() > SHORT && self.capture.has_waiting() {
                eprintln!("droptrace: reading the text of rules; Ctrl-C once more ends at once");
                is_said = true;
            }
        }
        Ok(())
    }

    /// Whether enough was shown, or nobody looks any more.
    fn is_over(&self) -> bool {
        self.args
            .count
            .is_some_and(|count| self.shown.packets >= count)
            || (self.args.output.is_none() && is_closed(io::stdout().as_raw_fd()))
    }
}

/// That of the last verdict among them.
fn outcome_of(records: &[Event]) -> Option<Outcome> {
    let mut latest = records.iter().rev();
    let last = latest.find(|record| record.kind == EventKind::Verdict)?;
    Some(last.verdict.as_ref()?.outcome)
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
