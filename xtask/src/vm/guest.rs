//! How does a guest run one command, and how is it told that it failed?

use std::{
    fmt, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{self, Child, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{image, initramfs, kernel::Kernel, qemu};
use crate::{cmd, ui, workspace::Workspace};

/// A start takes 3 to 5 s in software on an idle machine.
const BOOT: Duration = Duration::from_secs(90);
/// Emulated machines can fail to start.
const STARTS: u32 = 3;
/// Between two looks at the guest.
const PAUSE: Duration = Duration::from_millis(20);
/// Lines of the console that are shown on failure.
const CONSOLE_LINES: usize = 60;

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The command ended with this exit status.
    Exited(u8),
    /// The kernel panicked, or the machine stopped otherwise.
    Died(String),
    /// The command had not ended in this time.
    TimedOut(Duration),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "the command ended with exit status {status}"),
            Self::Died(why) => write!(f, "the guest died: {why}"),
            Self::TimedOut(limit) => {
                write!(
                    f,
                    "the guest was stopped: no end after {}",
                    ui::elapsed(*limit)
                )
            }
        }
    }
}

/// What a guest did.
#[derive(Debug)]
pub struct Ran {
    pub end: End,
    /// The last lines of its kernel's console.
    pub console: String,
}

/// Runs a shell command as root in a guest with this machine's files, which it
/// may change for itself alone. The output goes to `out` and `err` as it comes.
pub fn run(
    ws: &Workspace,
    kernel: &Kernel,
    command: &str,
    limit: Duration,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<Ran> {
    let deadline = Instant::now() + limit;
    let vmlinux = image::prepare(kernel)?;
    let busybox = cmd::find("busybox").context("there is no busybox on this machine")?;
    let folder = Folder::new(ws)?;
    let archive = initramfs::build(kernel, &busybox, command)?;
    let initramfs = folder.0.join(qemu::INITRAMFS);
    fs::write(&initramfs, archive)
        .with_context(|| format!("could not write {}", initramfs.display()))?;
    for start in 1.. {
        let (stop, status) = once(&vmlinux, &folder.0, deadline, out, err)?;
        let console = read(&folder.0.join(qemu::CONSOLE));
        let end = end(stop, &status, &console, limit);
        // Never the command a second time, nor a QEMU that refuses its options.
        let came_up = status.starts_with("up");
        let may_retry = !came_up && !console.is_empty() && Instant::now() < deadline;
        if may_retry && start < STARTS {
            eprintln!(
                "warning: kernel {} did not start ({end}); again",
                kernel.release
            );
            continue;
        }
        return Ok(Ran {
            end,
            console: last_lines(&console),
        });
    }
    unreachable!("the last start returns")
}

/// Why this process stopped looking at a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Ended,
    NeverUp,
    Deadline,
}

/// One start of the machine, with what its port `status` said.
fn once(
    vmlinux: &Path,
    folder: &Path,
    deadline: Instant,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<(Stop, String)> {
    for file in [qemu::CONSOLE, qemu::STATUS] {
        fs::write(folder.join(file), "").context("could not write to the guest's folder")?;
    }
    let status = folder.join(qemu::STATUS);
    let mut child = qemu::command(vmlinux, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not start the guest's machine")?;
    let stdout = child.stdout.take().context("no pipe to the guest")?;
    let stderr = child.stderr.take().context("no pipe to the guest")?;
    let stop = thread::scope(|scope| {
        scope.spawn(move || copy(stdout, out));
        scope.spawn(move || copy(stderr, err));
        watch(&mut child, &status, deadline)
    })
    .context("could not wait for the guest's machine")?;
    Ok((stop, read(&status)))
}

/// Waits for the machine's end, or ends it. Its output ends with it.
fn watch(child: &mut Child, status: &Path, deadline: Instant) -> io::Result<Stop> {
    let up_by = Instant::now() + BOOT;
    let stop = loop {
        if child.try_wait()?.is_some() {
            return Ok(Stop::Ended);
        }
        let now = Instant::now();
        if now >= deadline {
            break Stop::Deadline;
        }
        if now >= up_by && read(status).is_empty() {
            break Stop::NeverUp;
        }
        thread::sleep(PAUSE);
    };
    child.kill()?;
    child.wait()?;
    Ok(stop)
}

fn copy(mut from: impl Read, to: &mut dyn Write) {
    let mut buffer = [0; 1 << 14];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        // A reader that went away must not stop the guest.
        let _ = to.write_all(&buffer[..size]).and_then(|()| to.flush());
    }
}

fn end(stop: Stop, status: &str, console: &str, limit: Duration) -> End {
    let exit = status
        .lines()
        .find_map(|line| line.strip_prefix("end ")?.parse().ok());
    if let Some(exit) = exit {
        return End::Exited(exit);
    }
    match stop {
        Stop::Deadline => End::TimedOut(limit),
        Stop::NeverUp => End::Died(format!("it did not start within {}", ui::elapsed(BOOT))),
        Stop::Ended => End::Died(death(console)),
    }
}

/// The line of the console that says most.
fn death(console: &str) -> String {
    ["Kernel panic", "xtask: ", "BUG:", "Oops"]
        .iter()
        .find_map(|sign| {
            let line = console.lines().find(|line| line.contains(sign))?;
            Some(line[line.find(sign)?..].trim().to_owned())
        })
        .unwrap_or_else(|| "its machine stopped without a word".to_owned())
}

fn read(path: &Path) -> String {
    fs::read(path).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).replace('\r', ""),
    )
}

/// Of what the kernel said, without the firmware's greeting.
fn last_lines(text: &str) -> String {
    let kernel = text.find("Booting from ROM").unwrap_or(0);
    let lines: Vec<_> = text[kernel..].lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}

/// The folder of one run, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(ws: &Workspace) -> Result<Self> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let path = ws
            .kernels()
            .join("run")
            .join(format!("{}-{run}", process::id()));
        fs::create_dir_all(&path)
            .with_context(|| format!("could not make the folder {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is below target/ and harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
