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

/// All scenarios on one kernel.
#[derive(Debug, Default)]
pub struct Column {
    /// As it was asked for.
    pub kernel: String,
    /// As `uname -r` says it.
    pub release: String,
    pub entries: BTreeMap<String, Entry>,
    pub took: Duration,
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
            writeln!(
                f,
                "{:<8} {} passed, {} failed, {} skipped in {} ({})",
                column.kernel,
                column.count(Outcome::Pass),
                column.count(Outcome::Fail),
                column.count(Outcome::Skip),
                ui::elapsed(column.took),
                column.release
            )?;
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
                let unheard = column.entries.values().filter(|entry| entry.is_unheard());
                let (kernel, unheard) = (&column.kernel, unheard.count());
                writeln!(f, "\nFAIL  {kernel}: {why}")?;
                writeln!(f, "      scenarios not run to their end: {unheard}")?;
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
