//! The report: as JSON for programs, as tables for people and for the documentation.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Serialize;

use super::Bench;
use super::samples::{Metric, Series, Spread};
use super::targets::{self, Target};
use super::{brief, growth};

/// Between these two the documentation has the tables.
const BEGIN: &str = "<!-- figures: written by `cargo xtask bench --update-docs` -->\n";
const END: &str = "<!-- end of the figures -->";

/// All that a run found out.
#[derive(Serialize)]
pub struct Report<'a> {
    schema: &'static str,
    /// Seconds since 1970.
    time: u64,
    machine: Machine,
    short: bool,
    targets: Vec<Target>,
    series: Vec<Row<'a>>,
    #[serde(skip)]
    brief: Table,
    notes: &'a [String],
}

/// On what, and with what.
#[derive(Serialize)]
struct Machine {
    kernel: String,
    processor: String,
    cpus: usize,
    versions: Vec<String>,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    series: &'a Series,
    #[serde(flatten)]
    spread: Spread,
}

impl<'a> Report<'a> {
    /// Of all that was measured.
    pub fn of(bench: &'a Bench) -> anyhow::Result<Self> {
        let series = bench.samples.0.iter();
        Ok(Self {
            schema: "droptrace.bench/1",
            time: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            machine: Machine::this(&bench.droptrace)?,
            short: bench.is_short,
            targets: targets::of(bench),
            series: series
                .filter_map(|series| {
                    let spread = series.spread()?;
                    Some(Row { series, spread })
                })
                .collect(),
            brief: brief::of(&bench.samples),
            notes: &bench.notes,
        })
    }

    /// As JSON.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("    wrote {}", file.display());
        Ok(())
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        self.render(Table::text)
    }

    /// Puts the tables into `docs/benchmarks.md` of the folder `root`, and the brief one into
    /// its `README.md`.
    pub fn update(&self, root: &Path) -> anyhow::Result<()> {
        update(
            &root.join("docs/benchmarks.md"),
            &self.render(Table::markdown),
        )?;
        let brief = format!(
            "{}; medians.\n\n{}",
            self.machine,
            self.brief.markdown_rows()
        );
        update(&root.join("README.md"), &brief)
    }

    fn render(&self, shape: impl Fn(&Table) -> String) -> String {
        let mut text = format!(
            "{}.\nMedian of all rounds (least – most).\n\n",
            self.machine
        );
        for table in self.tables() {
            text += &shape(&table);
        }
        let notes = self.notes.iter().map(|note| format!("Note: {note}.\n"));
        text.extend(notes);
        text
    }

    fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.targets()];
        tables.retain(|table| !table.rows.is_empty());
        let mut parts: Vec<&str> = Vec::new();
        for row in &self.series {
            if !parts.contains(&row.series.part) {
                parts.push(row.series.part);
            }
        }
        for part in parts {
            let rows: Vec<&Row<'_>> = self
                .series
                .iter()
                .filter(|row| row.series.part == part)
                .collect();
            let by_contender: Of = |series| series.contender;
            let by_case: Of = |series| &series.case;
            // A curve is read downwards, contenders are compared with each other.
            let is_curve = [growth::RULES, growth::NAMESPACES, growth::CPUS].contains(&part);
            let (title, head) = if is_curve {
                (by_contender, by_case)
            } else {
                (by_case, by_contender)
            };
            tables.extend(Table::each(part, &rows, title, head));
        }
        tables
    }

    fn targets(&self) -> Table {
        let mut table = Table::new(
            "targets",
            &["droptrace daemon", "limit", "measured", "reached"],
        );
        table.rows = self
            .targets
            .iter()
            .map(|target| {
                vec![
                    target.what.clone(),
                    target.limit.clone(),
                    show(target.measured),
                    target.reached.word().to_owned(),
                ]
            })
            .collect();
        table
    }
}

impl Machine {
    fn this(droptrace: &Path) -> anyhow::Result<Self> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "model name").then(|| value.trim().to_owned())
        });
        let version = |program: &Path| {
            let output = Command::new(program).arg("--version").output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            Some(text.lines().next()?.to_owned())
        };
        let programs = [droptrace, Path::new("bpftrace"), Path::new("perf")];
        Ok(Self {
            kernel: release.trim().to_owned(),
            processor: model.unwrap_or_else(|| "unknown".to_owned()),
            cpus: super::load::cpus()?.len(),
            versions: programs.into_iter().filter_map(version).collect(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kernel,
            processor,
            cpus,
            versions,
        } = self;
        let versions = versions.join(", ");
        write!(f, "{cpus} CPUs ({processor}), Linux {kernel}; {versions}")
    }
}

/// Puts figures into a file of the documentation.
fn update(file: &Path, figures: &str) -> anyhow::Result<()> {
    let at = || format!("cannot put the figures into {}", file.display());
    let text = fs::read_to_string(file).with_context(at)?;
    let text = between_marks(&text, figures)
        .context("its marks are missing")
        .with_context(at)?;
    fs::write(file, text).with_context(at)
}

/// The text with other figures; `None` without marks.
fn between_marks(text: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{figures}\n{END}{after}"))
}

/// What of a series is looked at.
type Of = for<'a> fn(&'a Series) -> &'a str;

