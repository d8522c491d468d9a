//! Runs a program, with bounds: on its time and on what it may print.

use std::{
    io::{self, Read as _},
    os::fd::AsRawFd as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

const MAX_COMPLAINT: u64 = 1024;

/// Why a program printed nothing of use.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no such program.
    #[error("the program `{0}` was not found; install it (package iptables)")]
    Missing(&'static str),
    /// It could not be started or read from.
    #[error("`{0}` could not be run: {1}")]
    Run(&'static str, io::Error),
    /// It took too long.
    #[error("`{0}` took longer than {1:?} and was ended")]
    TooSlow(&'static str, Duration),
    /// It printed too much.
    #[error("`{0}` printed more than {1} bytes and was ended")]
    TooLong(&'static str, usize),
    /// It failed.
    #[error("`{name}` failed ({status}): {complaint:?}")]
    Failed {
        /// Which one.
        name: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        complaint: String,
    },
}

/// What a program prints.
///
/// # Errors
///
/// If it cannot be run, or fails, or takes or prints too much.
pub fn run(
    name: &'static str,
    command: &mut Command,
    time: Duration,
    bytes: usize,
) -> Result<String, Failure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::Missing(name),
        _ => Failure::Run(name, error),
    };
    let deadline = Instant::now() + time;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let output = read(&mut child, deadline, bytes).and_then(|output| match output {
        Read::All(output) => Ok(wait(&mut child, deadline)?.map(|status| (output, status))
            .ok_or(Failure::TooSlow(name, time))),
        Read::TooLong => Ok(Err(Failure::TooLong(name, bytes))),
        Read::TooSlow => Ok(Err(Failure::TooSlow(name, time))),
    });
    let output = output.unwrap_or_else(|error| Err(failed(error)));
    if output.is_err() {
        // It may have ended just now.
        let _ = child.kill();
        child.wait().map_err(failed)?;
    }
    let (output, status) = output?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&output).into_owned());
    }
    let mut complaint = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut stderr = stderr.take(MAX_COMPLAINT);
        stderr.read_to_end(&mut complaint).map_err(failed)?;
    }
    let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
    Err(Failure::Failed {
        name,
        status,
        complaint,
    })
}
