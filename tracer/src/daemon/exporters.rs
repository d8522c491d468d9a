//! Who gets the records: each is counted, numbered, and handed to all.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::{task::JoinHandle, time};

use super::{
    config::Config,
    counters::{self, Counters, Family},
    file,
    gap::Mark,
    health::{self, Health, Spool},
    journal::Journal,
    line::Line,
    metrics,
    otlp::{self, Otlp, Snapshot},
    request::Subject,
    sequence::Sequence,
    socket,
    status::{self, Status},
};
use crate::event::{Class, Event};

/// How long they may take at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// All of them.
pub struct Exporters {
    sequence: Sequence,
    /// The number that was given last.
    last: Option<u64>,
    mark: Mark,
    /// Up to which number the file has records, where there is one.
    written: Option<file::Written>,
    /// Normal clean-up is told too.
    all: bool,
    /// What ends with the journal.
    tasks: Vec<JoinHandle<()>>,
    view: Arc<View>,
    metrics_every: Duration,
    metrics_sent: Instant,
}

/// What can be said of the daemon at any time, by whoever is asked.
struct View {
    started: Instant,
    counters: Arc<Counters>,
    journal: Journal,
    boot_id: String,
    readers: Option<socket::Readers>,
    otlp: Option<Otlp>,
    state: Mutex<State>,
    config: Config,
}

/// What only the main loop knows.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Of one CPU, percent, when last measured.
    pub cpu_percent: f64,
    /// Resident memory, bytes, when last measured.
    pub memory: u64,
    /// Steps of detail that are given up.
    pub degraded: u8,
    /// In words.
    pub left_out: Option<String>,
    /// Time that the kernel programs have run, where the kernel takes it.
    pub programs: Option<Duration>,
    /// What does not work, and what would change that.
    pub problems: Vec<String>,
}

