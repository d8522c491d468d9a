//! How is a guest's machine watched until it ends, by itself or not?

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    end::{BOOT, End, Limits, Stop, end, last_lines},
    qemu,
};

/// Emulated machines can fail to start.
const STARTS: u32 = 3;
/// Between two looks at the machine.
const PAUSE: Duration = Duration::from_millis(20);

/// What a guest did.
#[derive(Debug)]
pub struct Ran {
    pub end: End,
    /// The last lines of its kernel's console.
    pub console: String,
    /// How often it was started until its command was.
    pub starts: u32,
    /// From its last start until its command was started, if that happened.
    pub start_took: Option<Duration>,
}

/// Where what the guest says goes to, as it comes.
pub struct Outputs<'a> {
    pub out: &'a mut (dyn Write + Send),
    pub err: &'a mut (dyn Write + Send),
}

/// Starts the machine, again if it dies before its command is started, and
/// waits for its end. `folder` is where it leaves its console and its status.
pub fn run(
    machine: impl Fn() -> Command,
    folder: &Path,
    limits: Limits,
    outputs: &mut Outputs<'_>,
) -> Result<Ran> {
    let deadline = Instant::now() + limits.whole;
    let mut starts = 0;
    loop {
        starts += 1;
        let seen = once(machine(), folder, deadline, limits, outputs)?;
        let console = read(&folder.join(qemu::CONSOLE));
        let end = end(seen.stop, &seen.status, &console, limits);
        // Never the command a second time, nor a QEMU that refuses its options.
        let came_up = seen.up_after.is_some();
        let was_refused = seen.stop == Stop::Ended && console.is_empty();
        if came_up || was_refused || starts == STARTS || Instant::now() >= deadline {
            return Ok(Ran {
                end,
                console: last_lines(&console),
                starts,
                start_took: seen.up_after,
            });
        }
        let again = format!("warning: {end}; starting it again ({starts} of {STARTS} failed)\n");
        // A reader that went away must not stop the guest.
        let _ = outputs.err.write_all(again.as_bytes());
    }
}

/// What was seen of one start.
struct Seen {
    stop: Stop,
    /// What its port `status` said.
    status: String,
    up_after: Option<Duration>,
}

fn once(
    mut machine: Command,
    folder: &Path,
    deadline: Instant,
    limits: Limits,
    outputs: &mut Outputs<'_>,
) -> Result<Seen> {
    for file in [qemu::CONSOLE, qemu::STATUS] {
        fs::write(folder.join(file), "").context("could not write to the guest's folder")?;
    }
    let status = folder.join(qemu::STATUS);
    let start = Instant::now();
    let mut child = machine
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not start the guest's machine")?;
    let stdout = child.stdout.take().context("no pipe to the guest")?;
    let stderr = child.stderr.take().context("no pipe to the guest")?;
    let heard = Mutex::new(start);
    let mut up_after = None;
    let stop = thread::scope(|scope| {
        scope.spawn(|| copy(stdout, outputs.out, &heard));
        scope.spawn(|| copy(stderr, outputs.err, &heard));
        watch(&mut child, || {
            let now = Instant::now();
            let silent = |limit| {
                heard
                    .lock()
                    .is_ok_and(|at| now.duration_since(*at) >= limit)
            };
            if up_after.is_none() && !read(&status).is_empty() {
                up_after = Some(start.elapsed());
                hear(&heard);
            }
            if Instant::now() >= deadline {
                Some(Stop::Deadline)
            } else if up_after.is_none() {
                (start.elapsed() >= BOOT).then_some(Stop::NeverUp)
            } else {
                limits.silence.is_some_and(silent).then_some(Stop::Silence)
            }
        })
    })
    .context("could not wait for the guest's machine")?;
    let status = read(&status);
    // It may have come and gone between two looks.
    if !status.is_empty() {
        up_after.get_or_insert_with(|| start.elapsed());
    }
    Ok(Seen {
        stop,
        status,
        up_after,
    })
}

/// Waits for the machine's end, or ends it for a reason. Its output ends with it.
fn watch(child: &mut Child, mut reason: impl FnMut() -> Option<Stop>) -> io::Result<Stop> {
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

fn hear(heard: &Mutex<Instant>) {
    if let Ok(mut heard) = heard.lock() {
        *heard = Instant::now();
    }
}

fn copy(mut from: impl Read, to: &mut (dyn Write + Send), heard: &Mutex<Instant>) {
    let mut buffer = [0; 1 << 14];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        hear(heard);
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

#[cfg(test)]
mod tests;
