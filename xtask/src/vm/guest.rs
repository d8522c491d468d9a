//! How does a guest run one command?

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{self, Child, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    end::{BOOT, End, Limits, Stop, end, last_lines},
    image, initramfs,
    kernel::Kernel,
    qemu,
};
use crate::{cmd, workspace::Workspace};

/// Emulated machines can fail to start.
const STARTS: u32 = 3;
/// Between two looks at the guest.
const PAUSE: Duration = Duration::from_millis(20);
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
    limits: Limits,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<Ran> {
    let deadline = Instant::now() + limits.whole;
    let vmlinux = image::prepare(kernel)?;
    let busybox = cmd::find("busybox").context("there is no busybox on this machine")?;
    let folder = Folder::new(ws)?;
    let archive = initramfs::build(kernel, &busybox, command)?;
    let initramfs = folder.0.join(qemu::INITRAMFS);
    fs::write(&initramfs, archive)
        .with_context(|| format!("could not write {}", initramfs.display()))?;
    for start in 1.. {
        let (stop, status) = once(&vmlinux, &folder.0, deadline, limits.silence, out, err)?;
        let console = read(&folder.0.join(qemu::CONSOLE));
        let end = end(stop, &status, &console, limits);
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

/// One start of the machine, with what its port `status` said.
fn once(
    vmlinux: &Path,
    folder: &Path,
    deadline: Instant,
    silence: Option<Duration>,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<(Stop, String)> {
    for file in [qemu::CONSOLE, qemu::STATUS] {
        fs::write(folder.join(file), "").context("could not write to the guest's folder")?;
    }
    let status = folder.join(qemu::STATUS);
    let up_by = Instant::now() + BOOT;
    let mut child = qemu::command(vmlinux, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not start the guest's machine")?;
    let stdout = child.stdout.take().context("no pipe to the guest")?;
    let stderr = child.stderr.take().context("no pipe to the guest")?;
    let heard = Mutex::new(Instant::now());
    let stop = thread::scope(|scope| {
        scope.spawn(|| copy(stdout, out, &heard));
        scope.spawn(|| copy(stderr, err, &heard));
        watch(&mut child, || {
            let now = Instant::now();
            let silent = |limit| heard.lock().is_ok_and(|at| now - *at >= limit);
            let is_up = !read(&status).is_empty();
            if now >= deadline {
                Some(Stop::Deadline)
            } else if !is_up {
                (now >= up_by).then_some(Stop::NeverUp)
            } else {
                silence.is_some_and(silent).then_some(Stop::Silence)
            }
        })
    })
    .context("could not wait for the guest's machine")?;
    Ok((stop, read(&status)))
}

/// Waits for the machine's end, or ends it for a reason. Its output ends with it.
fn watch(child: &mut Child, reason: impl Fn() -> Option<Stop>) -> io::Result<Stop> {
    loop {
        if child.try_wait()?.is_some() {
            return Ok(Stop::Ended);
        }
        if let Some(stop) = reason() {
            child.kill()?;
            child.wait()?;
            return Ok(stop);
        }
        thread::sleep(PAUSE);
    }
}

fn copy(mut from: impl Read, to: &mut (dyn Write + Send), heard: &Mutex<Instant>) {
    let mut buffer = [0; 1 << 14];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        if let Ok(mut heard) = heard.lock() {
            *heard = Instant::now();
        }
        // A reader that went away must not stop the guest.
        let _ = to.write_all(&buffer[..size]).and_then(|()| to.flush());
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).replace('\r', ""),
    )
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
