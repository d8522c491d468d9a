//! Part 2: which share of the drops each contender accounts for, at the highest rate
//! that all CPUs can make.

use std::time::Duration;

use super::Bench;
use super::contender::{Contender, TRACERS};
use super::cost::{self, ACCOUNTED};
use super::load::{self, Load};
use super::samples::{Metric, figure, metric};

/// As the report names this part.
pub const PART: &str = "loss";

/// Drops while the contender was at work.
const RATE: Metric = metric("drops", "packets/s");
/// With those that it says were lost.
const TOLD: Metric = metric("with those told as lost", "%");

/// Numbers of flows.
pub const FLOWS: [u32; 2] = [1_000, 1_000_000];

/// Who slows the senders down much is not waited for until the last packet.
const LIMIT: Duration = Duration::from_secs(3);

/// Measures it.
pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let senders = load::cpus()?.len();
    let rounds = bench.rounds_or(5);
    for flows in FLOWS {
        bench.rounds(rounds, &TRACERS, |bench, contender| {
            one(bench, contender, flows, senders)
        })?;
    }
    Ok(())
}

fn one(bench: &mut Bench, contender: Contender, flows: u32, senders: usize) -> anyhow::Result<()> {
    let session = bench.start(contender)?;
    let before = bench.ground.dropped()?;
    let sent = bench.ground.drop(Load {
        senders,
        limit: LIMIT,
        ..Load::of(if bench.is_short { 200_000 } else { 2_000_000 }, flows)
    })?;
    let dropped = bench.ground.dropped()? - before;
    let case = cost::case(flows);
    let rate = figure(sent.dropped) / sent.took.as_secs_f64();
    bench.add(PART, &case, contender, RATE, rate);
    if let Some(counted) = session.stop(&bench.ground)? {
        let told = counted.drops + counted.lost;
        for (metric, packets) in [(ACCOUNTED, counted.drops), (TOLD, told)] {
            let share = 100.0 * figure(packets) / figure(dropped);
            bench.add(PART, &case, contender, metric, share);
        }
    }
    Ok(())
}
