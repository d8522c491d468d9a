//! Where a scenario happens: network namespaces of its own for its hosts, and
//! a PID and a mount namespace for all its processes.
//!
//! The first process of a PID namespace takes all others with it. It ends when
//! the runner closes the pipe to it or is killed, so nothing outlives the
//! runner, however that ends.

mod build;
mod netns;
mod process;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SIGCHLD, SigHandler, SigSet, signal};

pub use self::netns::NetNs;
pub use self::process::Process;
use crate::scenario::Topology;

/// What the holder prints when its namespaces are ready.
const READY: &str = "ready";

/// Namespaces of one scenario.
pub struct Sandbox {
    hosts: BTreeMap<String, NetNs>,
    holder: Child,
    /// Closing it ends the holder.
    leash: Option<ChildStdin>,
    pid_ns: File,
    mnt_ns: File,
    own_pid_ns: File,
}

impl Sandbox {
    /// Makes the namespaces and the network inside.
    pub fn new(topology: &Topology) -> anyhow::Result<Self> {
        let own_pid_ns = File::open("/proc/self/ns/pid")?;
        unshare(CloneFlags::CLONE_NEWPID).context("cannot make a PID namespace")?;
        let holder = Command::new("/proc/self/exe")
            .arg("hold")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        setns(&own_pid_ns, CloneFlags::CLONE_NEWPID)?;
        let mut holder = holder.context("cannot start the holder of the namespaces")?;
        let leash = holder.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim() != READY {
            bail!(
                "the holder of the namespaces did not start: {}",
                holder.wait()?
            );
        }
        let namespace = |kind| File::open(format!("/proc/{}/ns/{kind}", holder.id()));
        let (pid_ns, mnt_ns) = (namespace("pid")?, namespace("mnt")?);
        let hosts = topology
            .hosts
            .keys()
            .map(|name| Ok((name.clone(), NetNs::new()?)))
            .collect::<anyhow::Result<_>>()?;
        let sandbox = Self {
            hosts,
            holder,
            leash,
            pid_ns,
            mnt_ns,
            own_pid_ns,
        };
        build::network(topology, &sandbox.hosts).context("cannot make the topology")?;
        Ok(sandbox)
    }

    /// The network namespace of a host.
    pub fn host(&self, name: &str) -> anyhow::Result<&NetNs> {
        self.hosts
            .get(name)
            .with_context(|| format!("no host `{name}`"))
    }

    /// Starts a process on a host.
    pub fn spawn(&self, host: &str, command: &mut Command) -> anyhow::Result<Process> {
        let netns = self.host(host)?.as_fd().as_raw_fd();
        let mnt_ns = self.mnt_ns.as_raw_fd();
        // SAFETY: between fork and exec, only bare system calls are made, on file
        // descriptors that stay open in the parent; nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                // What the runner blocks for itself must reach the child.
                SigSet::empty().thread_set_mask()?;
                enter_raw(netns, CloneFlags::CLONE_NEWNET)?;
                enter_raw(mnt_ns, CloneFlags::CLONE_NEWNS)
            });
        }
        // Which PID namespace a child starts in is the parent's affair. Threads
        // cannot be made meanwhile, so it goes back at once.
        setns(&self.pid_ns, CloneFlags::CLONE_NEWPID)?;
        let child = command.spawn();
        setns(&self.own_pid_ns, CloneFlags::CLONE_NEWPID)?;
        child
            .map(Process::new)
            .with_context(|| format!("cannot start {}", command.get_program().display()))
    }

    /// Runs a shell command on a host; `input` is its standard input.
    pub fn shell(&self, host: &str, line: &str, input: &str) -> anyhow::Result<String> {
        let mut command = Command::new("sh");
        command
            .args(["-ec", line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.spawn(host, &mut command)?;
        if let Some(mut stdin) = child.stdin() {
            // A command that does not read its input is none of our business.
            let _ = stdin.write_all(input.as_bytes());
        }
        let Output {
            status,
            stdout,
            stderr,
        } = child.finish(Duration::from_secs(20))?;
        if !status.success() {
            bail!(
                "on {host}: `{line}`: {status}: {}",
                String::from_utf8_lossy(&stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.leash.take());
        // Returns when every process of the namespace is gone.
        let _ = self.holder.wait();
    }
}

fn enter_raw(fd: i32, kind: CloneFlags) -> std::io::Result<()> {
    // SAFETY: the caller's descriptor is open for the duration of the call.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    setns(fd, kind).map_err(std::io::Error::from)
}

/// The body of the holder: makes the mount namespace, says so, and stays until
/// the runner lets go of its standard input.
pub fn hold() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("cannot make mounts private")?;
    // Lock files of iptables and the like stay in here.
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none)
        .context("cannot mount /run")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)
        .context("cannot mount /proc")?;
    // As first process it inherits orphans; ignored, they vanish by themselves.
    // SAFETY: no handler is installed.
    unsafe { signal(SIGCHLD, SigHandler::SigIgn) }?;
    println!("{READY}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
