//! Part 3: what packets that are not dropped cost.

use std::thread;
use std::time::Duration;

use super::Bench;
use super::contender::Contender;
use super::samples::{Metric, figure, metric};
use super::start::millis;
use super::streams::Stream;
use crate::run::statistics;

/// As the report names this part.
pub const PART: &str = "accepted";

/// Of that without a tracer.
pub const SHARE: Metric = metric("of no tracer", "%");
/// Of requests.
const MEDIAN: Metric = metric("median time of a request", "µs");
const SLOW: Metric = metric("99 % of requests within", "µs");
/// Of the contender's programs, for each unit of the stream.
pub const RUNS: Metric = metric("program runs", "each");
const TIME: Metric = metric("kernel time of programs", "ns each");

/// Rounds here for each of other parts: what disturbs a machine lasts seconds, and is less
/// seen in the ratios of many short rounds.
const SLICES: usize = 5;
/// Before the first stream: what a tracer still reads when it has begun, such as rule sets,
/// is a cost of its start.
const SETTLED: Duration = Duration::from_millis(500);
/// How long a stream goes on in a round.
const SLICE: Duration = Duration::from_millis(250);

const CONTENDERS: [Contender; 5] = [
    Contender::Nothing,
    Contender::NothingAgain,
    Contender::Daemon,
    Contender::CommandExact,
    Contender::CommandFiltered,
];

/// Rules that all packets pass, for programs at nftables' functions.
const RULES: &str = "table ip passed {
    chain in { type filter hook input priority 0; policy accept; ip ttl 64 accept; }
    chain out { type filter hook output priority 0; policy accept; ip ttl 64 accept; }
}";

/// Measures it.
pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let slices = if bench.is_short { 1 } else { SLICES };
    let rounds = bench.rounds_or(5) * slices;
    bench.ground.sandbox.shell("server", "nft -f -", RULES)?;
    let outcome = bench.rounds(rounds, &CONTENDERS, one);
    let sandbox = &bench.ground.sandbox;
    sandbox.shell("server", "nft delete table ip passed", "")?;
    outcome?;
    for stream in Stream::ALL {
        let nothing = Contender::Nothing.name();
        let samples = &mut bench.samples;
        samples.relate(PART, rate(stream), nothing, SHARE, 100.0);
    }
    Ok(())
}

fn rate(stream: Stream) -> Metric {
    metric("rate", stream.unit())
}

fn one(bench: &mut Bench, contender: Contender) -> anyhow::Result<()> {
    let session = bench.start(contender)?;
    if contender == Contender::CommandExact && !session.programs()?.has_kprobes {
        bench.note(format!(
            "{} has no programs at nftables' functions here: this kernel has no kprobes, or \
             its rules are found without them",
            contender.name()
        ));
    }
    thread::sleep(SETTLED);
    for stream in Stream::ALL {
        let case = stream.name();
        let done = stream.run(&bench.ground, SLICE)?;
        bench.add(PART, case, contender, rate(stream), done.rate);
        let place = |share: usize| done.times.get(done.times.len() * share / 100);
        if let (Some(median), Some(slow)) = (place(50), place(99)) {
            bench.add(PART, case, contender, MEDIAN, 1000.0 * millis(*median));
            bench.add(PART, case, contender, SLOW, 1000.0 * millis(*slow));
        }
        // The kernel's statistics cost time, so not while the rate is measured.
        let statistics = statistics::enable()?;
        let begin = session.programs()?;
        let done = stream.run(&bench.ground, SLICE / 5)?;
        let end = session.programs()?;
        drop(statistics);
        if session.has_process() {
            let units = done.rate * (SLICE / 5).as_secs_f64();
            let (runs, time) = (end.runs - begin.runs, end.time - begin.time);
            bench.add(PART, case, contender, RUNS, figure(runs) / units);
            bench.add(PART, case, contender, TIME, figure(time) / units);
        }
    }
    session.stop(&bench.ground)?;
    Ok(())
}
