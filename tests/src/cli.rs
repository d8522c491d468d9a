//! Which commands and flags there are.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::run::MayDeny;
use crate::{bench, endure};

/// Proves on a real kernel what droptrace says.
#[derive(Parser)]
#[command(name = "scenarios", version)]
pub struct Cli {
    /// The droptrace to test.
    #[arg(long, value_name = "PATH", global = true)]
    droptrace: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the scenarios, one line each.
    Run(RunArgs),
    /// Measure droptrace and others, write a report.
    Bench(BenchArgs),
    /// Hold a daemon to its promises over time, and print a table of it.
    Endure(EndureArgs),
    /// Show droptrace at work on refused, dropped and reset connections.
    Demo,
    /// Make traffic in the current network namespace (the runner calls this).
    #[command(hide = true)]
    Traffic {
        /// The verb as JSON.
        verb: String,
    },
    /// Hold the namespaces of a scenario (the runner calls this).
    #[command(hide = true)]
    Hold,
}

/// Flags of `run`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags, which do not depend on each other"
)]
#[derive(Args)]
pub struct RunArgs {
    /// Folder with the scenario files.
    #[arg(long, value_name = "DIR", default_value = "tests/scenarios")]
    pub dir: PathBuf,
    /// Run only the scenarios whose name contains this; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub filter: Vec<String>,
    /// Fail if `droptrace doctor` denies an ability that is not on this list:
    /// names separated by commas, or `none`. Without it, it may deny any.
    #[arg(long, value_name = "LIST")]
    pub may_deny: Option<MayDeny>,
    /// Have droptrace name rules by every means that it has, and compare: fails
    /// where two differ, and where there is nothing to compare.
    #[arg(long)]
    pub compare_rules: bool,
    /// Have droptrace trace as a daemon, whose file has the records.
    #[arg(long, conflicts_with = "compare_rules")]
    pub daemon: bool,
    /// Leave out scenarios that prove what does not depend on the kernel: they are
    /// played on another one.
    #[arg(long)]
    pub other_kernel: bool,
    /// Print one JSON object for each scenario.
    #[arg(long)]
    pub json: bool,
    /// Print the records that droptrace printed, for passed scenarios too.
    #[arg(long)]
    pub records: bool,
}

/// Flags of `bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// Folder for report.json.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub out: PathBuf,
    /// Measure only this part; may be repeated.
    #[arg(long, value_name = "PART")]
    pub only: Vec<bench::Part>,
    /// Rounds of each part, instead of three or five.
    #[arg(long, value_name = "N")]
    pub repeat: Option<usize>,
    /// One round of smaller loads: a first look, in about a minute.
    #[arg(long)]
    pub short: bool,
    /// Only check that the counters of the benchmark agree with each other.
    #[arg(long, conflicts_with_all = ["only", "repeat", "short", "update_docs"])]
    pub check: bool,
    /// Write the figures into the documentation that this folder has, between its marks.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["only", "short"])]
    pub update_docs: Option<PathBuf>,
}

/// Flags of `endure`.
#[derive(Args)]
pub struct EndureArgs {
    /// Only this part; may be repeated.
    #[arg(long, value_name = "PART")]
    pub only: Vec<endure::Part>,
    /// A few seconds of each part: that it works, not that it endures.
    #[arg(long, conflicts_with = "count")]
    pub short: bool,
    /// How often (or, of `rest`, for how many seconds), instead of the part's own count.
    #[arg(long)]
    pub count: Option<u32>,
    /// Begin the numbers by chance as another run did.
    #[arg(long)]
    pub seed: Option<u64>,
}

impl EndureArgs {
    /// How often.
    pub fn count(&self, whole: u32, short: u32) -> u32 {
        self.count.unwrap_or(if self.short { short } else { whole })
    }
}

/// The machine or the user does not allow any scenario.
#[derive(Debug)]
pub struct CannotRun(&'static str);

impl std::fmt::Display for CannotRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for CannotRun {}

impl Cli {
    /// The droptrace to test, as an absolute path.
    pub fn droptrace(&self) -> anyhow::Result<PathBuf> {
        let path = self
            .droptrace
            .as_ref()
            .context("which droptrace? name it with --droptrace PATH")?;
        path.canonicalize()
            .with_context(|| format!("no droptrace at {}; build it first", path.display()))
    }

    /// Refuses early what would fail at the first namespace.
    #[expect(
        clippy::unused_self,
        reason = "reads as a question to the command line"
    )]
    pub fn need_root(&self) -> anyhow::Result<()> {
        if nix::unistd::geteuid().is_root() {
            Ok(())
        } else {
            Err(CannotRun(
                "scenarios make network namespaces and trace the kernel: run them as root",
            )
            .into())
        }
    }
}
