//! What the daemon costs when there is nothing to do, with all exporters.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Outcome;
use super::bursts::{NETWORK, Sender, rules};
use super::stage::Stage;
use crate::run::Statistics;

/// Until then it is still starting.
const WARM: Duration = Duration::from_secs(10);

pub fn run(droptrace: &Path, seconds: u32) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(droptrace, "rest")?;
    // Verdicts and limits as they are by default. The filter keeps others' drops out.
    stage.settings = vec![
        format!("trace.dst=[{NETWORK:?}]"),
        "trace.verdicts=all".to_owned(),
    ];
    let sender = Sender::new(&rules("all"))?;
    let daemon = stage.start()?;
    thread::sleep(WARM.min(Duration::from_secs(seconds.into())));
    // That it works.
    let burst = sender.send(1, 5)?;
    stage.await_packets(5);
    thread::sleep(Duration::from_secs(2));
    let statistics = Statistics::of(daemon.process())?;
    let (begun, used) = (Instant::now(), own_time(daemon.process())?);
    let programs = statistics.run_time()?;
    let warm = daemon.size()?;
    thread::sleep(Duration::from_secs(seconds.into()));
    let share = |time: Duration| 100.0 * time.as_secs_f64() / begun.elapsed().as_secs_f64();
    let own = share(own_time(daemon.process())?.saturating_sub(used));
    let programs = share(statistics.run_time()?.saturating_sub(programs));
    let end = daemon.size()?;
    daemon.stop()?;
    let mut outcome = Outcome {
        done: format!("{seconds} s at rest"),
        made: burst.packets.into(),
        sizes: Some((warm, end)),
        ..Outcome::default()
    };
    let received = stage.receiver.ledger();
    outcome.in_records = received.burst(1).map_or(0, |seen| seen.packets);
    outcome.judge_sum();
    outcome.notes.push(format!(
        "{own:.3} % of a CPU for the daemon, {programs:.3} % for its kernel programs; {:.1} MiB",
        f64::from(u32::try_from(end.memory)?) / 1024.0
    ));
    Ok(outcome)
}

/// CPU time of all threads of the process, by the scheduler's own account.
fn own_time(process: u32) -> anyhow::Result<Duration> {
    let mut time = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanos = text.split(' ').next().context("an empty schedstat")?;
        time += Duration::from_nanos(nanos.parse()?);
    }
    Ok(time)
}
