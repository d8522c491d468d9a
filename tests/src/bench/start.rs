//! Part 5: from a process's start to its first program attached, and to all.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;

use super::Bench;
use super::contender::{Contender, TRACERS};
use super::samples::{Metric, metric};

/// As the report names this part.
pub const PART: &str = "start";

/// As cases.
pub const WARM: &str = "warm cache";
const COLD: &str = "its file not in the cache";

/// A drop was seen.
const FIRST: Metric = metric("to the first program", "ms");
/// It says that it traces.
pub const ALL: Metric = metric("to all programs", "ms");
/// Of the process up to then.
const CPU: Metric = metric("CPU time", "ms");

/// Starts that follow each other, since they take little time.
const STARTS: usize = 3;

/// Measures it.
pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let rounds = bench.rounds_or(3);
    bench.rounds(rounds, &TRACERS, |bench, contender| {
        let starts = if bench.is_short { 1 } else { STARTS };
        (0..starts).try_for_each(|_| one(bench, contender, WARM))
    })?;
    // A file of its own, that no other process has mapped.
    let warm = bench.droptrace.clone();
    let cold = bench.folder.join("droptrace");
    fs::copy(&warm, &cold).context("cannot copy droptrace")?;
    File::open(&cold)?.sync_all()?;
    bench.droptrace.clone_from(&cold);
    let outcome = bench.rounds(
        rounds,
        &[Contender::Daemon, Contender::Command],
        |bench, contender| {
            forget(&cold)?;
            one(bench, contender, COLD)
        },
    );
    bench.droptrace = warm;
    outcome
}

fn one(bench: &mut Bench, contender: Contender, case: &str) -> anyhow::Result<()> {
    let session = bench.start(contender)?;
    let cpu = session.cpu()?;
    let began = session.began;
    session.stop(&bench.ground)?;
    for (metric, time) in [(FIRST, began.first), (ALL, began.all), (CPU, cpu)] {
        bench.add(PART, case, contender, metric, millis(time));
    }
    Ok(())
}

/// A time as a figure.
pub fn millis(time: Duration) -> f64 {
    1000.0 * time.as_secs_f64()
}

/// Has the kernel forget what it cached of a file.
fn forget(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path)?;
    // SAFETY: no pointers are passed.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if error != 0 {
        return Err(Errno::from_raw(error)).context("cannot clear the cache of a file");
    }
    Ok(())
}
