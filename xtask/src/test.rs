//! Is this checkout fit to be merged? Everything CI asks, in CI's order.

use std::{
    fmt,
    io::{BufRead as _, BufReader},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{build, cmd, scenarios, tools, ui, workspace::Workspace};

/// That of the build, so that no dependency is compiled a second time.
const PROFILE: [&str; 1] = ["--release"];

pub fn verb(ws: &Workspace) -> Result<ExitCode> {
    let mut report = Report::default();
    let outcome = steps(ws, &mut report);
    eprint!("\n{report}");
    let scenarios = outcome?;
    if scenarios.passed {
        println!("{}", scenarios.summary);
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: step `scenarios` failed; the lines above say which and why");
    // CI reads the last line of all, so nothing may follow it.
    println!("{}", scenarios.summary);
    Ok(ExitCode::FAILURE)
}

fn steps(ws: &Workspace, report: &mut Report) -> Result<Scenarios> {
    report.step("tools", || {
        tools::ensure_or_warn();
        Ok(())
    })?;
    report.step("format", || {
        let mut cargo = cmd::cargo(ws);
        cmd::run(
            cargo.args(["fmt", "--all", "--check"]),
            "check the formatting (`cargo fmt --all` mends it)",
        )
    })?;
    report.step("build", || build::with_runner(ws))?;
    report.step("lints", || {
        let mut cargo = cmd::cargo(ws);
        cargo.arg("clippy").args(cmd::USER_SIDE).args(PROFILE);
        cargo.args(["--all-targets", "--", "-D", "warnings"]);
        cmd::run(&mut cargo, "pass the lints")
    })?;
    report.step("unit tests", || {
        let mut cargo = cmd::cargo(ws);
        cargo.arg("test").args(cmd::USER_SIDE).args(PROFILE);
        cmd::run(&mut cargo, "pass the unit tests")
    })?;
    report.step("scenarios", || run_scenarios(ws))
}

/// How the scenarios ended.
#[derive(Debug)]
struct Scenarios {
    passed: bool,
    /// `N passed, N failed, N skipped`.
    summary: String,
}

fn run_scenarios(ws: &Workspace) -> Result<Scenarios> {
    if !cmd::is_root() {
        bail!(
            "scenarios make network namespaces and trace the kernel; \
             run `cargo xtask test` as root"
        );
    }
    let mut runner = scenarios::runner(ws);
    runner.arg("run").arg("--dir").arg(ws.scenarios());
    let mut child = runner
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start the runner of the scenarios")?;
    // Each line is passed on at once, except the one that has to come last.
    let mut summary = None;
    for line in BufReader::new(child.stdout.take().context("no pipe to the runner")?).lines() {
        let line = line.context("could not read what the runner of the scenarios says")?;
        if let Some(early) = summary.take() {
            println!("{early}");
        }
        if is_summary(&line) {
            summary = Some(line);
        } else {
            println!("{line}");
        }
    }
    let status = child.wait().context("could not wait for the runner")?;
    let Some(summary) = summary else {
        bail!("the runner of the scenarios ended with {status} before it said how many passed");
    };
    Ok(Scenarios {
        passed: status.success(),
        summary,
    })
}

/// Whether a line is `N passed, N failed, N skipped`.
fn is_summary(line: &str) -> bool {
    let parts: Vec<_> = line.split(", ").collect();
    parts.len() == 3
        && parts
            .iter()
            .zip([" passed", " failed", " skipped"])
            .all(|(part, word)| {
                part.strip_suffix(word)
                    .is_some_and(|count| count.parse::<u32>().is_ok())
            })
}

/// The steps so far, and how long each took.
#[derive(Debug, Default)]
struct Report {
    rows: Vec<(&'static str, Duration)>,
}

impl Report {
    fn step<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("==> {name}");
        let start = Instant::now();
        let outcome = step().with_context(|| format!("step `{name}` failed"));
        let took = start.elapsed();
        eprintln!("    {name} ({})", ui::elapsed(took));
        self.rows.push((name, took));
        outcome
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: Duration = self.rows.iter().map(|(_, took)| *took).sum();
        for (name, took) in self.rows.iter().chain([&("all", total)]) {
            writeln!(f, "  {name:<12} {:>8}", ui::elapsed(*took))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_is_told_from_other_lines() {
        assert!(is_summary("12 passed, 0 failed, 3 skipped"));
        for other in [
            "",
            "12 passed, 0 failed",
            "x passed, 0 failed, 3 skipped",
            "12 passed, 0 failed, 3 skipped, 1 lost",
            "test result: ok. 12 passed; 0 failed",
        ] {
            assert!(!is_summary(other), "{other}");
        }
    }

    #[test]
    fn failing_step_is_named_and_has_its_row() {
        let mut report = Report::default();
        let error = report
            .step("lints", || -> Result<()> {
                bail!("could not pass the lints")
            })
            .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "step `lints` failed: could not pass the lints"
        );
        assert!(report.to_string().contains("lints"), "{report}");
    }
}
