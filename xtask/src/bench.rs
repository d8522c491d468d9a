//! How fast is droptrace, beside others? The runner measures; `docs/benchmarks.md` says
//! what.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    apt, build, cmd, scenarios,
    tools::{self, Tool},
    ui::Step,
    workspace::Workspace,
};

/// What droptrace is compared with. A measurement without them is one, too.
const PEERS: [Tool; 2] = [("bpftrace", "bpftrace"), ("perf", "linux-perf")];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Measure only this part: cost, space, start, loss, accepted, growth; may be
    /// repeated
    #[arg(long, value_name = "PART")]
    only: Vec<String>,

    /// Rounds of each part, instead of three or five
    #[arg(long, value_name = "N")]
    repeat: Option<usize>,

    /// One round of smaller loads: a first look, in about a minute
    #[arg(long)]
    short: bool,

    /// Write the figures into docs/benchmarks.md and README.md
    #[arg(long, conflicts_with_all = ["only", "short"])]
    update_docs: bool,
}

pub fn verb(ws: &Workspace, args: &Args) -> Result<ExitCode> {
    let step = Step::start("set up the tools of the benchmark");
    tools::ensure()?;
    for peer in PEERS {
        if let Err(error) = tools::ensure_all(&[peer], "the benchmark", apt::install) {
            eprintln!("warning: {error:#}");
            eprintln!("warning: {} is left out", peer.0);
        }
    }
    step.end();
    build::with_runner(ws)?;
    let mut runner = scenarios::runner(ws);
    runner
        .arg("bench")
        .arg("--out")
        .arg(ws.target().join("bench"));
    for part in &args.only {
        runner.args(["--only", part]);
    }
    if let Some(rounds) = args.repeat {
        runner.args(["--repeat", &rounds.to_string()]);
    }
    if args.short {
        runner.arg("--short");
    }
    if args.update_docs {
        runner.arg("--update-docs").arg(ws.root());
    }
    Err(cmd::exec(&mut runner))
}

/// Whether the benchmark's counters agree with each other, on this kernel and with the
/// peers that are there; no time is looked at.
pub fn check(ws: &Workspace) -> Result<()> {
    if !cmd::is_root() {
        eprintln!("    skipped: it needs root");
        return Ok(());
    }
    let mut runner = scenarios::runner(ws);
    runner
        .args(["bench", "--check", "--out"])
        .arg(ws.target().join("bench"));
    cmd::run(&mut runner, "have the benchmark's counters agree")
}
