//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::output::{ColorChoice, Format};

/// Says why this machine drops, resets or resends packets: which flow, what
/// reason, where in the kernel, whose socket.
#[derive(Debug, Parser)]
#[command(
    name = "droptrace",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        droptrace --dst 10.0.0.5:443          conversations with that endpoint, both directions\n  \
        droptrace --port 53 --proto udp       DNS\n  \
        droptrace --duration 30s --format json > drops.ndjson\n  \
        droptrace probe 10.0.0.5:443          try it, and say what is in the way\n  \
        droptrace doctor                      what this kernel and this user can have\n  \
        droptrace daemon                      in the background, for a monitoring agent\n\n\
        Exit codes: 0 ran to its end, 1 failed while running, 2 bad command line,\n\
        3 this kernel or this user cannot trace."
)]
pub struct Cli {
    /// What to do instead of tracing.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to trace.
    #[command(flatten)]
    pub trace: Trace,
}

/// What droptrace can do beside tracing.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what this kernel and this user can have, and what would change that
    Doctor {
        /// One JSON object, for programs
        #[arg(long)]
        json: bool,
    },
    /// Try to reach an endpoint, and say what became of it and who is to blame
    Probe(Probe),
    /// List every reason that the running kernel can give
    Reasons {
        /// Shape of the list: a table for people, or one JSON object a line
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Trace for months, and hand the records to the machine's monitoring agent
    Daemon(Daemon),
    /// Check the daemon's configuration, or show what it comes to
    Config {
        /// What to do with it.
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Say how the running daemon is: exit code 0 if it is well, 1 if not
    Status(Status),
    /// Remove what a daemon that was killed has left
    Clean(Configuration),
}

/// How to run in the background.
#[derive(Debug, Args)]
#[command(
    after_help = "Configuration: flags (--set) go before variables of the environment\n\
        (DROPTRACE_SECTION_KEY), these before the file; /etc/droptrace/droptrace.toml lists\n\
        every key with its default. SIGHUP has it read again; SIGTERM and SIGINT hand over\n\
        what was counted, and end it.\n\n\
        Exit codes: 0 ran to its end, 1 failed while running, 2 bad command line or\n\
        configuration, 3 this kernel or this user cannot trace."
)]
pub struct Daemon {
    /// What to do.
    #[command(flatten)]
    pub configuration: Configuration,
    /// Trace for one interval, hand everything over, and end
    #[arg(long, conflicts_with = "dry_run")]
    pub once: bool,
    /// Only check whether it would run: configuration, kernel, privileges, places
    #[arg(long)]
    pub dry_run: bool,
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether it is right: exit code 0 if it is, 2 if not
    Check(Configuration),
    /// Print everything that is in force, as the file would say it, secrets hidden
    Show(Configuration),
}

/// Where the daemon's configuration comes from.
#[derive(Debug, Default, Args)]
pub struct Configuration {
    /// Read this file instead of /etc/droptrace/droptrace.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one value, before file and environment, such as trace.interval=2s (repeat it
    /// for more)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// How to ask the running daemon.
#[derive(Debug, Args)]
pub struct Status {
    /// Where its socket is told.
    #[command(flatten)]
    pub configuration: Configuration,
    /// Ask at this socket, without looking at the configuration
    #[arg(long, value_name = "PATH", conflicts_with_all = ["config", "set"])]
    pub socket: Option<PathBuf>,
    /// One JSON object, for programs
    #[arg(long)]
    pub json: bool,
}

/// What to try to reach, and how.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it worked, 4 with losses, 5 it was reset, 6 refused, \
        7 no answer, 8 unreachable; 1 failed while running, 2 bad command line,\n\
        3 this kernel or this user cannot trace."
)]
pub struct Probe {
    /// ADDR:PORT, [V6]:PORT or NAME:PORT
    #[arg(value_name = "ENDPOINT")]
    pub to: String,
    /// Send a datagram and wait for an answer, instead of a TCP connection
    #[arg(long)]
    pub udp: bool,
    /// How many attempts, one after the other
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: u32,
    /// From this network namespace: a name, a path, an inode number, or `self`
    #[arg(long, value_name = "NETNS")]
    pub netns: Option<String>,
    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
    /// Send no echo request, whose answer shows how far away the other end is
    #[arg(long)]
    pub no_ping: bool,
    /// Shape of the output: lines for people, or one JSON record a line
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// When to write colours
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColorChoice,
}

/// How to trace.
#[derive(Debug, Args)]
pub struct Trace {
    /// Which packets.
    #[command(flatten)]
    pub select: Select,

    /// Shape of the output: lines for people, or one JSON record a line
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,
    /// Write records to FILE instead of standard output
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Show normal clean-up too, which is no loss
    #[arg(long, help_heading = "Output")]
    pub all: bool,
    /// When to write colours
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        help_heading = "Output"
    )]
    pub color: ColorChoice,

    /// Stop after this time, such as 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Run")]
    pub duration: Option<Duration>,
    /// Stop after this many packets were shown
    #[arg(long, value_name = "N", help_heading = "Run",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Show what happened in steps of this time, 20ms to 1h
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = interval,
          help_heading = "Run")]
    pub interval: Duration,
    /// Flows listed one by one in a step; more are counted by cause
    #[arg(long, value_name = "N", default_value_t = 16_384, help_heading = "Run",
          value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub max_flows: u32,
    /// Name the netfilter rule that dropped a packet: auto, cheap, exact, off
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "HOW",
        hide_possible_values = true,
        help_heading = "Run"
    )]
    pub rules: RulesMode,
    /// Add a table to the rule set that has it tell which rule drops the packets of
    /// the filter, where nothing else shows it; the table goes with droptrace
    #[arg(long, help_heading = "Run")]
    pub allow_system_changes: bool,
    /// Say what became of conversations: auto (where the filter has an address or a port),
    /// off, all (also without one, of those that have trouble)
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "WHICH",
        hide_possible_values = true,
        help_heading = "Run"
    )]
    pub verdicts: VerdictsMode,
    /// What users do not need.
    #[command(flatten)]
    pub developer: Developer,
}

