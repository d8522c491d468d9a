//! Who is measured, and how each is started.

use crate::run::needs;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Nobody: what the load is like without a tracer.
    Nothing,
    /// The same again: by how much two runs without a tracer differ.
    NothingAgain,
    /// An empty program at the tracepoint.
    Floor,
    /// bpftrace counts by reason in the kernel.
    BpftraceCount,
    /// bpftrace prints a line for each event.
    BpftracePrint,
    /// perf writes each event to a file.
    Perf,
    /// droptrace with its output for people.
    Command,
    /// The same, which tells as many flows apart as it can.
    CommandAllFlows,
    /// The same, with its programs at nftables' functions from the start on.
    CommandExact,
    /// The same, with a filter by an address: programs run on packets that pass.
    CommandFiltered,
    /// droptrace as a daemon that writes a file of records.
    Daemon,
    /// The same, which names no rules.
    DaemonNoRules,
}

/// The tracers of the parts about drops.
pub const TRACERS: [Contender; 5] = [
    Contender::Daemon,
    Contender::Command,
    Contender::BpftraceCount,
    Contender::BpftracePrint,
    Contender::Perf,
];

/// What bpftrace does for [`Contender::BpftraceCount`].
const COUNT: &str = "tracepoint:skb:kfree_skb { @[args->reason] = count(); }";

/// What bpftrace does for [`Contender::BpftracePrint`].
const PRINT: &str =
    r#"tracepoint:skb:kfree_skb { printf("%d %d\n", args->reason, args->protocol); }"#;

impl Contender {
    /// As the report names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no tracer",
            Self::NothingAgain => "no tracer, again",
            Self::Floor => "empty program",
            Self::BpftraceCount => "bpftrace, count",
            Self::BpftracePrint => "bpftrace, print",
            Self::Perf => "perf record",
            Self::Command => "droptrace",
            Self::CommandAllFlows => "droptrace, 1,048,576 flows",
            Self::CommandExact => "droptrace --rules exact",
            Self::CommandFiltered => "droptrace --dst",
            Self::Daemon => "droptrace daemon",
            Self::DaemonNoRules => "droptrace daemon, no rules",
        }
    }

    /// Whether it is this project's.
    pub const fn is_own(self) -> bool {
        matches!(
            self,
            Self::Command
                | Self::CommandAllFlows
                | Self::CommandExact
                | Self::CommandFiltered
                | Self::Daemon
                | Self::DaemonNoRules
        )
    }

    /// What it is started as.
    pub const fn means(self) -> Means {
        match self {
            Self::Nothing | Self::NothingAgain => Means::Nothing,
            Self::Floor => Means::Floor,
            Self::BpftraceCount => Means::Bpftrace(COUNT),
            Self::BpftracePrint => Means::Bpftrace(PRINT),
            Self::Perf => Means::Perf,
            Self::Command => Means::Command(&[]),
            Self::CommandAllFlows => Means::Command(&["--max-flows", "1048576"]),
            Self::CommandExact => Means::Command(&["--rules", "exact"]),
            Self::CommandFiltered => Means::Command(&["--dst", "10.0.0.5"]),
            Self::Daemon => Means::Daemon(&[]),
            Self::DaemonNoRules => Means::Daemon(&["trace.rules=off"]),
        }
    }

    /// Why it cannot be measured here, as far as a look at the machine tells.
    pub fn is_missing(self) -> Option<String> {
        match self.means() {
            Means::Bpftrace(_) => needs::missing_tool("bpftrace"),
            Means::Perf => needs::missing_tool("perf"),
            _ => None,
        }
    }
}

/// What a contender is started as.
#[derive(Clone, Copy, Debug)]
pub enum Means {
    /// Not at all.
    Nothing,
    /// A program of this process.
    Floor,
    /// bpftrace with this program.
    Bpftrace(&'static str),
    /// `perf record`.
    Perf,
    /// droptrace with these flags.
    Command(&'static [&'static str]),
    /// A daemon with these settings.
    Daemon(&'static [&'static str]),
}
