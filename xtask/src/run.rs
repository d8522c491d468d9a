//! How does one try droptrace while working on it?

use std::{ffi::OsString, process::Command, process::ExitCode};

use anyhow::Result;

use crate::{build, cmd, workspace::Workspace};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Arguments for droptrace
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    arguments: Vec<OsString>,
}

pub fn verb(ws: &Workspace, args: &Args) -> Result<ExitCode> {
    build::droptrace(ws)?;
    let mut droptrace = Command::new(ws.release("droptrace"));
    Err(cmd::exec(droptrace.args(&args.arguments)))
}