/// Rows of words under a head.
pub struct Table {
    title: String,
    /// Of each column.
    pub head: Vec<String>,
    /// Cells, of which the last ones may be missing.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows yet.
    pub fn new(title: &str, head: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            head: head.iter().map(|word| (*word).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// A table for each value of `title`, with a row for each value of `head` and a
    /// column for each metric.
    fn each(part: &str, rows: &[&Row<'_>], title: Of, head: Of) -> Vec<Self> {
        let mut tables: Vec<(Self, Vec<Metric>)> = Vec::new();
        for row in rows {
            let series = row.series;
            let name = format!("{part}: {}", title(series));
            let at = tables.iter().position(|(table, _)| table.title == name);
            let at = at.unwrap_or_else(|| {
                tables.push((Self::new(&name, &[""]), Vec::new()));
                tables.len() - 1
            });
            let (table, metrics) = &mut tables[at];
            let column = metrics.iter().position(|metric| *metric == series.metric);
            let column = 1 + column.unwrap_or_else(|| {
                metrics.push(series.metric);
                let Metric { name, unit } = series.metric;
                table.head.push(format!("{name}, {unit}"));
                metrics.len() - 1
            });
            let line = table.rows.iter().position(|line| line[0] == head(series));
            let line = line.unwrap_or_else(|| {
                table.rows.push(vec![head(series).to_owned()]);
                table.rows.len() - 1
            });
            let line = &mut table.rows[line];
            line.resize(line.len().max(column + 1), String::new());
            line[column] = cell(row.spread, row.series.samples.len());
        }
        tables.into_iter().map(|(table, _)| table).collect()
    }

    /// Columns that stand under each other.
    fn text(&self) -> String {
        let lines = [&self.head].into_iter().chain(&self.rows);
        let width = |column: usize| {
            let cells = lines.clone().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let aligned = lines.clone().map(|line| {
            let cells = line.iter().enumerate();
            let cells: Vec<_> = cells
                .map(|(column, cell)| format!("{cell:<width$}", width = width(column)))
                .collect();
            format!("  {}\n", cells.join("  ").trim_end())
        });
        format!("{}\n{}\n", self.title, aligned.collect::<String>())
    }

    /// For documentation.
    fn markdown(&self) -> String {
        format!("### {}\n\n{}\n", self.title, self.markdown_rows())
    }

    fn markdown_rows(&self) -> String {
        let line = |cells: &Vec<String>| {
            let empty = String::new();
            let cells = (0..self.head.len()).map(|column| cells.get(column).unwrap_or(&empty));
            let cells: Vec<_> = cells.map(String::as_str).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rows: String = self.rows.iter().map(line).collect();
        let rule = "---|".repeat(self.head.len());
        format!("{}|{rule}\n{rows}", line(&self.head))
    }
}

fn cell(spread: Spread, rounds: usize) -> String {
    let Spread { median, min, max } = spread;
    if rounds == 1 {
        return show(median);
    }
    format!("{} ({} – {})", show(median), show(min), show(max))
}

/// A figure with as many digits as say something; close to 100, where a share of all
/// is looked at closely, three more, and never 100 where it is less.
pub fn show(figure: f64) -> String {
    let size = figure.abs();
    match size {
        _ if size >= 1000.0 => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "no figure is that large, none of this size is negative"
            )]
            let whole = size.round() as u64;
            thousands(whole)
        }
        _ if (99.0..100.0).contains(&size) => {
            // Less than any packet's share, but not less than what a division leaves.
            let below = (figure * 1000.0 + 1e-6).floor() / 1000.0;
            format!("{below:.3}")
        }
        _ if (100.0..101.0).contains(&size) => format!("{figure:.3}"),
        _ if size >= 100.0 => format!("{figure:.0}"),
        _ if size >= 10.0 => format!("{figure:.1}"),
        _ if size >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

/// A number with what it counts: `1 flow`, `1,000 flows`.
pub fn several(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", thousands(number))
}

/// A number with its thousands set apart.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::samples::{Samples, metric};

    #[test]
    fn all_but_one_is_not_all() {
        assert_eq!(show(100.0), "100.000");
        assert_eq!(show(99.999_999), "99.999");
        assert_eq!(show(1_234_567.8), "1,234,568");
        assert_eq!(show(0.0421), "0.042");
    }

    #[test]
    fn the_documentation_has_a_place_for_the_figures() {
        for (docs, start) in [
            (
                include_str!("../../../docs/benchmarks.md"),
                "# Benchmarks\n",
            ),
            (include_str!("../../../README.md"), "# droptrace\n"),
        ] {
            let once = between_marks(docs, "new figures").unwrap();
            assert!(once.starts_with(start));
            assert!(once.contains(&format!("{BEGIN}\nnew figures\n{END}")));
            assert_eq!(between_marks(&once, "new figures").unwrap(), once);
        }
        assert!(between_marks("no marks", "").is_none());
    }

    #[test]
    fn a_row_without_a_figure_keeps_its_columns() {
        let mut samples = Samples::default();
        let (a, b) = (metric("a", "ns"), metric("b", "%"));
        for (contender, metric, figure) in [("x", a, 1.0), ("x", b, 2.0), ("y", b, 3.0)] {
            samples.add("cost", "one", contender, metric, figure);
        }
        let rows: Vec<Row<'_>> = samples
            .0
            .iter()
            .map(|series| Row {
                series,
                spread: series.spread().unwrap(),
            })
            .collect();
        let rows: Vec<&Row<'_>> = rows.iter().collect();
        let tables = Table::each("cost", &rows, |s| &s.case, |s| s.contender);
        assert_eq!(
            tables[0].markdown(),
            "### cost: one\n\n|  | a, ns | b, % |\n|---|---|---|\n\
             | x | 1.00 | 2.00 |\n| y |  | 3.00 |\n\n"
        );
    }
}
