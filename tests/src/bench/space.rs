//! Part 4: CPU time and memory of the contenders' processes.

use std::time::{Duration, Instant};

use super::Bench;
use super::contender::Contender;
use super::cost::{self, ACCOUNTED};
use super::load::Load;
use super::samples::{Metric, figure, metric};
use super::session::Session;
use super::usage;

/// As the report names this part.
pub const PART: &str = "space";

/// As cases.
pub const AT_REST: &str = "at rest";
pub const STEADY: &str = "100,000 drops/s of 10,000 flows";

/// Of one CPU.
pub const CPU: Metric = metric("CPU", "% of one");
/// The most while the case lasted; at rest what it is then.
pub const MEMORY: Metric = metric("resident memory", "MiB");
/// Of the kernel, for maps.
const MAPS: Metric = metric("kernel memory of maps", "MiB");

const CONTENDERS: [Contender; 6] = [
    Contender::Daemon,
    Contender::Command,
    Contender::CommandAllFlows,
    Contender::BpftraceCount,
    Contender::BpftracePrint,
    Contender::Perf,
];

const RATE: u32 = 100_000;
const FLOWS: u32 = 10_000;
/// Several of the pauses that the daemon makes under such a load, so that what comes at
/// their end is measured as often as it comes.
const STEADY_SECONDS: u32 = 16;
const MANY_FLOWS: u32 = 1_000_000;
const FEWER_FLOWS: u32 = 100_000;

/// Until what a start takes is over.
const AFTER_START: Duration = Duration::from_millis(700);

/// Measures it.
pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let rounds = bench.rounds_or(3);
    bench.rounds(rounds, &CONTENDERS, one)
}

fn one(bench: &mut Bench, contender: Contender) -> anyhow::Result<()> {
    let session = bench.start(contender)?;
    let before = bench.ground.dropped()?;
    let (seconds, steady_seconds) = if bench.is_short {
        (1, 6)
    } else {
        (3, STEADY_SECONDS)
    };
    std::thread::sleep(AFTER_START);

    let resting = cpu_during(&session, || {
        std::thread::sleep(Duration::from_secs(seconds));
        Ok(())
    })?;
    bench.add(PART, AT_REST, contender, CPU, resting);
    let resident = usage::resident(session.process())?;
    bench.add(PART, AT_REST, contender, MEMORY, mib(resident));
    let maps = session.programs()?.maps;
    if maps > 0 {
        bench.add(PART, AT_REST, contender, MAPS, mib(maps));
    }

    usage::forget_peak(session.process())?;
    let steady = cpu_during(&session, || {
        let load = Load {
            rate: Some(RATE),
            ..Load::of(RATE * steady_seconds, FLOWS)
        };
        bench.ground.drop(load).map(|_| ())
    })?;
    bench.add(PART, STEADY, contender, CPU, steady);
    cost::settle(contender);
    let peak = usage::peak(session.process())?;
    bench.add(PART, STEADY, contender, MEMORY, mib(peak));

    usage::forget_peak(session.process())?;
    let many = if bench.is_short {
        FEWER_FLOWS
    } else {
        MANY_FLOWS
    };
    bench.ground.drop(Load::of(many, many))?;
    cost::settle(contender);
    let peak = usage::peak(session.process())?;
    let case = cost::case(many);
    bench.add(PART, &case, contender, MEMORY, mib(peak));

    let dropped = bench.ground.dropped()? - before;
    if let Some(counted) = session.stop(&bench.ground)? {
        let share = 100.0 * figure(counted.drops) / figure(dropped);
        bench.add(PART, &case, contender, ACCOUNTED, share);
    }
    Ok(())
}

/// CPU time of the process while something happens, in percent of one CPU.
fn cpu_during(
    session: &Session,
    happening: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let (before, begin) = (session.cpu()?, Instant::now());
    happening()?;
    let spent = session.cpu()?.saturating_sub(before);
    Ok(100.0 * spent.as_secs_f64() / begin.elapsed().as_secs_f64())
}

/// Bytes as a figure.
pub fn mib(bytes: u64) -> f64 {
    figure(bytes) / f64::from(1 << 20)
}
