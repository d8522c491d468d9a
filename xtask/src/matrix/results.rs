//! What came out on one kernel, and how do several look side by side?

use std::{collections::BTreeMap, fmt, time::Duration};

use serde_json::Value;

use crate::ui;

/// How a scenario ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    Fail,
    Skip,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        })
    }
}

/// One scenario on one kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub scenario: String,
    pub outcome: Outcome,
    pub seconds: f64,
    /// Why it failed or was skipped; nothing if it was not run to its end,
    /// which the column explains for all of them.
    pub text: Vec<String>,
}

impl Entry {
    fn is_unheard(&self) -> bool {
        self.outcome == Outcome::Fail && self.text.is_empty()
    }

    /// From what the runner prints with `--json`.
    pub fn parse(line: &str) -> Option<Self> {
        let object: Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| object.get(name)?.as_str().map(ToOwned::to_owned);
        let problems = object.get("problems").and_then(Value::as_array);
        let problems = problems.into_iter().flatten().filter_map(Value::as_str);
        Some(Self {
            scenario: text("scenario")?,
            outcome: match object.get("outcome")?.as_str()? {
                "pass" => Outcome::Pass,
                "skip" => Outcome::Skip,
                _ => Outcome::Fail,
            },
            seconds: object.get("seconds")?.as_f64()?,
            text: problems
                .map(ToOwned::to_owned)
                .chain(text("reason"))
                .collect(),
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (outcome, scenario, seconds) = (self.outcome, &self.scenario, self.seconds);
        write!(f, "{outcome}  {scenario:<62} {seconds:>6.1}s")
    }
}

/// How a guest started.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// From the machine's start until its command was started.
    pub took: Duration,
    /// Starts that came to nothing.
    pub failed_before: u32,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "started in {}", ui::elapsed(self.took))?;
        match self.failed_before {
            0 => Ok(()),
            1 => f.write_str(" after 1 failed start"),
            many => write!(f, " after {many} failed starts"),
        }
    }
}

/// All scenarios on one kernel.
#[derive(Debug, Default)]
pub struct Column {
    /// As it was asked for.
    pub kernel: String,
    /// As `uname -r` says it.
    pub release: String,
    pub entries: BTreeMap<String, Entry>,
    pub took: Duration,
    /// The guest's, if it is one.
    pub start: Option<Start>,
    /// When the first scenario began.
    pub first_after: Option<Duration>,
    /// Why the run as a whole failed, and the end of the kernel's console.
    pub failure: Option<(String, String)>,
}

impl Column {
    /// A scenario of which nothing was heard has failed.
    pub fn complete(&mut self, expected: &[String]) {
        for scenario in expected {
            if self.entries.contains_key(scenario) {
                continue;
            }
            self.failure.get_or_insert_with(|| {
                let why = "the runner ended before it had run every scenario";
                (why.to_owned(), String::new())
            });
            let entry = Entry {
                scenario: scenario.clone(),
                outcome: Outcome::Fail,
                seconds: 0.0,
                text: Vec::new(),
            };
            self.entries.insert(scenario.clone(), entry);
        }
    }

    /// What came out, in which time, and how much of that was the guest's start.
    fn footer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<8} {} passed, {} failed, {} skipped in {} ({}",
            self.kernel,
            self.count(Outcome::Pass),
            self.count(Outcome::Fail),
            self.count(Outcome::Skip),
            ui::elapsed(self.took),
            match self.release.as_str() {
                "" => "not started",
                release => release,
            }
        )?;
        if let Some(start) = self.start {
            write!(f, ", {start}")?;
            if let Some(first) = self.first_after {
                write!(f, ", first scenario after {}", ui::elapsed(first))?;
            }
        }
        writeln!(f, ")")
    }

    /// A run that failed although every scenario was heard of counts as one more.
    fn failed_as_a_whole(&self) -> bool {
        self.failure.is_some() && self.count(Outcome::Fail) == 0
    }

    fn count(&self, outcome: Outcome) -> usize {
        let entries = self.entries.values();
        entries.filter(|entry| entry.outcome == outcome).count()
    }
}

/// Several kernels.
#[derive(Debug, Default)]
pub struct Matrix {
    pub columns: Vec<Column>,
}

impl Matrix {
    fn count(&self, outcome: Outcome) -> usize {
        self.columns
            .iter()
            .map(|column| column.count(outcome))
            .sum()
    }

    fn failed(&self) -> usize {
        let whole = self
            .columns
            .iter()
            .filter(|column| column.failed_as_a_whole());
        self.count(Outcome::Fail) + whole.count()
    }

    pub fn passed(&self) -> bool {
        self.failed() == 0
    }

    /// The last line of all.
    pub fn summary(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.count(Outcome::Pass),
            self.failed(),
            self.count(Outcome::Skip)
        )
    }
}

/// The table, then the reasons of what did not pass.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut scenarios: Vec<&String> = self
            .columns
            .iter()
            .flat_map(|column| column.entries.keys())
            .collect();
        scenarios.sort();
        scenarios.dedup();
        let first = scenarios
            .iter()
            .map(|name| name.len())
            .max()
            .unwrap_or(0)
            .max(8);
        write!(f, "{:first$}", "scenario")?;
        for column in &self.columns {
            write!(f, "  {:>6}", column.kernel)?;
        }
        writeln!(f)?;
        for scenario in &scenarios {
            write!(f, "{scenario:first$}")?;
            for column in &self.columns {
                match column.entries.get(*scenario) {
                    Some(entry) => write!(f, "  {:>6}", entry.outcome)?,
                    None => write!(f, "  {:>6}", "-")?,
                }
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for column in &self.columns {
            column.footer(f)?;
        }
        self.reasons(f)
    }
}

impl Matrix {
    fn reasons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for wanted in [Outcome::Skip, Outcome::Fail] {
            for column in &self.columns {
                for entry in column.entries.values() {
                    if entry.outcome != wanted || entry.text.is_empty() {
                        continue;
                    }
                    writeln!(f, "\n{wanted}  {}: {}", column.kernel, entry.scenario)?;
                    for line in entry.text.iter().flat_map(|text| text.lines()) {
                        writeln!(f, "      {line}")?;
                    }
                }
            }
        }
        for column in &self.columns {
            if let Some((why, console)) = &column.failure {
                writeln!(f, "\nFAIL  {}: {why}", column.kernel)?;
                let mut unheard = column.entries.values().filter(|entry| entry.is_unheard());
                // The runner takes them by name, too.
                if let Some(first) = unheard.next() {
                    let (count, first) = (1 + unheard.count(), &first.scenario);
                    writeln!(f, "      not run to their end: {count}, from {first} on")?;
                }
                for line in console.lines() {
                    writeln!(f, "      {line}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
