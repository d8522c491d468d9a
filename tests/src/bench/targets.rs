//! What droptrace shall reach, and whether it does.

use serde::Serialize;

use super::Bench;
use super::contender::Contender;
use super::samples::{Metric, Samples, Spread};
use super::streams::Stream;
use super::{accepted, cost, growth, loss, report, space, start};

/// One of them.
#[derive(Debug, Serialize)]
pub struct Target {
    /// In words.
    pub what: String,
    /// The limit, in words.
    pub limit: String,
    /// What was measured: the median, or the worst where it must always hold.
    pub measured: f64,
    /// Whether it is within the limit.
    pub reached: Reached,
}

/// Whether a figure is within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reached {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It is not, but by no more than it may be off by chance.
    Unclear,
}

impl Reached {
    /// In a table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unclear => "unclear",
        }
    }
}

impl From<bool> for Reached {
    fn from(is_reached: bool) -> Self {
        if is_reached { Self::Yes } else { Self::No }
    }
}

/// On which side of the limit a figure must be.
#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    /// In every round.
    Always(f64),
}

/// The accepted path, in percent of no tracer.
const LEAST: f64 = 99.5;

/// Those about which this run measured something.
pub fn of(bench: &Bench) -> Vec<Target> {
    let samples = &bench.samples;
    let daemon = |part, case: &str, metric| spread(samples, part, case, Contender::Daemon, metric);
    let thousand = cost::case(1_000);
    let mut targets = Vec::new();
    let mut add = |what: &str, limit: Limit, spread: Option<Spread>| {
        targets.extend(spread.map(|spread| judge(what, limit, spread)));
    };
    add(
        "kernel time per drop, 1,000 flows, × bpftrace count",
        Limit::AtMost(1.0),
        daemon(cost::PART, &thousand, cost::TIMES_BPFTRACE),
    );
    add(
        "kernel time per drop, 1,000 flows, × empty program",
        Limit::AtMost(3.0),
        daemon(cost::PART, &thousand, cost::TIMES_FLOOR),
    );
    for flows in loss::FLOWS {
        let case = cost::case(flows);
        let accounted = daemon(loss::PART, &case, cost::ACCOUNTED);
        let what = format!("accounted at the highest rate, {case}, %");
        add(&what, Limit::Always(100.0), accounted);
    }
    for (what, case, metric, most) in [
        ("CPU at rest, % of one", space::AT_REST, space::CPU, 0.1),
        (
            "CPU at 100,000 drops/s, % of one",
            space::STEADY,
            space::CPU,
            2.0,
        ),
        (
            "resident memory at rest, MiB",
            space::AT_REST,
            space::MEMORY,
            20.0,
        ),
    ] {
        add(what, Limit::AtMost(most), daemon(space::PART, case, metric));
    }
    let million = cost::case(1_000_000);
    add(
        "resident memory at 1,000,000 flows, MiB",
        Limit::AtMost(150.0),
        daemon(space::PART, &million, space::MEMORY),
    );
    add(
        "start to all programs, ms",
        Limit::AtMost(150.0),
        daemon(start::PART, start::WARM, start::ALL),
    );
    let (few, many) = (growth::SMALLEST, growth::largest(bench.is_short));
    let first = |rules| daemon(growth::RULES, &growth::case(rules), growth::FIRST_RATIO);
    if let (Some(few_cost), Some(many_cost)) = (first(few), first(many)) {
        let by = |figure: f64| figure / few_cost.median;
        let grown = Spread {
            median: by(many_cost.median),
            min: by(many_cost.min),
            max: by(many_cost.max),
        };
        let log = f64::from(many).ln() / f64::from(few).ln();
        let what = format!(
            "naming the rule of a first drop, {} by {}",
            growth::case(many),
            growth::case(few)
        );
        add(&what, Limit::AtMost(log), Some(grown));
    }
    add(
        "later drops, × without rules (0.05 for noise)",
        Limit::AtMost(1.05),
        daemon(growth::RULES, &growth::case(many), growth::LATER_RATIO),
    );
    targets.extend(accepted(samples));
    targets
}

/// The noise is by how much more the true median may be than the measured one.
fn accepted(samples: &Samples) -> impl Iterator<Item = Target> {
    Stream::ALL.into_iter().filter_map(|stream| {
        let (part, case, daemon) = (accepted::PART, stream.name(), Contender::Daemon.name());
        let share = samples.find(part, case, daemon, accepted::SHARE)?;
        let (measured, most) = (share.spread()?.median, share.most_median()?);
        Some(Target {
            what: format!("{}, % of no tracer", stream.name()),
            limit: format!("≥ {LEAST}, noise {:.1}", most - measured),
            measured,
            reached: match measured {
                _ if measured >= LEAST => Reached::Yes,
                _ if most >= LEAST => Reached::Unclear,
                _ => Reached::No,
            },
        })
    })
}

fn spread(
    samples: &Samples,
    part: &str,
    case: &str,
    contender: Contender,
    metric: Metric,
) -> Option<Spread> {
    samples.find(part, case, contender.name(), metric)?.spread()
}

#[expect(clippy::float_cmp, reason = "all or not all: nothing was rounded")]
fn judge(what: &str, limit: Limit, spread: Spread) -> Target {
    let (limit, measured, reached) = match limit {
        Limit::AtMost(most) => (
            format!("≤ {}", report::show(most)),
            spread.median,
            spread.median <= most,
        ),
        Limit::Always(always) => (
            format!("= {always:.0}, always"),
            if spread.min == always {
                spread.max
            } else {
                spread.min
            },
            spread.min == always && spread.max == always,
        ),
    };
    Target {
        what: what.to_owned(),
        limit,
        measured,
        reached: reached.into(),
    }
}
