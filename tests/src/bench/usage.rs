//! What a process uses: time of the CPUs, and memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::errno::Errno;

/// CPU time of a process and of those of its children that have ended.
pub fn cpu(process: u32) -> anyhow::Result<Duration> {
    let mut clock = 0;
    // SAFETY: `clock` is valid for the call.
    let error = unsafe { libc::clock_getcpuclockid(process.cast_signed(), &raw mut clock) };
    if error != 0 {
        let error = Errno::from_raw(error);
        bail!("process {process} has no clock: {error}");
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for the call.
    Errno::result(unsafe { libc::clock_gettime(clock, &raw mut time) })
        .with_context(|| format!("cannot read the clock of process {process}"))?;
    let own = Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?);
    Ok(own + of_children(process)?)
}

/// Fields 16 and 17 of `stat`, in ticks.
fn of_children(process: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The second field is a name, which may have spaces in it.
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: u64 = rest
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    // SAFETY: no pointers are passed.
    let in_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) })?;
    Ok(Duration::from_millis(ticks * 1000 / in_second.max(1)))
}

/// Bytes of memory that are resident now.
pub fn resident(process: u32) -> anyhow::Result<u64> {
    memory(process, "VmRSS:")
}

/// Bytes of memory that were resident at most since [`forget_peak`].
pub fn peak(process: u32) -> anyhow::Result<u64> {
    memory(process, "VmHWM:")
}

/// The peak is what is resident now.
pub fn forget_peak(process: u32) -> anyhow::Result<()> {
    let path = format!("/proc/{process}/clear_refs");
    fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
}

fn memory(process: u32, name: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib
        .and_then(|kib| kib.parse().ok())
        .with_context(|| format!("{path} has no {name}"))?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_time_and_memory_are_read() {
        let own = std::process::id();
        let before = cpu(own).unwrap();
        let mut work = 1_u64;
        while cpu(own).unwrap() < before + Duration::from_millis(5) {
            work = std::hint::black_box(work.wrapping_mul(3));
        }
        assert!(resident(own).unwrap() > 100_000);
        assert!(peak(own).unwrap() >= 100_000);
    }
}
