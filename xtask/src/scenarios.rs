//! How are the scenarios proven on the running kernel?

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{build, cmd, tools, ui::Step, workspace::Workspace};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of scenarios, instead of tests/scenarios
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Only scenarios with NAME in their name; may be repeated
    #[arg(long, value_name = "NAME")]
    filter: Vec<String>,

    /// Results as JSON on standard output
    #[arg(long)]
    json: bool,

    /// Also what droptrace recorded in scenarios that passed
    #[arg(long)]
    records: bool,
}

pub fn verb(ws: &Workspace, args: &Args) -> Result<ExitCode> {
    let step = Step::start("set up the tools of the scenarios");
    tools::ensure_or_warn();
    step.end();
    build::with_runner(ws)?;
    let mut runner = runner(ws);
    runner.arg("run").arg("--dir");
    runner.arg(args.dir.clone().unwrap_or_else(|| ws.scenarios()));
    for name in &args.filter {
        runner.arg("--filter").arg(name);
    }
    if args.json {
        runner.arg("--json");
    }
    if args.records {
        runner.arg("--records");
    }
    Err(cmd::exec(&mut runner))
}

/// The runner, told which droptrace it is about.
pub fn runner(ws: &Workspace) -> Command {
    let mut runner = Command::new(ws.release("scenarios"));
    runner.arg("--droptrace").arg(ws.release("droptrace"));
    runner
}