impl Exporters {
    /// Opens all that is configured.
    ///
    /// # Errors
    ///
    /// If one of them cannot be opened.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        // As numbers have it.
        health::started();
        let state = &config.state;
        for dir in [&state.dir, &state.run] {
            fs::create_dir_all(dir)
                .with_context(|| format!("cannot make the directory {}", dir.display()))?;
        }
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .context("cannot read /proc/sys/kernel/random/boot_id")?
            .trim()
            .to_owned();
        let has_run = Sequence::is_there(&state.dir);
        let numbers = |path: &Path| format!("cannot keep numbers in {}", path.display());
        let sequence = Sequence::of_records(&state.dir).with_context(|| numbers(&state.dir))?;
        let mut of_losses = Sequence::of_losses(&state.dir).with_context(|| numbers(&state.dir))?;
        let mark = Mark::open(&state.run, has_run)
            .with_context(|| format!("cannot write in {}", state.run.display()))?;
        let journal = Journal::new(config.socket.keep.0, boot_id.clone(), sequence.peek());
        let counters = Arc::new(Counters::new(config.metrics.top));
        let otlp = match &config.otlp {
            Some(receiver) => Some(Otlp::start(receiver, state, &boot_id, move || {
                of_losses.give()
            })?),
            None => None,
        };
        let mut tasks = Vec::new();
        let mut written = None;
        if let Some(file) = &config.file {
            let progress = written.insert(file::Written::default());
            tasks.push(tokio::spawn(file::run(
                file.clone(),
                journal.clone(),
                sequence.peek(),
                progress.clone(),
            )));
        }
        let has_socket = !config.socket.path.as_os_str().is_empty();
        let server = if has_socket {
            Some(socket::Server::bind(&config.socket, &journal)?)
        } else {
            None
        };
        let view = Arc::new(View {
            started: Instant::now(),
            counters,
            journal,
            boot_id,
            readers: server.as_ref().map(socket::Server::readers),
            otlp,
            state: Mutex::default(),
            config: config.clone(),
        });
        if let Some(server) = server {
            let view = Arc::clone(&view);
            tasks.push(tokio::spawn(server.run(Arc::new(move || view.status()))));
        }
        if let Some(address) = config.metrics.listen {
            let source = Arc::clone(&view);
            let health = Box::new(move || source.health());
            let counters = Arc::clone(&view.counters);
            let server = metrics::Server::bind(address, counters, health).await?;
            // Serves up to the end of the process.
            drop(tokio::spawn(server.run()));
        }
        Ok(Self {
            sequence,
            last: None,
            mark,
            written,
            all: config.trace.all,
            tasks,
            view,
            metrics_every: config
                .otlp
                .as_ref()
                .filter(|otlp| otlp.metrics)
                .map_or(Duration::MAX, |otlp| otlp.metrics_interval.0),
            metrics_sent: Instant::now(),
        })
    }

    /// Records are to be told of the time up to `attached`, since the start of the machine,
    /// in which nothing was traced.
    ///
    /// # Errors
    ///
    /// As [`Exporters::take`].
    pub fn begin(&mut self, attached: Duration) -> anyhow::Result<()> {
        let gap = self.mark.gap(attached);
        self.take(gap.into_iter().collect())?;
        self.captured(attached, None);
        Ok(())
    }

    /// Everything up to this time, since the start of the machine, was taken. `waits_since`
    /// as for [`Exporters::settle`].
    pub fn captured(&mut self, until: Duration, waits_since: Option<Instant>) {
        self.mark.taken(until);
        self.settle(waits_since);
    }

    /// Whether records are on their way that a kill would take.
    #[must_use]
    pub fn unsettled(&self) -> bool {
        self.mark.waits()
    }

    /// Notes up to when everything is safe. `waits_since`: since when the oldest record is
    /// being held back.
    pub fn settle(&mut self, waits_since: Option<Instant>) {
        let is_safe = |seq| {
            let spooled = self
                .view
                .otlp
                .as_ref()
                .is_none_or(|otlp| otlp.has_settled(seq));
            spooled && self.written.as_ref().is_none_or(|written| written.has(seq))
        };
        if let Err(error) = self.mark.settle(waits_since, self.last, is_safe) {
            log::debug!("cannot say how far it was traced: {error}");
        }
    }

    /// Normal clean-up is told too, or not, from now on.
    pub const fn tell_all(&mut self, all: bool) {
        self.all = all;
    }

    /// Counts records, numbers them and hands them over.
    ///
    /// # Errors
    ///
    /// If one cannot be written as JSON.
    pub fn take(&mut self, records: Vec<Event>) -> anyhow::Result<()> {
        let mut lines = Vec::new();
        for event in records {
            self.view.counters.count(&event);
            let class = event.reason.as_ref().map(|reason| reason.class);
            if class == Some(Class::Benign) && !self.all {
                continue;
            }
            let subject = Subject::of(&event);
            let seq = self.sequence.give();
            self.last = Some(seq);
            let line =
                Line::new(event, seq, &self.view.boot_id).context("cannot write a record")?;
            if self.view.otlp.is_some() {
                lines.push(line.clone());
            }
            self.view.journal.push(line, subject);
        }
        if let Some(otlp) = &self.view.otlp {
            otlp.push(lines);
        }
        Ok(())
    }

    /// To be called at every interval.
    pub fn interval_ends(&mut self) {
        if self.metrics_sent.elapsed() >= self.metrics_every
            && let Some(otlp) = &self.view.otlp
        {
            self.metrics_sent = Instant::now();
            otlp.metrics(self.view.snapshot());
        }
    }

    /// What the main loop knows, to be told to whoever asks.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.view.state()
    }

    /// Hands over what is left, for three seconds at most.
    pub async fn close(mut self) {
        self.view.journal.close();
        let all = async {
            for task in std::mem::take(&mut self.tasks) {
                if let Err(error) = task.await {
                    log::error!("an exporter has failed: {error}");
                }
            }
        };
        if time::timeout(FAREWELL, all).await.is_err() {
            log::warn!("some readers did not take the last records in time");
        }
        if let Some(otlp) = &self.view.otlp {
            otlp.stop();
        }
        self.settle(None);
        if let Err(error) = self.sequence.close() {
            log::warn!("cannot keep the number of the last record: {error}");
        }
    }
}

