//! Runs scenarios one after the other and reports each in a line.

mod compare;
pub mod daemon;
mod doctor;
mod judge;
mod matcher;
pub mod needs;
mod report;
mod rule;
mod stage;
pub mod statistics;
mod tracer;
pub mod truth;
mod verdicts;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;

use self::compare::Share;
use self::doctor::Doctor;
use self::judge::Judgement;

pub use self::doctor::MayDeny;
pub use self::stage::{Cast, prepare};
pub use self::statistics::Statistics;
pub use self::tracer::{Tracer, die_with_parent, is_ready};
use crate::cli::RunArgs;
use crate::scenario::{self, Loaded};

/// How a scenario ended.
pub enum Outcome {
    /// Everything was as expected.
    Pass,
    /// It was not; why, in lines.
    Fail(Vec<String>),
    /// This machine lacks something it needs.
    Skip(String),
}

/// Runs all scenarios of a folder.
pub fn run(droptrace: &Path, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let mut scenarios = scenario::load(&args.dir)?;
    scenarios.retain(|loaded| selected(args, &loaded.name));
    if scenarios.is_empty() {
        bail!("no scenario in {} has such a name", args.dir.display());
    }
    let mut doctor = Doctor::ask(droptrace)?;
    let mut report = report::Report::new(args.json);
    let mut share = Share::default();
    for loaded in scenarios {
        let start = Instant::now();
        let outcome = one(droptrace, &loaded, args, &mut doctor, &mut share);
        report.add(&loaded.name, &outcome, start.elapsed());
        if let (Outcome::Pass, Ok(scenario)) = (&outcome, &loaded.scenario) {
            doctor.saw(scenario);
        }
    }
    if args.filter.is_empty() {
        let outcome = doctor.judge(args.may_deny.as_ref());
        report.add(doctor::PROMISES, &outcome, Duration::ZERO);
    }
    if args.compare_rules {
        // Where it is also seen of a guest, whose standard output has results only.
        eprintln!("{share}");
        if !share.is_whole() {
            report.end();
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(report.end())
}

fn selected(args: &RunArgs, name: &str) -> bool {
    args.filter.is_empty() || args.filter.iter().any(|part| name.contains(part))
}

fn one(
    droptrace: &Path,
    loaded: &Loaded,
    args: &RunArgs,
    doctor: &mut Doctor,
    share: &mut Share,
) -> Outcome {
    let scenario = match &loaded.scenario {
        Ok(scenario) => scenario,
        Err(error) => return Outcome::Fail(vec![format!("{error:#}")]),
    };
    if args.other_kernel && scenario.one_kernel {
        return Outcome::Skip("does not depend on the kernel: played on another one".to_owned());
    }
    if args.daemon && !stage::can_be_a_daemon(scenario) {
        return Outcome::Skip("a daemon has no such flags".to_owned());
    }
    match needs::unmet(&scenario.needs) {
        Ok(None) => {}
        Ok(Some(reason)) => return Outcome::Skip(reason),
        Err(error) => return Outcome::Fail(vec![format!("needs: {error:#}")]),
    }
    // To begin after a drop takes a guest seconds, in which droptrace does nothing else.
    let is_about_rules = scenario.is_about_rules();
    let rules = if is_about_rules { "exact" } else { "cheap" };
    let how = stage::Tracing {
        // Which is a flag that a daemon has not.
        compares: args.compare_rules && !scenario.tracer.daemon,
        daemon: args.daemon,
        rules: doctor.rules_are_watched_for().then_some(rules),
    };
    let mut problems = Vec::new();
    for is_again in [false, true] {
        let judged = stage::play(droptrace, scenario, how).and_then(|seen| {
            doctor.ask_again(droptrace, scenario)?;
            if let Some(more) = Share::read(&seen.printed.stderr) {
                share.add(more);
            }
            if args.records {
                print!("{}", seen.printed.stdout);
            }
            Ok(judge::judge(scenario, &seen, doctor))
        });
        let judged = judged.unwrap_or_else(|error| Judgement {
            problems: vec![format!("{error:#}")],
            skipped: 0,
        });
        problems = judged.problems;
        if judged.skipped == 0 {
            break;
        }
        let without = format!("{} packets are without their rule", judged.skipped);
        if is_again || !problems.is_empty() {
            problems.push(without);
            break;
        }
        // The kernel skips programs; not twice in a row where a thing works.
        println!("again {name}: {without}", name = loaded.name);
    }
    if problems.is_empty() {
        return Outcome::Pass;
    }
    problems.insert(0, format!("it proves: {}", scenario.proves));
    Outcome::Fail(problems)
}
