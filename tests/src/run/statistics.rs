//! How often the kernel ran droptrace's programs, or kept them from running, by its
//! own statistics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// `BPF_ENABLE_STATS`
const ENABLE_STATS: libc::c_long = 32;

/// `BPF_PROG_TYPE_KPROBE`
const KPROBE: u64 = 2;

/// While it lives, the kernel counts how often BPF programs run.
pub struct Statistics {
    _enabled: OwnedFd,
    process: u32,
    before: u64,
}

impl Statistics {
    /// Begins to count the runs of a process's programs.
    pub fn of(process: u32) -> anyhow::Result<Self> {
        Ok(Self {
            _enabled: enable()?,
            process,
            before: runs(process)?,
        })
    }

    /// How often the one ran that ran most often since.
    pub fn runs(&self) -> anyhow::Result<u64> {
        Ok(runs(self.process)? - self.before)
    }

    /// How long all of them have run while the kernel counted.
    pub fn run_time(&self) -> anyhow::Result<Duration> {
        let nanos = attached(self.process, "run_time_ns:")?;
        Ok(Duration::from_nanos(nanos.iter().sum()))
    }
}

/// Has the kernel count the runs of BPF programs, and their time, while the answer lives.
pub fn enable() -> anyhow::Result<OwnedFd> {
    // `BPF_STATS_RUN_TIME`
    let attribute = [0_u32; 32];
    // SAFETY: the attribute is as large as said.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            ENABLE_STATS,
            attribute.as_ptr(),
            size_of_val(&attribute),
        )
    };
    if fd < 0 {
        let error = io::Error::last_os_error();
        bail!("the kernel does not count runs of BPF programs: {error}");
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// What the kernel counted of all programs of a process, while it was told to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// How often they ran.
    pub runs: u64,
    /// For how long, in nanoseconds.
    pub time: u64,
    /// Bytes that its maps occupy.
    pub maps: u64,
    /// Whether a kprobe is among them.
    pub has_kprobes: bool,
}

/// Sums up the programs and maps that a process holds.
pub fn totals(process: u32) -> anyhow::Result<Totals> {
    let mut seen = BTreeSet::new();
    let mut totals = Totals::default();
    for text in descriptors(process)? {
        let number = |name: &str| number(&text, name);
        match (number("prog_id:"), number("map_id:")) {
            // A link names its program, too.
            (Some(program), _)
                if !text.contains("link_type:") && seen.insert(("program", program)) =>
            {
                totals.runs += number("run_cnt:").unwrap_or(0);
                totals.time += number("run_time_ns:").unwrap_or(0);
                totals.has_kprobes |= number("prog_type:") == Some(KPROBE);
            }
            (None, Some(map)) if seen.insert(("map", map)) => {
                totals.maps += number("memlock:").unwrap_or(0);
            }
            _ => {}
        }
    }
    Ok(totals)
}

/// What the kernel tells about each open file of a process.
fn descriptors(process: u32) -> anyhow::Result<impl Iterator<Item = String>> {
    let folder = format!("/proc/{process}/fdinfo");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    Ok(files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok()))
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

/// How often the kernel kept a program of the process from running because it ran
/// already on that CPU; that of the program for which it did so most often. Zero for
/// kernels that do not do so.
pub fn skipped(process: u32) -> anyhow::Result<u64> {
    most(process, "recursion_misses:")
}

fn runs(process: u32) -> anyhow::Result<u64> {
    most(process, "run_cnt:")
}

/// The largest such number of the programs that the process has attached.
fn most(process: u32, what: &str) -> anyhow::Result<u64> {
    let numbers = attached(process, what)?;
    let most = numbers.into_iter().max();
    most.context("droptrace has attached no BPF program")
}

/// These numbers of the programs that the process has attached. It may have others that
/// it runs itself.
fn attached(process: u32, what: &str) -> anyhow::Result<Vec<u64>> {
    let mut programs = BTreeMap::new();
    let mut attached = BTreeSet::new();
    for text in descriptors(process)? {
        let number = |name: &str| number(&text, name);
        match number("prog_id:") {
            // At functions, not all kernels attach programs by a link.
            Some(program) if number("prog_type:") == Some(KPROBE) => {
                programs.insert(program, number(what).unwrap_or(0));
                attached.insert(program);
            }
            Some(program) if text.contains("link_type:") => {
                attached.insert(program);
            }
            Some(program) => {
                programs.insert(program, number(what).unwrap_or(0));
            }
            None => {}
        }
    }
    let attached = attached.iter().filter_map(|program| programs.get(program));
    Ok(attached.copied().collect())
}
