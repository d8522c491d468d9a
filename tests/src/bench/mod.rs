//! How fast is droptrace, and how fast are others? `docs/benchmarks.md` says what each
//! figure is.
//!
//! Nothing here fails on a time. In each round every contender is measured once, each
//! round beginning with another one, so that what disturbs the machine meets all.

mod accepted;
mod check;
mod contender;
mod cost;
mod count;
mod floor;
mod growth;
mod load;
mod loss;
mod report;
mod samples;
mod session;
mod space;
mod start;
mod streams;
mod targets;
mod usage;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use self::contender::Contender;
use self::load::Ground;
use self::report::Report;
use self::samples::{Metric, Samples};
use self::session::{Session, Start};
use crate::cli::BenchArgs;

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Part {
    /// What a dropped packet costs.
    Cost,
    /// CPU and memory of the contenders' processes.
    Space,
    /// From a process's start to its first program attached, and to all.
    Start,
    /// Share of drops accounted for at the highest rate.
    Loss,
    /// What packets that are not dropped cost.
    Accepted,
    /// More rules, more namespaces.
    Growth,
}

/// In the order in which they run.
const PARTS: [Part; 6] = [
    Part::Cost,
    Part::Space,
    Part::Start,
    Part::Loss,
    Part::Accepted,
    Part::Growth,
];

/// Rounds if nothing else is said.
const ROUNDS: usize = 5;
const SHORT_ROUNDS: usize = 1;

/// What all parts share.
pub struct Bench {
    droptrace: PathBuf,
    /// For outputs of the contenders, gone at the end.
    folder: PathBuf,
    ground: Ground,
    rounds: usize,
    /// About a minute for all parts, for a first look.
    is_short: bool,
    samples: Samples,
    /// What could not be measured, and why.
    notes: Vec<String>,
}

/// Measures, writes the report, prints it.
pub fn run(droptrace: &Path, args: &BenchArgs) -> anyhow::Result<()> {
    let mut bench = Bench::new(droptrace, args)?;
    if args.check {
        return check::run(&mut bench);
    }
    count::reason_code().context("the load's drops cannot be told from others")?;
    for part in PARTS {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        eprintln!("==> {part:?}");
        match part {
            Part::Cost => cost::measure(&mut bench),
            Part::Space => space::measure(&mut bench),
            Part::Start => start::measure(&mut bench),
            Part::Loss => loss::measure(&mut bench),
            Part::Accepted => accepted::measure(&mut bench),
            Part::Growth => growth::measure(&mut bench),
        }
        .with_context(|| format!("part {part:?}"))?;
    }
    let report = Report::of(&bench)?;
    report.write(&args.out.join("report.json"))?;
    print!("{}", report.text());
    if let Some(docs) = &args.update_docs {
        report.update(docs)?;
    }
    Ok(())
}

impl Bench {
    fn new(droptrace: &Path, args: &BenchArgs) -> anyhow::Result<Self> {
        let folder = args.out.join("outputs");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let rounds = if args.short { SHORT_ROUNDS } else { ROUNDS };
        Ok(Self {
            droptrace: droptrace.to_owned(),
            folder: folder.canonicalize()?,
            ground: Ground::new()?,
            rounds: args.repeat.unwrap_or(rounds),
            is_short: args.short,
            samples: Samples::default(),
            notes: Vec::new(),
        })
    }

    /// Starts a contender.
    fn start(&self, contender: Contender) -> anyhow::Result<Session> {
        let with = Start {
            droptrace: &self.droptrace,
            folder: &self.folder,
            ground: &self.ground,
        };
        Session::start(contender, &with)
    }

    /// Measures every contender once a round. One that cannot be measured here is left
    /// out and noted; if it is droptrace, that is an error.
    fn rounds(
        &mut self,
        contenders: &[Contender],
        mut measure: impl FnMut(&mut Self, Contender) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut able = Vec::new();
        for contender in contenders {
            match contender.is_missing() {
                Some(why) => self.leave_out(*contender, &why),
                None => able.push(*contender),
            }
        }
        for round in 0..self.rounds {
            eprintln!("    round {} of {}", round + 1, self.rounds);
            let first = round % able.len().max(1);
            able.rotate_left(first);
            let mut unable = Vec::new();
            for contender in &able {
                match measure(self, *contender) {
                    Err(error) if contender.is_own() => {
                        return Err(error.context(contender.name()));
                    }
                    Err(error) => {
                        self.leave_out(*contender, &format!("{error:#}"));
                        unable.push(*contender);
                    }
                    Ok(()) => {}
                }
            }
            able.retain(|contender| !unable.contains(contender));
        }
        Ok(())
    }

    fn leave_out(&mut self, contender: Contender, why: &str) {
        self.note(format!("{} is left out: {why}", contender.name()));
    }

    /// Notes once what the reader of the report must know.
    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            eprintln!("    {note}");
            self.notes.push(note);
        }
    }

    fn add(
        &mut self,
        part: &'static str,
        case: &str,
        contender: Contender,
        metric: Metric,
        figure: f64,
    ) {
        self.samples
            .add(part, case, contender.name(), metric, figure);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
