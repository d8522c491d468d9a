//! Runs the scenarios below `tests/scenarios` against a built droptrace.
//!
//! `tests/README.md` tells how to write a scenario.

mod bench;
mod cli;
mod demo;
mod endure;
mod run;
mod sandbox;
mod scenario;
mod traffic;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

/// Exit code for "these scenarios cannot run here", as droptrace's own.
const EXIT_CANNOT: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Run(args) => cli
            .need_root()
            .and_then(|()| run::run(&cli.droptrace()?, args)),
        Command::Bench(args) => cli
            .need_root()
            .and_then(|()| bench::run(&cli.droptrace()?, args).map(|()| ExitCode::SUCCESS)),
        Command::Endure(args) => cli
            .need_root()
            .and_then(|()| endure::run(&cli.droptrace()?, args)),
        Command::Demo => cli
            .need_root()
            .and_then(|()| demo::run(&cli.droptrace()?).map(|()| ExitCode::SUCCESS)),
        Command::Traffic { verb } => traffic::main(verb).map(|()| ExitCode::SUCCESS),
        Command::Hold => sandbox::hold().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("scenarios: {error:#}");
        if error.is::<cli::CannotRun>() {
            ExitCode::from(EXIT_CANNOT)
        } else {
            ExitCode::FAILURE
        }
    })
}
