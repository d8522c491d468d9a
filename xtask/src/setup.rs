//! What has to be on this machine before anything can be built or tested?

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    compiler::{self, Compiler},
    linker::{self, Linker},
    tools,
    ui::Step,
    workspace::Workspace,
};

/// What builds the kernel programs.
#[derive(Debug)]
pub struct Toolchain {
    pub compiler: Compiler,
    pub linker: Linker,
}

pub fn verb(ws: &Workspace) -> Result<ExitCode> {
    toolchain(ws)?;
    let step = Step::start("set up the tools of the scenarios and the demo");
    tools::ensure()?;
    step.end();
    Ok(ExitCode::SUCCESS)
}

/// Finds or installs the compiler and the linker for the kernel programs.
pub fn toolchain(ws: &Workspace) -> Result<Toolchain> {
    let step = Step::start("set up the compiler of the kernel programs");
    let compiler = compiler::ensure()?;
    let linker = linker::ensure(ws, &compiler)?;
    step.end();
    Ok(Toolchain { compiler, linker })
}
