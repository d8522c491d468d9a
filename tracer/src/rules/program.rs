//! Runs a program that tells about rules, with bounds: on its time and on what it
//! may print.

use std::{
    io::{self, Read as _},
    os::fd::AsRawFd as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Where it is looked for: `PATH` of an ordinary user leaves out where it is.
const FOLDERS: [&str; 3] = ["", "/usr/sbin/", "/sbin/"];

const MAX_BYTES: usize = 64 << 20;
const MAX_COMPLAINT: u64 = 1024;

/// Why a program told nothing.
#[derive(Debug, thiserror::Error)]
#[error("the program `{name}` {why}")]
pub struct ProgramError {
    name: &'static str,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("was not found; install it (package {0})")]
    Missing(&'static str),
    #[error("could not be run: {0}")]
    Run(#[from] io::Error),
    #[error("took too long and was ended")]
    TooSlow,
    #[error("printed more than {MAX_BYTES} bytes and was ended")]
    TooLong,
    #[error("failed ({status}): {complaint:?}")]
    Failed {
        status: ExitStatus,
        complaint: String,
    },
}

/// What the program of this name and package prints within this time.
///
/// # Errors
///
/// If there is no such program, or it fails, or takes or prints too much.
pub fn output(
    name: &'static str,
    package: &'static str,
    arguments: &[&str],
    time: Duration,
) -> Result<String, ProgramError> {
    for folder in FOLDERS {
        let mut command = Command::new(format!("{folder}{name}"));
        match run(command.args(arguments), time, MAX_BYTES) {
            Err(Why::Run(error)) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.map_err(|why| ProgramError { name, why }),
        }
    }
    let why = Why::Missing(package);
    Err(ProgramError { name, why })
}

fn run(command: &mut Command, time: Duration, bytes: usize) -> Result<String, Why> {
    let deadline = Instant::now() + time;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = read(&mut child, deadline, bytes).and_then(|output| {
        let status = wait(&mut child, deadline)?;
        Ok((output, status))
    });
    if output.is_err() {
        // It may have ended just now.
        let _ = child.kill();
        child.wait()?;
    }
    let (output, status) = output?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&output).into_owned());
    }
    let mut complaint = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(MAX_COMPLAINT).read_to_end(&mut complaint)?;
    }
    let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
    Err(Why::Failed { status, complaint })
}

fn read(child: &mut Child, deadline: Instant, bytes: usize) -> Result<Vec<u8>, Why> {
    let mut output = Vec::new();
    let Some(mut stdout) = child.stdout.take() else {
        return Ok(output);
    };
    let mut piece = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut ready = libc::pollfd {
            fd: stdout.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one pollfd, which lives during the call.
        let count = unsafe { libc::poll(&raw mut ready, 1, millis) };
        if left.is_zero() || count == 0 {
            return Err(Why::TooSlow);
        }
        if count < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error.into());
        }
        let len = stdout.read(&mut piece)?;
        if len == 0 {
            return Ok(output);
        }
        if output.len() + len > bytes {
            return Err(Why::TooLong);
        }
        output.extend_from_slice(&piece[..len]);
    }
}

/// Waits for a process that has closed its output, and so is about to end.
fn wait(child: &mut Child, deadline: Instant) -> Result<ExitStatus, Why> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(Why::TooSlow);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, millis: u64) -> Result<String, Why> {
        let time = Duration::from_millis(millis);
        run(Command::new("sh").args(["-c", script]), time, 100_000)
    }

    #[test]
    fn what_it_prints_is_given_back() {
        assert_eq!(sh("echo a; echo b", 5_000).unwrap(), "a\nb\n");
        let long = sh("head -c 100000 /dev/zero", 5_000).unwrap();
        assert_eq!(long.len(), 100_000);
        assert_eq!(sh("printf '\\377'", 5_000).unwrap(), "\u{fffd}");
    }

    #[test]
    fn it_is_ended_when_it_takes_too_long_or_prints_too_much() {
        let start = Instant::now();
        assert!(matches!(sh("exec sleep 60", 100), Err(Why::TooSlow)));
        let closed = sh("exec sleep 60 >&-", 100);
        assert!(matches!(closed, Err(Why::TooSlow)));
        let endless = sh("exec cat /dev/zero", 30_000);
        assert!(matches!(endless, Err(Why::TooLong)));
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn its_complaint_is_told_on_one_line() {
        let error = sh("printf 'not\\nallowed' >&2; exit 3", 5_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed (exit status: 3): \"not\\nallowed\""
        );
        let missing = run(
            &mut Command::new("/nonexistent/nft"),
            Duration::from_secs(1),
            1,
        );
        assert!(matches!(missing, Err(Why::Run(_))));
    }
}
