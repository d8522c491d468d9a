//! How does one see droptrace at work without waiting for a drop?

use std::process::ExitCode;

use anyhow::Result;

use crate::{build, cmd, scenarios, tools, ui::Step, workspace::Workspace};

pub fn verb(ws: &Workspace) -> Result<ExitCode> {
    let step = Step::start("set up the tools of the demo");
    tools::ensure()?;
    step.end();
    build::with_runner(ws)?;
    Err(cmd::exec(scenarios::runner(ws).arg("demo")))
}
