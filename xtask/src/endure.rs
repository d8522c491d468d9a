//! How does the daemon prove itself over time?

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{build, cmd, scenarios, tools, ui::Step, workspace::Workspace};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Arguments for `scenarios endure`: --only PART, --count N, --seed N, --short
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    arguments: Vec<OsString>,
}

pub fn verb(ws: &Workspace, args: &Args) -> Result<ExitCode> {
    let step = Step::start("set up the tools of the scenarios");
    tools::ensure_or_warn();
    step.end();
    build::with_runner(ws)?;
    let mut runner = scenarios::runner(ws);
    Err(cmd::exec(runner.arg("endure").args(&args.arguments)))
}

/// A few seconds of each part.
pub fn short(ws: &Workspace) -> Command {
    let mut runner = scenarios::runner(ws);
    runner.args(["endure", "--short"]);
    runner
}