impl View {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> Health {
        let state = self.state().clone();
        Health {
            journal: self.journal.size(),
            readers: self.readers(),
            spool: self.otlp.as_ref().map(|otlp| {
                let health = otlp.health();
                Spool {
                    bytes: health.spool.bytes,
                    records: health.spool.records,
                    oldest: age(health.oldest.as_deref()),
                    exports_ok: health.exports_ok,
                    exports_failed: health.exports_failed,
                }
            }),
            degraded: state.degraded.into(),
            programs: state.programs,
        }
    }

    fn readers(&self) -> usize {
        let readers = self.readers.as_ref();
        readers.map_or(0, |readers| readers.load(Ordering::Relaxed))
    }

    /// All counts, for a receiver of metrics.
    fn snapshot(&self) -> Snapshot {
        let mut families = self.counters.families();
        families.extend(self.health().families());
        Snapshot {
            start: SystemTime::UNIX_EPOCH + health::started(),
            time: SystemTime::now(),
            counts: families.into_iter().filter_map(count).collect(),
        }
    }

    fn status(&self) -> Status {
        let state = self.state().clone();
        let mut problems = state.problems.clone();
        let otlp = self.otlp.as_ref().zip(self.config.otlp.as_ref());
        let otlp = otlp.map(|(otlp, config)| {
            let health = otlp.health();
            status::Otlp {
                endpoint: config.endpoint.clone(),
                sent_records: health.records_taken,
                waiting_records: health.spool.records,
                waiting_bytes: health.spool.bytes,
                oldest_seconds: age(health.oldest.as_deref()).as_secs(),
                lost_records: health.records_refused + health.records_overflowed,
                error: health.error,
            }
        });
        if let Some(error) = otlp.as_ref().and_then(|otlp| otlp.error.as_ref()) {
            problems.push(format!("the receiver of OTLP: {error}"));
        }
        Status {
            healthy: problems.is_empty(),
            problems,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            seq: self.journal.next().saturating_sub(1),
            boot_id: self.boot_id.clone(),
            cost: status::Cost {
                cpu_percent: state.cpu_percent,
                memory_bytes: state.memory,
                left_out: state.left_out.into_iter().collect(),
            },
            socket: self.readers.is_some().then(|| status::Socket {
                readers: self.readers(),
                max_readers: self.config.socket.max_readers,
            }),
            metrics: self.config.metrics.listen.map(|at| at.to_string()),
            file: self.config.file.as_ref().map(|file| file.path.clone()),
            otlp,
        }
    }
}

/// How long ago that was.
fn age(time: Option<&str>) -> Duration {
    let then = time.and_then(|time| time.parse::<Timestamp>().ok());
    let since = then.map(|then| Timestamp::now().duration_since(then));
    since
        .and_then(|since| Duration::try_from(since).ok())
        .unwrap_or_default()
}

/// A family of numbers as OTLP has it.
fn count(family: Family) -> Option<otlp::Count> {
    use counters::{Kind, Value};
    let kind = match family.kind {
        Kind::Counter => otlp::Kind::Sum,
        Kind::Gauge => otlp::Kind::Gauge,
        Kind::Info => return None,
    };
    let points = family.series.into_iter().map(|series| otlp::Point {
        attributes: series.labels,
        value: match series.value {
            Value::Count(count) => otlp::Number::Whole(count),
            Value::Real(real) => otlp::Number::Real(real),
        },
    });
    Some(otlp::Count {
        name: family.name,
        unit: match family.unit {
            "seconds" => "s",
            "bytes" => "By",
            "packets" => "{packet}",
            "records" => "{record}",
            other => other,
        },
        description: family.help,
        kind,
        points: points.collect(),
    })
}
