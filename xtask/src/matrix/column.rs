//! How are the scenarios run on one kernel?

use std::{
    io::{self, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::results::{Column, Entry, Start};
use crate::{
    vm::{
        self,
        end::{End, Limits},
        guest,
        kernel::Kernel,
        machine::Outputs,
    },
    workspace::Workspace,
};

/// Exit codes of a runner that ran to its end: all is well, or something failed.
const RAN: [u8; 2] = [0, 1];

/// The runner itself ends a scenario long before.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// What is known of a run besides its scenarios.
#[derive(Debug, Default)]
pub struct Whole {
    /// Why it failed, and the end of the kernel's console.
    failure: Option<(String, String)>,
    /// How the guest started, if it did.
    start: Option<Start>,
}

/// Runs them, shows each line as it comes, and collects the results.
pub fn column(
    kernel: &str,
    release: &str,
    run: impl FnOnce(&mut Lines<'_>, &mut Lines<'_>) -> Result<Whole>,
) -> Column {
    let start = Instant::now();
    let mut column = Column {
        kernel: kernel.to_owned(),
        release: release.to_owned(),
        ..Column::default()
    };
    let mut out = Lines::new(|line| {
        // Everything else is the runner's sum, which the table says too.
        if let Some(entry) = Entry::parse(line) {
            println!("{kernel:<8} {entry}");
            column.first_after.get_or_insert_with(|| {
                let took = Duration::try_from_secs_f64(entry.seconds).unwrap_or_default();
                start.elapsed().saturating_sub(took)
            });
            column.entries.insert(entry.scenario.clone(), entry);
        }
    });
    let mut err = Lines::new(|line| eprintln!("{kernel:<8} {line}"));
    let whole = run(&mut out, &mut err);
    drop((out, err));
    let whole = whole.unwrap_or_else(|error| Whole {
        failure: Some((format!("{error:#}"), String::new())),
        start: None,
    });
    (column.failure, column.start) = (whole.failure, whole.start);
    if let Some((why, _)) = &column.failure {
        eprintln!("{kernel:<8} {why}");
    }
    column.took = start.elapsed();
    column
}

/// On this machine's own kernel.
pub fn on_host(runner: &[String], out: &mut Lines<'_>) -> Result<Whole> {
    let [program, arguments @ ..] = runner else {
        unreachable!("a runner has a name")
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start the runner of the scenarios")?;
    let mut stdout = child.stdout.take().context("no pipe to the runner")?;
    io::copy(&mut stdout, out).context("could not read what the runner of the scenarios says")?;
    let status = child.wait().context("could not wait for the runner")?;
    let ran = status
        .code()
        .is_some_and(|code| RAN.map(i32::from).contains(&code));
    Ok(Whole {
        failure: (!ran).then(|| (format!("the runner ended with {status}"), String::new())),
        start: None,
    })
}

/// On another kernel.
pub fn in_guest(
    ws: &Workspace,
    runner: &[String],
    kernel: &Kernel,
    limit: Duration,
    out: &mut Lines<'_>,
    err: &mut Lines<'_>,
) -> Result<Whole> {
    let command = vm::shell_line(&ws.root().to_string_lossy(), runner);
    let limits = Limits {
        whole: limit,
        silence: Some(SILENCE),
    };
    let ran = guest::run(ws, kernel, &command, limits, &mut Outputs { out, err })?;
    Ok(Whole {
        failure: match ran.end {
            End::Exited(status) if RAN.contains(&status) => None,
            end => Some((end.to_string(), ran.console)),
        },
        start: ran.start_took.map(|took| Start {
            took,
            failed_before: ran.starts - 1,
        }),
    })
}

/// Hands on whole lines.
pub struct Lines<'a> {
    rest: Vec<u8>,
    each: Box<dyn FnMut(&str) + Send + 'a>,
}

impl<'a> Lines<'a> {
    fn new(each: impl FnMut(&str) + Send + 'a) -> Self {
        Self {
            rest: Vec::new(),
            each: Box::new(each),
        }
    }
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            if byte == b'\n' {
                (self.each)(&String::from_utf8_lossy(&self.rest));
                self.rest.clear();
            } else {
                self.rest.push(byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        if !self.rest.is_empty() {
            (self.each)(&String::from_utf8_lossy(&self.rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let mut seen = Vec::new();
        let mut lines = Lines::new(|line| seen.push(line.to_owned()));
        for part in ["on", "e\ntwo\n", "", "thr", "ee"] {
            lines.write_all(part.as_bytes()).unwrap();
        }
        drop(lines);
        assert_eq!(seen, ["one", "two", "three"]);
    }

    #[test]
    fn run_that_cannot_start_is_a_failed_column() {
        let column = column("6.12", "", |_, _| anyhow::bail!("no such kernel"));
        assert_eq!(column.failure.unwrap().0, "no such kernel");
    }
}
