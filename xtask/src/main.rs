//! What can a contributor run? One verb here, one module each.

mod apt;
mod bench;
mod build;
mod check;
mod cmd;
mod compiler;
mod demo;
mod endure;
mod linker;
mod matrix;
mod package;
mod run;
mod scenarios;
mod setup;
mod strip;
mod test;
mod tools;
mod ui;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Build, check and test droptrace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find or install what the build, the tests and the demo need
    Setup,
    /// Build the kernel programs, check them, build droptrace around them
    Build(build::Args),
    /// Say what is in the kernel object, and whether all of it is there
    Check,
    /// Build droptrace and run it with the arguments that follow
    Run(run::Args),
    /// Build droptrace and prove the scenarios on this kernel or others (root)
    Scenarios(scenarios::Args),
    /// Build droptrace and hold its daemon to its promises over time (root)
    Endure(endure::Args),
    /// Run a command as root on another kernel, in a virtual machine
    Vm(vm::Args),
    /// Measure what droptrace costs, beside other tracers, into target/bench (root)
    Bench(bench::Args),
    /// Drop packets on purpose and show what droptrace says (root)
    Demo,
    /// Build man pages, completions and a Debian package into target/package
    Package,
    /// Everything CI runs: formatting, build, lints, unit tests, scenarios
    Test(test::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = Workspace::find().and_then(|ws| match cli.verb {
        Verb::Setup => setup::verb(&ws),
        Verb::Build(args) => build::verb(&ws, &args),
        Verb::Check => check::verb(&ws),
        Verb::Run(args) => run::verb(&ws, &args),
        Verb::Scenarios(args) => scenarios::verb(&ws, &args),
        Verb::Endure(args) => endure::verb(&ws, &args),
        Verb::Vm(args) => vm::verb(&ws, &args),
        Verb::Bench(args) => bench::verb(&ws, &args),
        Verb::Demo => demo::verb(&ws),
        Verb::Package => package::verb(&ws),
        Verb::Test(args) => test::verb(&ws, &args),
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
