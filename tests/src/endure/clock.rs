//! The clock on the wall is set forward and back while packets are dropped.

use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::time::{ClockId, clock_settime};

use super::bursts::{Sender, now, rules};
use super::stage::Stage;
use super::{Outcome, Random};

/// The first process of a guest; nobody else's clock is set.
const GUEST: &str = "/run/xtask/go";
const INTERVAL: Duration = Duration::from_millis(200);
/// How far the time of a record may be off.
const EXACT: u64 = 50_000_000;
/// The longest step, seconds.
const STEP: u64 = 3 * 24 * 3600;

pub fn may_be_set() -> bool {
    Path::new(GUEST).exists()
}

pub fn run(droptrace: &Path, steps: u32, random: &mut Random) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(droptrace, "clock")?;
    let interval = INTERVAL.as_millis();
    stage.settings.push(format!("trace.interval={interval}ms"));
    let sender = Sender::new(&rules("all"))?;
    let daemon = stage.start()?;
    let reader = stage.reader();
    thread::sleep(Duration::from_secs(1));
    let mut warm = None;
    let mut bursts = Vec::new();
    for number in 0..steps {
        let seconds = random.below(STEP) >> random.below(17);
        let step = seconds * 1_000_000_000;
        let time = if number % 2 == 0 {
            now() + step
        } else {
            now().saturating_sub(step)
        };
        clock_settime(
            ClockId::CLOCK_REALTIME,
            TimeSpec::nanoseconds(i64::try_from(time)?),
        )?;
        thread::sleep(INTERVAL * 2);
        bursts.push(sender.send(number, 1 + number % 9)?);
        thread::sleep(INTERVAL * 3);
        if number == steps / 2 {
            warm = Some(daemon.size()?);
        }
    }
    let made = bursts.iter().map(|burst| u64::from(burst.packets)).sum();
    stage.await_packets(made);
    let end = daemon.size()?;
    let mut outcome = stage.end(daemon, reader, &bursts)?;
    outcome.done = format!("clock set {steps} times, up to {STEP} s forward or back");
    outcome.sizes = warm.map(|warm| (warm, end));
    let received = stage.receiver.ledger();
    for burst in &bursts {
        let seen = received.burst(burst.number);
        for (time, ..) in seen.iter().flat_map(|seen| &seen.records) {
            if *time + EXACT < burst.from || *time > burst.to + EXACT {
                outcome.problems.push(format!(
                    "burst {} from {} to {} is told at {time}",
                    burst.number, burst.from, burst.to
                ));
            }
        }
    }
    if !received.gaps.is_empty() {
        outcome.problems.push("a gap is told".to_owned());
    }
    Ok(outcome)
}
