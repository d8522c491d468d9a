//! The configuration is read again under load, and the service manager hears all that it
//! has to.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::Outcome;
use super::bursts::{Burst, Sender, rules};
use super::ledger::Ledger;
use super::stage::{Daemon, Stage};

/// The service manager wants to hear of the daemon so often at least, when it does not read
/// its configuration.
const WATCHDOG: Duration = Duration::from_secs(3);
/// How long it may take to read its configuration.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two bursts.
const PAUSE: Duration = Duration::from_millis(2);

pub fn run(droptrace: &Path, reloads: u32) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(droptrace, "service")?;
    stage.settings.push("trace.interval=200ms".to_owned());
    let manager = UnixDatagram::bind(stage.path("notify"))?;
    manager.set_read_timeout(Some(Duration::from_millis(50)))?;
    stage.environment = vec![
        ("NOTIFY_SOCKET".to_owned(), stage.path("notify")),
        (
            "WATCHDOG_USEC".to_owned(),
            WATCHDOG.as_micros().to_string().into(),
        ),
    ];
    let (sending, hearing) = (Flag::default(), Flag::default());
    let heard = thread::scope(|scope| {
        let heard = scope.spawn(|| hear(&manager, &hearing));
        let lived = live(scope, &stage, reloads, &sending);
        sending.lower();
        hearing.lower();
        let heard = heard.join().unwrap_or_default();
        lived.map(|outcome| (outcome, heard))
    });
    let (mut outcome, heard) = heard?;
    outcome.problems.extend(judge(&heard, reloads));
    outcome
        .notes
        .push(format!("{} messages to the service manager", heard.len()));
    Ok(outcome)
}

/// Up, until it is lowered.
#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn is_up(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    fn lower(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The life of a daemon that reads its configuration again and again.
fn live<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    stage: &Stage,
    reloads: u32,
    sending: &'scope Flag,
) -> anyhow::Result<Outcome> {
    let sender = Sender::new(&rules("all"))?;
    let daemon = stage.start()?;
    let bursts = scope.spawn(move || send(&sender, sending));
    let config = stage.path("droptrace.toml");
    let mut warm = None;
    for reload in 0..reloads {
        // That takes new programs.
        fs::write(&config, format!("[trace]\nmax_flows = {}\n", 5000 + reload))?;
        reread(&daemon, "was read again")?;
        if reload == reloads / 2 {
            // After what reading it took is given back.
            thread::sleep(Duration::from_secs(1));
            warm = Some(daemon.size()?);
        }
    }
    fs::write(&config, "[trace]\nmax_flow = 1\n")?;
    reread(&daemon, "stays as it was")?;
    sending.lower();
    let bursts = bursts
        .join()
        .unwrap_or_else(|_| anyhow::bail!("the sender panicked"))?;
    let made: u64 = bursts.iter().map(|burst| u64::from(burst.packets)).sum();
    stage.await_quiet();
    thread::sleep(WATCHDOG);
    let end = daemon.size()?;
    daemon.stop()?;

    let mut outcome = Outcome {
        done: format!("configuration read {reloads} times, and once a wrong one"),
        made,
        sizes: warm.map(|warm| (warm, end)),
        ..Outcome::default()
    };
    let mut received = stage.receiver.ledger();
    let mut file = Ledger::of_file(&stage.file())?;
    for (view, ledger) in [("OTLP", &mut *received), ("the file", &mut file)] {
        ledger.may_repeat = true;
        ledger.compare(view, &bursts);
        let repeated = ledger.repeated;
        outcome.notes.push(format!(
            "{view}: {repeated} packets told by the old filter and the new"
        ));
        outcome.problems.append(&mut ledger.complaints);
    }
    outcome.in_records = received.packets() - received.repeated;
    outcome.lost = received.lost();
    outcome.judge_sum();
    if !received.gaps.is_empty() {
        outcome.problems.push("a gap is told".to_owned());
    }
    Ok(outcome)
}

/// Has the configuration read, and waits until the log says so.
fn reread(daemon: &Daemon, says: &str) -> anyhow::Result<()> {
    kill(
        Pid::from_raw(daemon.process().cast_signed()),
        Signal::SIGHUP,
    )?;
    ensure!(
        daemon.says_within(PATIENCE, |line| line.contains(says)),
        "after SIGHUP the log does not say that the configuration {says}"
    );
    Ok(())
}

fn send(sender: &Sender, sending: &Flag) -> anyhow::Result<Vec<Burst>> {
    let mut bursts = Vec::new();
    for number in 0.. {
        if !sending.is_up() {
            break;
        }
        bursts.push(sender.send(number, 1 + number % 5)?);
        thread::sleep(PAUSE);
    }
    Ok(bursts)
}

/// What the service manager hears, and when.
fn hear(manager: &UnixDatagram, hearing: &Flag) -> Vec<(Instant, String)> {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        // Whatever was said before the end is there.
        let is_up = hearing.is_up();
        match manager.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                heard.push((Instant::now(), text));
            }
            Err(_) if is_up => {}
            Err(_) => return heard,
        }
    }
}

/// What is wrong with it, by `sd_notify(3)` and `systemd.service(5)`.
fn judge(heard: &[(Instant, String)], reloads: u32) -> Vec<String> {
    let mut problems = Vec::new();
    let has = |text: &str, word: &str| text.lines().any(|line| line == word);
    let first = heard.first().map_or("", |(_, text)| text);
    if !has(first, "READY=1") {
        problems.push(format!("the first message is {first:?}, not READY=1"));
    }
    let last = heard.last().map_or("", |(_, text)| text);
    if !has(last, "STOPPING=1") {
        problems.push(format!("the last message is {last:?}, not STOPPING=1"));
    }
    let mut told = 0;
    // When it last said that it is well; not known while it reads its configuration.
    let mut well = None;
    let mut has_said = false;
    let mut clock = 0;
    for (time, text) in heard {
        if well.is_some_and(|well| *time - well > WATCHDOG) {
            problems.push(format!("{WATCHDOG:?} passed without WATCHDOG=1"));
        }
        if has(text, "READY=1") {
            well = Some(*time);
            has_said = false;
        }
        if has(text, "WATCHDOG=1") && well.is_some() {
            has_said |= well.is_some_and(|well| *time - well > WATCHDOG / 4);
            well = Some(*time);
        }
        if has(text, "RELOADING=1") {
            told += 1;
            well = None;
            let usec = text
                .lines()
                .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
            let usec: u64 = usec.and_then(|usec| usec.parse().ok()).unwrap_or(0);
            if usec <= clock || usec > monotonic_usec() {
                problems.push(format!("{text:?} has a wrong MONOTONIC_USEC"));
            }
            clock = usec;
        }
    }
    if well.is_none() {
        problems.push("no READY=1 after the last RELOADING=1".to_owned());
    }
    if !has_said {
        problems.push("no WATCHDOG=1 after the last READY=1".to_owned());
    }
    // And the wrong one.
    if told != reloads + 1 {
        problems.push(format!("RELOADING=1 came {told} times"));
    }
    problems
}

fn monotonic_usec() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
