//! Holds a real daemon to its promises over time: everything that was dropped is in its
//! records or told as lost, and neither memory nor descriptors grow.
//!
//! Each part has a daemon of its own, with all exporters, and makes drops whose number it
//! knows. A burst of datagrams has a destination of its own, so that each is looked for by
//! itself, and not only their sum.

mod bursts;
mod clock;
mod day;
mod kernel;
mod kill;
mod ledger;
mod namespaces;
mod receiver;
mod rest;
mod rules;
mod service;
mod stage;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::ValueEnum;

use self::stage::Size;
use crate::cli::EndureArgs;

/// One of the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// It is killed at random moments under load.
    Kill,
    /// Network namespaces come and go.
    Namespaces,
    /// The rule set is replaced again and again.
    Rules,
    /// The configuration is read again and again, and the service manager is told.
    Service,
    /// A day's drops, as fast as it takes them.
    Day,
    /// What it costs when there is nothing to do.
    Rest,
    /// The clock on the wall is set, so only in a guest of `cargo xtask vm`.
    Clock,
}

/// What a part came to.
#[derive(Default)]
struct Outcome {
    /// What was done.
    done: String,
    /// Packets that were dropped.
    made: u64,
    /// Of them, packets in records.
    in_records: u64,
    /// And those that records tell as lost.
    lost: u64,
    /// And those that fell into gaps that are told.
    in_gaps: u64,
    /// What the daemon took when it was warm, and at the end.
    sizes: Option<(Size, Size)>,
    /// More figures.
    notes: Vec<String>,
    /// What was not as promised.
    problems: Vec<String>,
}

/// How much memory may grow, KiB: what the allocator moves about.
const GROWTH: u64 = 2048;

impl Outcome {
    /// Memory and descriptors do not grow.
    fn judge_sizes(&mut self) {
        let Some((warm, end)) = self.sizes else {
            return;
        };
        if end.memory > warm.memory + GROWTH {
            let (from, to) = (warm.memory, end.memory);
            self.problems
                .push(format!("memory grew from {from} to {to} KiB"));
        }
        if end.files > warm.files {
            let (from, to) = (warm.files, end.files);
            self.problems
                .push(format!("descriptors grew from {from} to {to}"));
        }
    }

    fn judge_sum(&mut self) {
        let told = self.in_records + self.lost + self.in_gaps;
        if told != self.made {
            let made = self.made;
            self.problems
                .push(format!("{made} packets dropped, {told} told"));
        }
        if self.made == 0 {
            self.problems.push("nothing was dropped".to_owned());
        }
    }
}

/// Runs the parts, and prints a row for each.
pub fn run(droptrace: &Path, args: &EndureArgs) -> anyhow::Result<ExitCode> {
    let parts = if args.only.is_empty() {
        Part::value_variants()
    } else {
        &args.only
    };
    let seed = args.seed.unwrap_or_else(bursts::now);
    println!("seed {seed}");
    let mut table = String::from(
        "part        made       in records  lost      in gaps   memory, KiB       files   time\n",
    );
    let mut failed = 0;
    for part in parts {
        let start = Instant::now();
        let mut random = Random(seed | 1);
        let outcome = match part {
            Part::Kill => kill::run(droptrace, args.count(100, 3), &mut random),
            Part::Namespaces => namespaces::run(droptrace, args.count(1000, 30)),
            Part::Rules => rules::run(droptrace, args.count(1000, 30)),
            Part::Service => service::run(droptrace, args.count(50, 2)),
            Part::Day => day::run(droptrace, args.count(1000, 20)),
            Part::Rest => rest::run(droptrace, args.count(60, 2)),
            Part::Clock if !clock::may_be_set() => {
                println!("skip {part:?}: it sets the clock, which is done in a guest only");
                continue;
            }
            Part::Clock => clock::run(droptrace, args.count(40, 6), &mut random),
        };
        let mut outcome = outcome.unwrap_or_else(|error| Outcome {
            problems: vec![format!("{error:#}")],
            ..Outcome::default()
        });
        if !args.short {
            outcome.judge_sizes();
        }
        let name = format!("{part:?}").to_lowercase();
        let verdict = if outcome.problems.is_empty() {
            "pass"
        } else {
            "FAIL"
        };
        println!("{verdict} {name}: {}", outcome.done);
        for note in &outcome.notes {
            println!("     {note}");
        }
        for problem in &outcome.problems {
            println!("     not as promised: {problem}");
        }
        failed += usize::from(!outcome.problems.is_empty());
        row(&mut table, &name, &outcome, start.elapsed())?;
    }
    print!("\n{table}");
    if failed > 0 {
        bail!("{failed} of {} parts failed", parts.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn row(table: &mut String, name: &str, outcome: &Outcome, took: Duration) -> anyhow::Result<()> {
    let (memory, files) = outcome.sizes.map_or_else(Default::default, |(warm, end)| {
        (
            format!("{} → {}", warm.memory, end.memory),
            format!("{} → {}", warm.files, end.files),
        )
    });
    writeln!(
        table,
        "{name:<11} {:<10} {:<11} {:<9} {:<9} {memory:<17} {files:<7} {:.0} s",
        outcome.made,
        outcome.in_records,
        outcome.lost,
        outcome.in_gaps,
        took.as_secs_f64(),
    )?;
    Ok(())
}

/// Numbers without order, the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
