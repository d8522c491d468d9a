//! The daemon of one part, with all of its exporters, and who takes the records.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Lines, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::Outcome;
use super::bursts::{Burst, NETWORK};
use super::ledger::{Ledger, Record};
use super::receiver::Receiver;
use crate::run::{Tracer, is_ready};

/// How long the daemon may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// So long nothing comes when all has come.
const QUIET: Duration = Duration::from_millis(1500);

/// A directory of its own, and who receives from the daemon that has it.
pub struct Stage {
    droptrace: PathBuf,
    dir: PathBuf,
    /// Takes OTLP.
    pub receiver: Receiver,
    /// More settings of the daemon.
    pub settings: Vec<String>,
    /// More variables of its environment.
    pub environment: Vec<(String, PathBuf)>,
}

/// A daemon that runs.
pub struct Daemon {
    tracer: Tracer,
    lines: Lines<String>,
}

/// What it takes of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Resident memory, KiB.
    pub memory: u64,
    /// Open file descriptors.
    pub files: usize,
}

impl Stage {
    /// Makes the directory.
    pub fn new(droptrace: &Path, part: &str) -> anyhow::Result<Self> {
        let name = format!("droptrace-endure-{part}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self {
            droptrace: droptrace.to_owned(),
            dir,
            receiver: Receiver::start()?,
            settings: vec![
                format!("trace.dst=[{NETWORK:?}]"),
                // As without a filter by address.
                "trace.verdicts=off".to_owned(),
                // What is proven here is not that it does less under load.
                "limits.max_cpu=100%".to_owned(),
                "limits.max_memory=1GiB".to_owned(),
                // Full early: what grows from then on has no limit.
                "socket.keep=8MiB".to_owned(),
            ],
            environment: Vec::new(),
        })
    }

    /// A place in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The file of records.
    pub fn file(&self) -> PathBuf {
        self.path("events.ndjson")
    }

    /// Starts a daemon; it may not trace yet.
    pub fn spawn(&self) -> anyhow::Result<Daemon> {
        let dir = self.dir.display();
        let own = [
            format!("state.dir={dir}/state"),
            format!("state.run={dir}/run"),
            format!("socket.path={dir}/run/events.sock"),
            format!("file.path={dir}/events.ndjson"),
            "file.keep=1000".to_owned(),
            "metrics.listen=127.0.0.1:0".to_owned(),
            format!("otlp.endpoint={}", self.receiver.endpoint()),
            "otlp.protocol=http".to_owned(),
        ];
        let mut command = Command::new(&self.droptrace);
        let config = self.path("droptrace.toml");
        if !config.exists() {
            fs::write(&config, "")?;
        }
        command.arg("daemon").arg("--config").arg(config);
        for setting in own.iter().chain(&self.settings) {
            command.args(["--set", setting]);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let (line, lines) = channel();
        let tracer = Tracer::spawn_telling(command, line)?;
        Ok(Daemon { tracer, lines })
    }

    /// Kills a daemon, and starts the next one.
    pub fn spawn_after(&self, daemon: Daemon) -> anyhow::Result<Daemon> {
        daemon.tracer.kill()?;
        self.spawn()
    }

    /// Starts a daemon, and waits until it traces.
    pub fn start(&self) -> anyhow::Result<Daemon> {
        let daemon = self.spawn()?;
        if daemon.is_ready_within(PATIENCE) {
            return Ok(daemon);
        }
        bail!("the daemon did not start: {}", daemon.tracer.kill()?.stderr);
    }

    /// Begins to read the socket: from now on, and over restarts of the daemon.
    pub fn reader(&self) -> Reader {
        let (ledger, over) = (Arc::default(), Arc::default());
        let path = self.path("run/events.sock");
        let shared = (Arc::clone(&ledger), Arc::clone(&over));
        let thread = thread::spawn(move || read(&path, &shared.0, &shared.1));
        Reader {
            ledger,
            over,
            thread,
        }
    }

    /// Waits until the receiver has so many packets, or records that they are lost, or
    /// nothing has come for long.
    pub fn await_packets(&self, packets: u64) {
        let mut before = 0;
        let mut since = Instant::now();
        loop {
            let has = {
                let ledger = self.receiver.ledger();
                ledger.packets() + ledger.lost()
            };
            if has >= packets {
                return;
            }
            if has > before {
                (before, since) = (has, Instant::now());
            }
            // The comparison says what is missing.
            if since.elapsed() > Duration::from_secs(15) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Stage {
    /// Waits until the receiver gets nothing any more.
    pub fn await_quiet(&self) {
        let mut before = 0;
        loop {
            thread::sleep(QUIET);
            let records = self.receiver.ledger().records;
            if records == before {
                return;
            }
            before = records;
        }
    }

    /// Ends a daemon that has run all the time, and sets all views against the bursts.
    pub fn end(&self, daemon: Daemon, reader: Reader, bursts: &[Burst]) -> anyhow::Result<Outcome> {
        daemon.stop()?;
        let made = bursts.iter().map(|burst| u64::from(burst.packets)).sum();
        let mut outcome = Outcome {
            made,
            ..Outcome::default()
        };
        let mut received = self.receiver.ledger();
        received.compare("OTLP", bursts);
        outcome.in_records = received.packets();
        outcome.lost = received.lost();
        outcome.judge_sum();
        outcome.problems.append(&mut received.complaints);
        let views = [
            ("the file", Ledger::of_file(&self.file())?),
            ("the socket", reader.end()),
        ];
        // One that is slow misses records, and is told how many packets they stood for.
        for (view, mut ledger) in views {
            ledger.at_most(view, bursts);
            let (packets, lost) = (ledger.packets(), ledger.lost());
            let sum = format!("{view}: {packets} packets in records and {lost} lost, of {made}");
            if packets + lost != made {
                outcome.problems.push(sum);
            } else if lost > 0 {
                outcome.notes.push(sum);
            }
            outcome.problems.append(&mut ledger.complaints);
        }
        Ok(outcome)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Daemon {
    /// Its process.
    pub fn process(&self) -> u32 {
        self.tracer.process()
    }

    /// Whether it says within this time that it traces.
    pub fn is_ready_within(&self, time: Duration) -> bool {
        self.says_within(time, is_ready)
    }

    /// Whether its log has such a line within this time.
    pub fn says_within(&self, time: Duration, wanted: impl Fn(&str) -> bool) -> bool {
        let deadline = Instant::now() + time;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if wanted(&line) => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Ends it as the service manager does.
    pub fn stop(self) -> anyhow::Result<()> {
        let printed = self.tracer.terminate()?;
        if printed.code != Some(0) {
            bail!(
                "the daemon ended with {:?}: {}",
                printed.code,
                printed.stderr
            );
        }
        Ok(())
    }

    /// What it takes now.
    pub fn size(&self) -> anyhow::Result<Size> {
        let process = self.process();
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Ok(Size {
            memory: memory.context("the kernel says no VmRSS")?,
            files: fs::read_dir(format!("/proc/{process}/fd"))?.count(),
        })
    }
}

/// Reads the socket in a thread.
pub struct Reader {
    ledger: Arc<Mutex<Ledger>>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Reader {
    /// What it has read when the daemon has ended.
    pub fn end(self) -> Ledger {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        std::mem::take(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(path: &Path, ledger: &Mutex<Ledger>, over: &AtomicBool) {
    let mut last: Option<(u64, String)> = None;
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = UnixStream::connect(path) else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let request = match &last {
            Some((seq, boot_id)) => format!("{{\"after\": {seq}, \"boot_id\": {boot_id:?}}}\n"),
            None => "\n".to_owned(),
        };
        if stream.write_all(request.as_bytes()).is_err() {
            continue;
        }
        // A daemon that is killed may leave half a line.
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let Ok(record) = Record::of_line(&line) else {
                continue;
            };
            last = Some((record.seq, record.boot_id.clone()));
            ledger
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(record);
        }
    }
}
