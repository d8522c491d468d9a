//! The rule set is replaced again and again while it drops packets.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::Outcome;
use super::bursts::{Burst, Sender, rules};
use super::stage::Stage;

/// Between two bursts.
const PAUSE: Duration = Duration::from_millis(3);
/// So long the last rule set stays: it has to be named then.
const REST: Duration = Duration::from_secs(2);

pub fn run(droptrace: &Path, count: u32) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(droptrace, "rules")?;
    stage.settings.push("trace.interval=200ms".to_owned());
    let sender = Sender::new(&version(0))?;
    let daemon = stage.start()?;
    let reader = stage.reader();
    thread::sleep(Duration::from_millis(300));
    // Versions of which the replacing has begun, and has ended.
    let (begun, ended) = (AtomicU32::new(0), AtomicU32::new(0));
    let over = AtomicBool::new(false);
    let mut warm = None;
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| send(&sender, &over, &begun, &ended));
        let replaced = (1..=count).try_for_each(|number| {
            begun.store(number, Ordering::SeqCst);
            sender.replace(&version(number))?;
            ended.store(number, Ordering::SeqCst);
            // Some stay for longer than an interval.
            let pause = if number.is_multiple_of(20) { 300 } else { 2 };
            thread::sleep(Duration::from_millis(pause));
            if number == count / 2 {
                warm = Some(daemon.size()?);
            }
            anyhow::Ok(())
        });
        thread::sleep(REST);
        over.store(true, Ordering::Relaxed);
        let sent = sending
            .join()
            .unwrap_or_else(|_| anyhow::bail!("the sender panicked"));
        replaced.and(sent)
    })?;
    let bursts: Vec<Burst> = sent.iter().map(|(burst, ..)| burst.clone()).collect();
    stage.await_packets(bursts.iter().map(|burst| u64::from(burst.packets)).sum());
    let end = daemon.size()?;
    let mut outcome = stage.end(daemon, reader, &bursts)?;
    outcome.done = format!("rule set replaced {count} times");
    outcome.sizes = warm.map(|warm| (warm, end));

    let received = stage.receiver.ledger();
    let (mut named, mut of_last, mut wrong) = (0, 0, Vec::new());
    for (burst, first, last) in &sent {
        let seen = received.burst(burst.number);
        for (_, _, rule) in seen.iter().flat_map(|seen| &seen.records) {
            let Some(rule) = rule else {
                continue;
            };
            named += 1;
            let told = rule.split("\"version ").nth(1);
            let told: Option<u32> = told.and_then(|rest| rest.split('"').next()?.parse().ok());
            if !told.is_some_and(|told| (*first..=*last).contains(&told)) {
                wrong.push(format!(
                    "burst {} was dropped by version {first} to {last}, and told of {rule}",
                    burst.number
                ));
            }
            of_last += u32::from(told == Some(count));
        }
    }
    outcome.notes.push(format!(
        "{named} of {} records name their rule, {} of them a wrong one",
        received.records,
        wrong.len()
    ));
    outcome.problems.extend(wrong.into_iter().take(5));
    if of_last == 0 {
        outcome
            .problems
            .push("no record names the rule that stayed".to_owned());
    }
    Ok(outcome)
}

/// Replaces what is there in one go; with a number of rules before the one that drops.
fn version(number: u32) -> String {
    let before = "meta mark 7 accept\n".repeat(number as usize % 4);
    let rules =
        rules(&format!("version {number}")).replace("ip daddr", &format!("{before}ip daddr"));
    format!("table inet endure\ndelete table inet endure\n{rules}")
}

/// Bursts, each with the first and the last version that may have dropped it.
fn send(
    sender: &Sender,
    over: &AtomicBool,
    begun: &AtomicU32,
    ended: &AtomicU32,
) -> anyhow::Result<Vec<(Burst, u32, u32)>> {
    let mut sent = Vec::new();
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let first = ended.load(Ordering::SeqCst);
        let burst = sender.send(number, 1 + number % 5)?;
        sent.push((burst, first, begun.load(Ordering::SeqCst)));
        thread::sleep(PAUSE);
    }
    Ok(sent)
}
