//! How fast is droptrace, and how fast are others? `docs/benchmarks.md` says what each
//! figure is.
//!
//! Nothing here fails on a time. In each round every contender is measured once, each
//! round beginning with another one, so that what disturbs the machine meets all.

mod accepted;
mod brief;
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
mod tracefs;
mod usage;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use self::contender::Contender;
use self::floor::Floor;
use self::load::Ground;
use self::report::Report;
use self::samples::{Metric, Samples};
use self::session::{Session, Start};
use crate::cli::BenchArgs;
use crate::run::statistics;

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

/// From this load on, other processes take time of the contenders.
const BUSY: f64 = 0.7;

/// How long others' drops are looked at, and how many are no disturbance.
const LOOK: Duration = Duration::from_secs(2);
const FOREIGN: u64 = 100;

/// What all parts share.
pub struct Bench {
    droptrace: PathBuf,
    /// For outputs of the contenders, gone at the end.
    folder: PathBuf,
    ground: Ground,
    /// As many as `--repeat` says.
    repeat: Option<usize>,
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
    bench.look_around()?;
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
    if let Some(root) = &args.update_docs {
        report.update(root)?;
    }
    Ok(())
}

impl Bench {
    fn new(droptrace: &Path, args: &BenchArgs) -> anyhow::Result<Self> {
        let folder = args.out.join("outputs");
        // Of one that was killed.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self {
            droptrace: droptrace.to_owned(),
            folder: folder.canonicalize()?,
            ground: Ground::new()?,
            repeat: args.repeat,
            is_short: args.short,
            samples: Samples::default(),
            notes: Vec::new(),
        })
    }

    /// Notes what disturbs the figures.
    fn look_around(&mut self) -> anyhow::Result<()> {
        let load = fs::read_to_string("/proc/loadavg")?;
        let load: f64 = load.split(' ').next().unwrap_or("").parse()?;
        if load > BUSY {
            self.note(format!(
                "the machine was busy at the start (load {load}): times are those of a busy machine"
            ));
        }
        let _floor = Floor::attach()?;
        let _statistics = statistics::enable()?;
        let begin = statistics::totals(std::process::id())?.runs;
        std::thread::sleep(LOOK);
        let drops = statistics::totals(std::process::id())?.runs - begin;
        if drops > FOREIGN {
            self.note(format!(
                "the machine dropped {drops} packets of others in {} s: who does not tell \
                 them apart counts them, and they take the time of all",
                LOOK.as_secs()
            ));
        }
        Ok(())
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

    /// How many rounds: what the user says, one in a short run, or this many.
    fn rounds_or(&self, rounds: usize) -> usize {
        let rounds = if self.is_short { 1 } else { rounds };
        self.repeat.unwrap_or(rounds)
    }

    /// Measures every contender once a round. One that cannot be measured here is left
    /// out and noted; if it is droptrace, that is an error.
    fn rounds(
        &mut self,
        rounds: usize,
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
        for round in 0..rounds {
            eprintln!("    round {} of {rounds}", round + 1);
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
