//! Peers find the kernel's tracepoints, and change no mount of the machine.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where perf and bpftrace look for tracepoints.
const TRACEFS: &str = "/sys/kernel/tracing";

/// Starts it in a mount namespace of its own, in which the tracepoints are mounted, also
/// where the machine has not mounted them. perf would mount them for all.
pub fn with_tracefs(command: &mut Command) {
    // SAFETY: between fork and exec only bare system calls are made; the paths are
    // short, for which nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            let none: Option<&str> = None;
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            let kind = Some("tracefs");
            match mount(kind, TRACEFS, kind, MsFlags::empty(), none) {
                // There already.
                Ok(()) | Err(Errno::EBUSY) => Ok(()),
                Err(error) => Err(error.into()),
            }
        });
    }
}
