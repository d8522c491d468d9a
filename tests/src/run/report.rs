//! One line for each scenario, and the sum.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::Outcome;

/// Counts outcomes while it prints them.
pub struct Report {
    json: bool,
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Report {
    /// Nothing ran yet.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            passed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    /// Reports one scenario.
    pub fn add(&mut self, name: &str, outcome: &Outcome, took: Duration) {
        let seconds = took.as_secs_f64();
        let word = match outcome {
            Outcome::Pass => {
                self.passed += 1;
                "pass"
            }
            Outcome::Fail(_) => {
                self.failed += 1;
                "fail"
            }
            Outcome::Skip(_) => {
                self.skipped += 1;
                "skip"
            }
        };
        if self.json {
            let (reason, problems) = match outcome {
                Outcome::Pass => (None, &[][..]),
                Outcome::Fail(problems) => (None, &problems[..]),
                Outcome::Skip(reason) => (Some(reason), &[][..]),
            };
            println!(
                "{}",
                json!({
                    "scenario": name, "outcome": word, "seconds": seconds,
                    "reason": reason, "problems": problems,
                })
            );
        } else {
            match outcome {
                Outcome::Pass => println!("{word}  {name:<52} {seconds:>5.1}s"),
                Outcome::Skip(reason) => println!("{word}  {name:<52} {reason}"),
                Outcome::Fail(problems) => {
                    println!("{word}  {name:<52} {seconds:>5.1}s");
                    for line in problems.iter().flat_map(|problem| problem.lines()) {
                        println!("      {line}");
                    }
                }
            }
        }
        // A reader that went away is no reason to leave the rest untested.
        let _ = std::io::stdout().flush();
    }

    /// Prints the sum; the exit code says whether all is well.
    pub fn end(&self) -> ExitCode {
        println!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        );
        if self.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
