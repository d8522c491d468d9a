//! The `droptrace` command: parse, run, turn the outcome into an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use droptrace::{
    cli::{Cli, Command},
    run,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match &cli.command {
        // The configuration says, and may say otherwise later, what of that is written.
        Some(Command::Daemon(_)) => "warn,droptrace=debug",
        _ if cli.trace.developer.debug_programs => "debug",
        _ => "warn",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    return_errors_of_full_files();
    let outcome = match &cli.command {
        Some(Command::Reasons { format }) => run::reasons(*format),
        Some(Command::Doctor { json }) => run::doctor(*json),
        Some(Command::Probe(probe)) => return ended(run::probe(probe)),
        Some(Command::Daemon(daemon)) => run::daemon(daemon),
        Some(Command::Config { what }) => run::config(what),
        Some(Command::Status(status)) => return ended(run::status(status)),
        Some(Command::Clean(configuration)) => run::clean(configuration),
        None => run::trace(&cli.trace),
    };
    ended(outcome.map(|()| 0))
}

/// The exit code, and what went wrong.
fn ended(outcome: Result<u8, run::Failure>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("droptrace: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// A file that has reached the size limit of the process is to be an error as a
/// full disk is, not the end of the process in the middle of a line.
fn return_errors_of_full_files() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
