//! Part 1: what a dropped packet costs, at several numbers of flows.

use std::time::Duration;

use super::Bench;
use super::contender::Contender;
use super::load::Load;
use super::report::several;
use super::samples::{Metric, figure, metric};
use crate::run::statistics;

/// As the report names this part.
pub const PART: &str = "cost";

/// In the kernel's programs, by its own statistics.
pub const KERNEL_TIME: Metric = metric("kernel time per drop", "ns");
/// The same, times that of the empty program.
pub const TIMES_FLOOR: Metric = metric("× empty program", "×");
/// The same, times that of bpftrace's count.
pub const TIMES_BPFTRACE: Metric = metric("× bpftrace count", "×");
/// What one CPU can send, each packet being dropped.
const THROUGHPUT: Metric = metric("throughput", "packets/s");
/// Of that without a tracer.
pub const SHARE: Metric = metric("of no tracer", "%");
/// Of the contender's process.
pub const USER_TIME: Metric = metric("user space per 1,000,000 drops", "s of CPU");
/// Over all cases of a round.
pub const ACCOUNTED: Metric = metric("accounted", "%");

const CONTENDERS: [Contender; 7] = [
    Contender::Nothing,
    Contender::Floor,
    Contender::Daemon,
    Contender::Command,
    Contender::BpftraceCount,
    Contender::BpftracePrint,
    Contender::Perf,
];

const FLOWS: [u32; 4] = [1, 1_000, 100_000, 1_000_000];

/// Who slows the sender down much is not waited for until the last packet.
const LIMIT: Duration = Duration::from_secs(2);

/// Until a process has taken what a load left behind, before its CPU time is read:
/// droptrace looks once a second, others at once.
pub fn settle(contender: Contender) {
    let millis = if contender.is_own() { 1200 } else { 200 };
    std::thread::sleep(Duration::from_millis(millis));
}

/// The case's name.
pub fn case(flows: u32) -> String {
    several(flows.into(), "flow")
}

/// Measures it.
pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let rounds = bench.rounds_or(5);
    bench.rounds(rounds, &CONTENDERS, one)?;
    let samples = &mut bench.samples;
    samples.relate(PART, KERNEL_TIME, Contender::Floor.name(), TIMES_FLOOR, 1.0);
    let count = Contender::BpftraceCount.name();
    samples.relate(PART, KERNEL_TIME, count, TIMES_BPFTRACE, 1.0);
    samples.relate(PART, THROUGHPUT, Contender::Nothing.name(), SHARE, 100.0);
    Ok(())
}

fn one(bench: &mut Bench, contender: Contender) -> anyhow::Result<()> {
    let session = bench.start(contender)?;
    let before = bench.ground.dropped()?;
    for flows in FLOWS {
        let packets = match (bench.is_short, flows) {
            (true, 1_000_000) => continue,
            (true, _) => 100_000,
            (false, _) => flows.max(300_000),
        };
        let case = case(flows);
        let load = Load {
            limit: LIMIT,
            ..Load::of(packets, flows)
        };

        // What the kernel's own statistics cost must not be in the throughput.
        let begin = session.cpu()?;
        let sent = bench.ground.drop(load)?;
        let rate = figure(sent.dropped) / sent.took.as_secs_f64();
        bench.add(PART, &case, contender, THROUGHPUT, rate);
        if session.has_process() {
            settle(contender);
            let time = session.cpu()?.saturating_sub(begin).as_secs_f64();
            let each = time / figure(sent.dropped) * 1e6;
            bench.add(PART, &case, contender, USER_TIME, each);
        }

        let statistics = statistics::enable()?;
        let begin = session.programs()?;
        let sent = bench.ground.drop(load)?;
        let end = session.programs()?;
        drop(statistics);
        if end.runs > begin.runs {
            let time = figure(end.time - begin.time) / figure(sent.dropped);
            bench.add(PART, &case, contender, KERNEL_TIME, time);
        }
    }
    let dropped = bench.ground.dropped()? - before;
    if let Some(counted) = session.stop(&bench.ground)? {
        let share = 100.0 * figure(counted.drops) / figure(dropped);
        bench.add(PART, "all flows", contender, ACCOUNTED, share);
    }
    Ok(())
}
