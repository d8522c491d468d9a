//! Whether the benchmark's own counters agree: what was sent, what the rule dropped,
//! what each contender is said to have seen. No time is looked at.

use anyhow::{Context as _, bail, ensure};

use super::Bench;
use super::contender::{Contender, TRACERS};
use super::count;
use super::load::Load;
use super::session::Session;
use crate::run::statistics;

/// Few enough that no contender loses one.
const PACKETS: u32 = 2_000;
const FLOWS: u32 = 500;

/// Fails where two counters that must agree do not.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    if let Err(error) = count::reason_code() {
        println!("skipped: {error:#}");
        return Ok(());
    }
    let mut wrong = Vec::new();
    let contenders = [&[Contender::Floor][..], &TRACERS].concat();
    bench.rounds(1, &contenders, |bench, contender| {
        let session = bench.start(contender)?;
        // A peer that does not start is left out; one whose counts are wrong is not.
        match agree(bench, contender, session) {
            Ok(words) => println!("{}: {words}", contender.name()),
            Err(error) => wrong.push(format!("{}: {error:#}", contender.name())),
        }
        Ok(())
    })?;
    if !wrong.is_empty() {
        bail!("counters disagree: {}", wrong.join("; "));
    }
    Ok(())
}

fn agree(bench: &Bench, contender: Contender, session: Session) -> anyhow::Result<String> {
    let statistics = statistics::enable()?;
    let before = session.programs()?.runs;
    let dropped = bench.ground.drop(Load::of(PACKETS, FLOWS))?.dropped;
    let runs = session.programs()?.runs - before;
    drop(statistics);
    ensure!(
        dropped == u64::from(PACKETS),
        "{PACKETS} packets were sent, {dropped} were dropped"
    );
    let counted = session.stop(&bench.ground)?;
    // The machine may drop other packets meanwhile, which some contenders count too.
    let seen = match counted {
        None => runs,
        Some(counted) => counted.drops + counted.lost,
    };
    ensure!(
        seen >= dropped,
        "of {dropped} drops {seen} are accounted for"
    );
    if contender != Contender::Perf {
        ensure!(
            runs >= dropped,
            "its programs ran {runs} times for {dropped} drops"
        );
    }
    if contender == Contender::Daemon {
        let counted = counted.context("a daemon counts")?;
        ensure!(
            counted.drops <= dropped,
            "{} drops are recorded, {dropped} happened",
            counted.drops
        );
    }
    Ok(format!("{dropped} dropped, {seen} seen"))
}
