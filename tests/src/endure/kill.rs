//! The daemon is killed at random moments, while packets are dropped all the time.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::bursts::{Burst, Sender, rules};
use super::kernel::{are_gone, objects_of};
use super::ledger::Ledger;
use super::stage::{Daemon, PATIENCE, Size, Stage};
use super::{Outcome, Random};

/// How often counts are taken from the kernel.
const INTERVAL: Duration = Duration::from_millis(200);
/// The daemon is killed so many milliseconds after its start at most, or, every other one,
/// after it traces.
const LIFE: u64 = 2000;
/// What a gap may begin earlier than the last interval that was counted: records are on
/// their way to the disk.
const ON_THE_WAY: Duration = Duration::from_millis(500);
/// Between two bursts.
const PAUSE: Duration = Duration::from_millis(5);
/// So old are the first daemon and the last one when their sizes are compared.
const WARM: Duration = Duration::from_secs(1);

/// What came of all lives.
struct Lives {
    /// The last one.
    daemon: Daemon,
    begun: Instant,
    /// How long daemons have traced.
    traced: Duration,
    /// How many were killed before they traced.
    starting: u32,
    /// How much they had in the kernel.
    objects: usize,
    /// How long the kernel kept it at most.
    slowest: Duration,
    sizes: (Size, Size),
}

pub fn run(droptrace: &Path, kills: u32, random: &mut Random) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(droptrace, "kill")?;
    stage
        .settings
        .push(format!("trace.interval={}ms", INTERVAL.as_millis()));
    let sender = Sender::new(&rules("all"))?;
    let daemon = stage.start()?;
    let reader = stage.reader();
    let over = AtomicBool::new(false);
    let (bursts, lives) = thread::scope(|scope| {
        let sending = scope.spawn(|| send(&sender, &over));
        let lives = live(&stage, daemon, kills, random);
        over.store(true, Ordering::Relaxed);
        let bursts = sending
            .join()
            .unwrap_or_else(|_| anyhow::bail!("the sender panicked"));
        anyhow::Ok((bursts?, lives?))
    })?;
    let whole = lives.begun.elapsed();
    let untraced = whole.saturating_sub(lives.traced);
    stage.await_quiet();
    lives.daemon.stop()?;

    let made: u64 = bursts.iter().map(|burst| u64::from(burst.packets)).sum();
    let mut outcome = Outcome {
        made,
        sizes: Some(lives.sizes),
        done: format!(
            "killed {kills} times, {} of them while it started, during {} bursts",
            lives.starting,
            bursts.len()
        ),
        ..Outcome::default()
    };
    let counted = sender.counted()?;
    if counted != made {
        outcome
            .problems
            .push(format!("nft has dropped {counted}, not {made}"));
    }
    let mut received = stage.receiver.ledger();
    outcome.in_gaps = received.compare("OTLP", &bursts);
    outcome.in_records = received.packets();
    outcome.lost = received.lost();
    outcome.judge_sum();
    let gaps: u64 = received.untraced().iter().map(|(from, to)| to - from).sum();
    let gaps = Duration::from_nanos(gaps);
    let allowed = untraced + (INTERVAL + ON_THE_WAY) * kills;
    if gaps > allowed {
        outcome.problems.push(format!(
            "gaps of {gaps:.1?} are told, and there were {allowed:.1?} at most"
        ));
    }
    outcome.problems.append(&mut received.complaints);
    let mut file = Ledger::of_file(&stage.file())?;
    let in_gaps = file.compare("the file", &bursts);
    outcome.problems.append(&mut file.complaints);
    let mut read = reader.end();
    read.at_most("the socket", &bursts);
    outcome.problems.append(&mut read.complaints);
    outcome.notes = vec![
        format!(
            "{untraced:.1?} of {whole:.1?} not traced; gaps of {gaps:.1?} told in {} records",
            received.gaps.len()
        ),
        format!(
            "{} programs, maps, links and types were held; gone within {:.1?}",
            lives.objects, lives.slowest
        ),
        format!("{} records came again", received.duplicates),
        format!(
            "the file: {} packets in records, {in_gaps} in gaps",
            file.packets()
        ),
        format!("the socket: {} packets in records", read.packets()),
    ];
    Ok(outcome)
}

/// One daemon after the other, and all but the last one killed.
fn live(stage: &Stage, daemon: Daemon, kills: u32, random: &mut Random) -> anyhow::Result<Lives> {
    let begun = Instant::now();
    thread::sleep(WARM);
    let warm = daemon.size()?;
    let mut lives = Lives {
        daemon,
        begun,
        traced: Duration::ZERO,
        starting: 0,
        objects: 0,
        slowest: Duration::ZERO,
        sizes: (warm, warm),
    };
    let mut ready = Some(begun);
    for kill in 0..kills {
        let daemon = &lives.daemon;
        if kill % 2 == 1 && ready.is_none() && daemon.is_ready_within(PATIENCE) {
            ready = Some(Instant::now());
        }
        let left = Duration::from_micros(random.below(LIFE * 1000));
        let moment = Instant::now() + left;
        if ready.is_none() && daemon.is_ready_within(left) {
            ready = Some(Instant::now());
        }
        thread::sleep(moment.saturating_duration_since(Instant::now()));
        let held = objects_of(daemon.process());
        let next = stage.spawn_after(lives.daemon)?;
        match ready.take() {
            Some(ready) => lives.traced += ready.elapsed(),
            None => lives.starting += 1,
        }
        lives.daemon = next;
        lives.objects += held.len();
        lives.slowest = lives.slowest.max(are_gone(&held)?);
    }
    ensure!(
        lives.daemon.is_ready_within(PATIENCE),
        "the last daemon did not start"
    );
    let ready = Instant::now();
    thread::sleep(WARM);
    lives.traced += ready.elapsed();
    lives.sizes.1 = lives.daemon.size()?;
    Ok(lives)
}

fn send(sender: &Sender, over: &AtomicBool) -> anyhow::Result<Vec<Burst>> {
    let mut bursts = Vec::new();
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        bursts.push(sender.send(number, 1 + number % 20)?);
        thread::sleep(PAUSE);
    }
    Ok(bursts)
}
