//! Runs `nft`, with bounds: on its time and on what it may print.

use std::{
    io::{self, Read as _},
    os::fd::AsRawFd as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Names of the program: `PATH` of an ordinary user leaves out where it is.
const PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];
/// Elements of sets are left out (`-t`), handles are not (`-a`). The rules are
/// printed as without `-t`.
const LIST: [&str; 4] = ["-t", "-a", "list", "ruleset"];

const MAX_TIME: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 64 << 20;
const MAX_COMPLAINT: u64 = 1024;

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no such program.
    #[error("the program `nft` was not found; install it (package nftables)")]
    Missing,
    /// It could not be started or read from.
    #[error("`nft` could not be run: {0}")]
    Run(#[from] io::Error),
    /// It took too long.
    #[error("`nft` took longer than {MAX_TIME:?} and was ended")]
    TooSlow,
    /// It printed too much.
    #[error("`nft` printed more than {MAX_BYTES} bytes and was ended")]
    TooLong,
    /// It failed.
    #[error("`nft` failed ({status}): {complaint:?}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        complaint: String,
    },
}

/// The rule set of the calling thread's network namespace, as `nft` prints it.
///
/// # Errors
///
/// If there is no `nft`, or it fails, or takes or prints too much.
pub fn list() -> Result<String, NftError> {
    nft(&LIST)
}

/// Adds rules of our own making to the calling thread's network namespace.
///
/// # Errors
///
/// As [`list`].
pub fn add(rules: &str) -> Result<(), NftError> {
    nft(&[rules]).map(|_| ())
}

/// Whether there is an `nft` that runs.
#[must_use]
pub fn is_installed() -> bool {
    nft(&["--version"]).is_ok()
}

fn nft(arguments: &[&str]) -> Result<String, NftError> {
    for program in PROGRAMS {
        let mut command = Command::new(program);
        match run(command.args(arguments), MAX_TIME, MAX_BYTES) {
            Err(NftError::Run(error)) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Err(NftError::Missing)
}

fn run(command: &mut Command, time: Duration, bytes: usize) -> Result<String, NftError> {
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
    Err(NftError::Failed { status, complaint })
}

fn read(child: &mut Child, deadline: Instant, bytes: usize) -> Result<Vec<u8>, NftError> {
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
            return Err(NftError::TooSlow);
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
            return Err(NftError::TooLong);
        }
        output.extend_from_slice(&piece[..len]);
    }
}

/// Waits for a process that has closed its output, and so is about to end.
fn wait(child: &mut Child, deadline: Instant) -> Result<ExitStatus, NftError> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(NftError::TooSlow);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, millis: u64) -> Result<String, NftError> {
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
        assert!(matches!(sh("exec sleep 60", 100), Err(NftError::TooSlow)));
        let closed = sh("exec sleep 60 >&-", 100);
        assert!(matches!(closed, Err(NftError::TooSlow)));
        let endless = sh("exec cat /dev/zero", 30_000);
        assert!(matches!(endless, Err(NftError::TooLong)));
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn its_complaint_is_told_on_one_line() {
        let error = sh("printf 'not\\nallowed' >&2; exit 3", 5_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`nft` failed (exit status: 3): \"not\\nallowed\""
        );
        let missing = run(
            &mut Command::new("/nonexistent/nft"),
            Duration::from_secs(1),
            1,
        );
        assert!(matches!(missing, Err(NftError::Run(_))));
    }
}
