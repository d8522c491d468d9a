//! What the daemon tells of itself, as numbers.

use std::{
    fs,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    counters::{
        Family,
        Kind::{self, Counter, Gauge},
        Series,
        Value::{self, Count, Real},
    },
    journal, meter,
};

/// What other parts of the daemon know. Whoever runs them fills it in when it is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Of the journal.
    pub journal: journal::Size,
    /// Readers of the socket.
    pub readers: usize,
    /// Of the spool; `None` without a receiver of OTLP.
    pub spool: Option<Spool>,
    /// Steps of detail given up to keep to the limits.
    pub degraded: u64,
    /// CPU time of the kernel programs; `None` where the kernel does not count it.
    pub programs: Option<Duration>,
}

/// Of the spool, and what leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spool {
    /// On disk.
    pub bytes: u64,
    /// Not yet taken by the receiver.
    pub records: u64,
    /// Age of the oldest of them; 0 without one.
    pub oldest: Duration,
    /// Requests that the receiver took.
    pub exports_ok: u64,
    /// Requests that failed or were refused.
    pub exports_failed: u64,
}

impl Health {
    /// As numbers, with those of the process.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let mut families = vec![Family {
            name: "droptrace_build",
            unit: "",
            help: "The program's version.",
            kind: Kind::Info,
            series: vec![Series {
                labels: vec![("version", env!("CARGO_PKG_VERSION").to_owned())],
                value: Count(1),
            }],
        }];
        families.extend(self.journal());
        families.push(alone(
            "droptrace_degraded_steps",
            "",
            Gauge,
            "Steps of detail given up to keep to the limits on CPU and memory; 0 for none.",
            Count(self.degraded),
        ));
        if let Some(programs) = self.programs {
            families.push(alone(
                "droptrace_programs_cpu",
                "seconds",
                Counter,
                "CPU time of the kernel programs.",
                Real(programs.as_secs_f64()),
            ));
        }
        if let Some(spool) = &self.spool {
            families.extend(spool.families());
        }
        families.extend(process());
        families
    }

    fn journal(&self) -> [Family; 4] {
        [
            alone(
                "droptrace_journal_lines",
                "",
                Gauge,
                "Records kept in memory for readers that come back.",
                Count(self.journal.lines as u64),
            ),
            alone(
                "droptrace_journal",
                "bytes",
                Gauge,
                "Memory that they take.",
                Count(self.journal.bytes),
            ),
            alone(
                "droptrace_readers",
                "",
                Gauge,
                "Readers of the Unix socket.",
                Count(self.readers as u64),
            ),
            alone(
                "droptrace_reader_missed_records",
                "",
                Counter,
                "Records that readers missed, and were told of; each counted for each reader.",
                Count(self.journal.missed),
            ),
        ]
    }
}

impl Spool {
    fn families(&self) -> [Family; 4] {
        let of = |result: &str, count| Series {
            labels: vec![("result", result.to_owned())],
            value: Count(count),
        };
        [
            alone(
                "droptrace_spool",
                "bytes",
                Gauge,
                "Size of the spool on disk.",
                Count(self.bytes),
            ),
            alone(
                "droptrace_spool_records",
                "",
                Gauge,
                "Records that the receiver has not taken yet.",
                Count(self.records),
            ),
            alone(
                "droptrace_spool_oldest_record_age",
                "seconds",
                Gauge,
                "Age of the oldest of them.",
                Real(self.oldest.as_secs_f64()),
            ),
            Family {
                name: "droptrace_exports",
                unit: "",
                help: "Requests to the receiver of OTLP.",
                kind: Counter,
                series: vec![of("ok", self.exports_ok), of("failed", self.exports_failed)],
            },
        ]
    }
}

/// A family of one number.
fn alone(
    name: &'static str,
    unit: &'static str,
    kind: Kind,
    help: &'static str,
    value: Value,
) -> Family {
    Family {
        name,
        unit,
        help,
        kind,
        series: vec![Series::alone(value)],
    }
}

/// What any process tells, by the names that it has everywhere. What cannot be found out
/// is left out.
fn process() -> Vec<Family> {
    let mut families = vec![alone(
        "process_start_time",
        "seconds",
        Gauge,
        "When the process started, since 1970.",
        Real(started().as_secs_f64()),
    )];
    families.push(alone(
        "process_cpu",
        "seconds",
        Counter,
        "CPU time of the process.",
        Real(meter::own_time().as_secs_f64()),
    ));
    if let Some(resident) = meter::resident() {
        families.push(alone(
            "process_resident_memory",
            "bytes",
            Gauge,
            "Resident memory of the process.",
            Count(resident),
        ));
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Without the one that looks.
        let open = open.count().saturating_sub(1);
        families.push(alone(
            "process_open_fds",
            "",
            Gauge,
            "Open file descriptors.",
            Count(open as u64),
        ));
    }
    families
}

/// When this was first asked for, as the clock was then. Asked for at the start.
pub fn started() -> Duration {
    static STARTED: OnceLock<Duration> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default()
    })
}
