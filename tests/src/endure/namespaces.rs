//! Network namespaces come, drop packets by a rule of their own, and go.

use std::collections::VecDeque;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::Outcome;
use super::bursts::{Sender, rules};
use super::stage::Stage;

/// How many there are at a time.
const ALIVE: usize = 8;
/// So long each of them is there before the next one comes.
const PAUSE: Duration = Duration::from_millis(20);
/// Packets in each.
const PACKETS: u32 = 7;

pub fn run(droptrace: &Path, count: u32) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(droptrace, "namespaces")?;
    stage.settings.push("trace.interval=200ms".to_owned());
    let daemon = stage.start()?;
    let reader = stage.reader();
    thread::sleep(Duration::from_millis(300));
    let (mut bursts, mut inodes, mut alive) = (Vec::new(), Vec::new(), VecDeque::new());
    let mut warm = None;
    for number in 0..count {
        let sender = Sender::new(&rules(&name(number)))?;
        bursts.push(sender.send(number, PACKETS)?);
        inodes.push(sender.netns.inode);
        alive.push_back(sender);
        if alive.len() > ALIVE {
            alive.pop_front();
        }
        thread::sleep(PAUSE);
        if number == count / 2 {
            warm = Some(daemon.size()?);
        }
    }
    drop(alive);
    let made = u64::from(count * PACKETS);
    stage.await_packets(made);
    let end = daemon.size()?;
    let mut outcome = stage.end(daemon, reader, &bursts)?;
    outcome.done = format!("{count} network namespaces made and removed");
    outcome.sizes = warm.map(|warm| (warm, end));

    let received = stage.receiver.ledger();
    let mut named = 0;
    for (number, inode) in (0..).zip(&inodes) {
        for (_, netns, rule) in received.burst(number).iter().flat_map(|seen| &seen.records) {
            if *netns != Some(*inode) {
                outcome
                    .problems
                    .push(format!("burst {number} is told of namespace {netns:?}"));
            }
            match rule {
                Some(rule) if rule.contains(&format!("\"{}\"", name(number))) => named += 1,
                Some(rule) => outcome
                    .problems
                    .push(format!("burst {number} is told of rule {rule}")),
                None => {}
            }
        }
    }
    if named == 0 {
        outcome.problems.push("no record names its rule".to_owned());
    }
    outcome.notes.push(format!(
        "{named} of {} records name their rule",
        received.records
    ));
    Ok(outcome)
}

fn name(number: u32) -> String {
    format!("namespace {number}")
}