/// For who works on droptrace itself.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "For developers")]
pub struct Developer {
    /// Compare the rules that several means name; exit code 1 where they differ
    #[arg(long)]
    pub compare_rules: bool,
    /// Print the kernel programs' own debug messages
    #[arg(long)]
    pub debug_programs: bool,
}

/// Whether rules are named, and at what cost. Where the kernel keeps them, is found
/// out by trials in network namespaces of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RulesMode {
    /// Without a program on packets that pass, unless and as long as nftables drops
    /// packets and its rule is not found otherwise.
    #[default]
    Auto,
    /// Without a program on packets that pass.
    Cheap,
    /// With programs at nftables' functions from the start on, if the kernel takes
    /// them.
    Exact,
    /// No trial, no rules.
    Off,
}

/// Of which conversations there are verdicts, and at what cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictsMode {
    /// Of those that the filter selects by address or port: programs run on packets that
    /// pass.
    #[default]
    Auto,
    /// Of none.
    Off,
    /// Where packets that pass would not be watched: of those that have trouble, with a
    /// program that runs as connections open and end.
    All,
}

/// Which packets to trace. Values of one flag widen the choice, different
/// flags narrow it.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filters (repeat a flag for more values)")]
pub struct Select {
    /// Conversations with this destination, both directions: ADDR, ADDR/LEN,
    /// ADDR:PORT, [V6]:PORT, NAME, NAME:PORT, :PORT
    #[arg(long, value_name = "ENDPOINT")]
    pub dst: Vec<String>,
    /// Conversations from this source, both directions; forms as for --dst
    #[arg(long, value_name = "ENDPOINT")]
    pub src: Vec<String>,
    /// Conversations that this endpoint takes part in; forms as for --dst
    #[arg(long, value_name = "ENDPOINT")]
    pub host: Vec<String>,
    /// Port on either side: 443 or 8000-8010
    #[arg(long, value_name = "PORT")]
    pub port: Vec<String>,
    /// Protocol: tcp, udp, icmp, icmpv6, sctp, … or a number
    #[arg(long, value_name = "PROTO")]
    pub proto: Vec<String>,
    /// Interface, by name
    #[arg(long, value_name = "NAME")]
    pub iface: Vec<String>,
    /// Network namespace: a name, a path, an inode number, or `self`
    #[arg(long, value_name = "NETNS")]
    pub netns: Vec<String>,
    /// Reason of the kernel (see `droptrace reasons`)
    #[arg(long, value_name = "REASON")]
    pub reason: Vec<String>,
    /// Process whose sockets the packets belong to
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Control group whose sockets the packets belong to, with all below it
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<PathBuf>,
}

impl Select {
    /// The filter as the user gave it; `None` if there is none.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let pids: Vec<String> = self.pid.iter().map(u32::to_string).collect();
        let cgroups: Vec<String> = self
            .cgroup
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let flags = [
            ("--src", &self.src),
            ("--dst", &self.dst),
            ("--host", &self.host),
            ("--port", &self.port),
            ("--proto", &self.proto),
            ("--iface", &self.iface),
            ("--netns", &self.netns),
            ("--reason", &self.reason),
            ("--pid", &pids),
            ("--cgroup", &cgroups),
        ];
        let words: Vec<String> = flags
            .iter()
            .flat_map(|(flag, values)| values.iter().map(move |value| format!("{flag} {value}")))
            .collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("must be more than nothing".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("write a number and a unit, such as 30s, 5m or 1h".to_owned()),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    let allowed = Duration::from_millis(20)..=Duration::from_secs(3600);
    if allowed.contains(&interval) {
        Ok(interval)
    } else {
        Err("must be 20ms to 1h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_values_are_refused() {
        for words in [
            &["--duration", "30"][..],
            &["--duration", "0s"],
            &["--interval", "1ms"],
            &["--count", "0"],
            &["--max-flows", "0"],
            &["--format", "xml"],
            &["--pid", "x"],
            &["reasons", "--dst", "10.0.0.5"],
            &["daemon", "--once", "--dry-run"],
            &["config"],
            &["status", "--socket", "s", "--config", "c"],
        ] {
            let words = [&["droptrace"], words].concat();
            assert!(Cli::try_parse_from(&words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_filter_reads_as_it_was_given() {
        let cli =
            Cli::try_parse_from(["droptrace", "--dst", "10.0.0.5:443", "--pid", "7"]).unwrap();
        assert_eq!(
            cli.trace.select.text().unwrap(),
            "--dst 10.0.0.5:443 --pid 7"
        );
        assert_eq!(Select::default().text(), None);
    }
}
