//! What the daemon is to do: a file, the environment, and flags.
//!
//! All three say the same things by the same names, `section.key`. Flags
//! (`--set section.key=value`) go before the environment
//! (`DROPTRACE_SECTION_KEY=value`), that goes before the file, and what none of them
//! says has a default. A value is checked where it stands, so that a message can name
//! its line, its variable or its flag.

mod layers;
mod value;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    layers::{ConfigError, place, read},
    value::{Mode, Secret, Share, Size, Span},
};
use crate::cli::{RulesMode, Select, VerdictsMode};

/// Where the file is looked for if nothing else is said.
pub const FILE: &str = "/etc/droptrace/droptrace.toml";

/// Everything that can be said.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which packets, and how closely.
    pub trace: Trace,
    /// What the daemon may cost.
    pub limits: Limits,
    /// What it says of itself.
    pub log: Log,
    /// What must outlive the daemon.
    pub state: State,
    /// The Unix socket.
    pub socket: Socket,
    /// Numbers for Prometheus.
    pub metrics: Metrics,
    /// A file of records; none without this section.
    pub file: Option<File>,
    /// A receiver of OTLP; none without this section.
    pub otlp: Option<Otlp>,
}

/// Which packets, and how closely. The filters are those of the command line.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// As `--dst`.
    pub dst: Vec<String>,
    /// As `--src`.
    pub src: Vec<String>,
    /// As `--host`.
    pub host: Vec<String>,
    /// As `--port`.
    pub port: Vec<String>,
    /// As `--proto`.
    pub proto: Vec<String>,
    /// As `--iface`.
    pub iface: Vec<String>,
    /// As `--netns`.
    pub netns: Vec<String>,
    /// As `--reason`.
    pub reason: Vec<String>,
    /// As `--cgroup`.
    pub cgroup: Vec<PathBuf>,
    /// How often counts are taken from the kernel: 20ms to 1h.
    #[serde(deserialize_with = "value::interval")]
    pub interval: Span,
    /// Flows listed one by one in an interval.
    #[serde(deserialize_with = "value::flows")]
    pub max_flows: u32,
    /// How netfilter rules are found.
    pub rules: RulesMode,
    /// Of which conversations there are verdicts.
    pub verdicts: VerdictsMode,
    /// Normal clean-up is told too.
    pub all: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            dst: Vec::new(),
            src: Vec::new(),
            host: Vec::new(),
            port: Vec::new(),
            proto: Vec::new(),
            iface: Vec::new(),
            netns: Vec::new(),
            reason: Vec::new(),
            cgroup: Vec::new(),
            interval: Span(Duration::from_secs(1)),
            // So many records of several intervals have room in `Socket::keep`, however
            // many come at once.
            max_flows: 4096,
            rules: RulesMode::Auto,
            verdicts: VerdictsMode::All,
            all: false,
        }
    }
}

impl Trace {
    /// The filter in the words of the command line.
    #[must_use]
    pub fn select(&self) -> Select {
        Select {
            dst: self.dst.clone(),
            src: self.src.clone(),
            host: self.host.clone(),
            port: self.port.clone(),
            proto: self.proto.clone(),
            iface: self.iface.clone(),
            netns: self.netns.clone(),
            reason: self.reason.clone(),
            // A process does not live for months.
            pid: Vec::new(),
            cgroup: self.cgroup.clone(),
        }
    }

    /// Whether rules are named.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.rules != RulesMode::Off
    }
}

/// What the daemon may cost, its kernel programs included.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Of one CPU.
    pub max_cpu: Share,
    /// Of memory, resident.
    pub max_memory: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_cpu: Share(5.0),
            max_memory: Size(128 << 20),
        }
    }
}

/// What the daemon says of itself, on standard error.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How much.
    pub level: LogLevel,
}

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What goes wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what happens seldom.
    #[default]
    Info,
    /// And what happens often.
    Debug,
}

impl LogLevel {
    /// As the log has it.
    #[must_use]
    pub const fn filter(self) -> log::LevelFilter {
        match self {
            Self::Error => log::LevelFilter::Error,
            Self::Warn => log::LevelFilter::Warn,
            Self::Info => log::LevelFilter::Info,
            Self::Debug => log::LevelFilter::Debug,
        }
    }
}

/// What must outlive the daemon: sequence numbers, and the spool of records that a
/// receiver has not taken yet.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Its directory.
    pub dir: PathBuf,
    /// A directory that is emptied when the machine starts.
    pub run: PathBuf,
    /// How large the spool may be.
    pub spool: Size,
}

impl Default for State {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/droptrace"),
            run: PathBuf::from("/run/droptrace"),
            spool: Size(256 << 20),
        }
    }
}

/// The Unix socket for readers of records.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Socket {
    /// Its place; empty for none.
    pub path: PathBuf,
    /// Who may read it.
    pub mode: Mode,
    /// How many readers at a time.
    pub max_readers: usize,
    /// How much is kept for readers that come back.
    pub keep: Size,
}

impl Default for Socket {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/run/droptrace/events.sock"),
            mode: Mode(0o660),
            max_readers: 16,
            keep: Size(32 << 20),
        }
    }
}

/// Numbers for Prometheus.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Where they are served over HTTP; `None` with `listen = "off"`.
    #[serde(
        deserialize_with = "value::address_or_off",
        serialize_with = "value::or_off"
    )]
    pub listen: Option<SocketAddr>,
    /// How many reasons, rules, interfaces and namespaces have a number of their own;
    /// the rest is `other`.
    pub top: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9469))),
            top: 50,
        }
    }
}

/// A file of records, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its place.
    pub path: PathBuf,
    /// A new one is begun at this size.
    #[serde(default = "File::max_size")]
    pub max_size: Size,
    /// And at this age.
    #[serde(default = "File::max_age")]
    pub max_age: Span,
    /// How many old ones are kept, as `path.1` (the youngest), `path.2`, …
    #[serde(default = "File::keep")]
    pub keep: usize,
}

impl File {
    fn max_size() -> Size {
        Size(64 << 20)
    }

    fn max_age() -> Span {
        Span(Duration::from_secs(24 * 3600))
    }

    fn keep() -> usize {
        5
    }
}

/// A receiver of OTLP.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// Its address: `http://HOST:PORT` or `https://…`; with `http` and a path, logs go
    /// there plus `/v1/logs`, metrics to `/v1/metrics`.
    #[serde(deserialize_with = "value::endpoint")]
    pub endpoint: String,
    /// How it is spoken to.
    #[serde(default)]
    pub protocol: Protocol,
    /// Sent with every request, as for a token.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Certificates that are believed instead of the machine's, a PEM file.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Whether requests are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// How long an answer may take.
    #[serde(default = "Otlp::timeout")]
    pub timeout: Span,
    /// Records are sent as logs.
    #[serde(default = "Otlp::yes")]
    pub logs: bool,
    /// Counts are sent as metrics.
    #[serde(default = "Otlp::yes")]
    pub metrics: bool,
    /// How often metrics are sent.
    #[serde(default = "Otlp::metrics_interval")]
    pub metrics_interval: Span,
}

impl Otlp {
    fn timeout() -> Span {
        Span(Duration::from_secs(10))
    }

    fn metrics_interval() -> Span {
        Span(Duration::from_secs(60))
    }

    fn yes() -> bool {
        true
    }
}

/// How a receiver of OTLP is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// gRPC.
    #[default]
    Grpc,
    /// HTTP with binary protobuf.
    Http,
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// With gzip.
    #[default]
    Gzip,
    /// Not at all.
    None,
}
