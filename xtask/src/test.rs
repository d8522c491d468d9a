//! Is this checkout fit to be merged? Everything CI asks, in CI's order.

use std::{
    fmt,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    bench, build, cmd, endure,
    matrix::{self, Machine, Matrix},
    scenarios::{self, Selection},
    tools, ui,
    workspace::Workspace,
};

/// That of the build, so that no dependency is compiled a second time.
const PROFILE: [&str; 1] = ["--release"];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kernels to prove the scenarios on, separated by commas: series such as
    /// 6.12, `newest`, `host` (the running one), `all`
    #[arg(
        long,
        value_name = "KERNELS",
        value_delimiter = ',',
        default_values = matrix::DEFAULT
    )]
    kernel: Vec<Machine>,
}

pub fn verb(ws: &Workspace, args: &Args) -> Result<ExitCode> {
    let mut report = Report::default();
    let outcome = steps(ws, args, &mut report);
    eprint!("\n{report}");
    let matrix = outcome?;
    if matrix.passed() {
        println!("{}", matrix.summary());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: step `scenarios` failed; the lines above say which and why");
    // CI reads the last line of all, so nothing may follow it.
    println!("{}", matrix.summary());
    Ok(ExitCode::FAILURE)
}

fn steps(ws: &Workspace, args: &Args, report: &mut Report) -> Result<Matrix> {
    report.step("tools", || {
        tools::ensure_or_warn();
        Ok(())
    })?;
    // First, so that nobody waits for the build to hear that there are none.
    let ready = report.step("kernels", || matrix::prepare(ws, &args.kernel))?;
    report.step("format", || {
        let mut cargo = cmd::cargo(ws);
        cmd::run(
            cargo.args(["fmt", "--all", "--check"]),
            "check the formatting (`cargo fmt --all` mends it)",
        )
    })?;
    report.step("build", || {
        build::with_runner(ws)?;
        build::other_objects(ws)
    })?;
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
    report.step("benchmark", || bench::check(ws))?;
    report.step("endurance", || {
        cmd::run(
            &mut endure::short(ws),
            "hold the daemon to its promises for some seconds",
        )
    })?;
    report.step("scenarios", || {
        let selection = Selection::of_test();
        let matrix = matrix::run(ws, ready, &selection, scenarios::LIMIT)?;
        println!("\n{matrix}");
        Ok(matrix)
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
    fn failing_step_is_named_and_has_its_row() {
        let mut report = Report::default();
        let error = report
            .step("lints", || -> Result<()> {
                anyhow::bail!("could not pass the lints")
            })
            .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "step `lints` failed: could not pass the lints"
        );
        assert!(report.to_string().contains("lints"), "{report}");
    }
}
