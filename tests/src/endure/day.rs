//! The drops of a day: ten flows a second, a million packets, as fast as the daemon takes
//! them without loss.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Outcome;
use super::bursts::{Burst, Sender, now, rules};
use super::stage::Stage;

/// Flows in a thousandth of the day, and those of them with a second packet: 864,000 and
/// a million packets in all.
const FLOWS: u32 = 864;
const TWICE: u32 = 136;
/// Packets that the receiver may not have yet: the daemon has room for their records.
const AHEAD: u64 = 3000;

/// So many thousandths of a day.
pub fn run(droptrace: &Path, thousandths: u32) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(droptrace, "day")?;
    stage.settings.push("trace.interval=200ms".to_owned());
    let sender = Sender::new(&rules("all"))?;
    let daemon = stage.start()?;
    let reader = stage.reader();
    thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    let mut bursts: Vec<Burst> = Vec::new();
    let (mut made, mut warm) = (0, None);
    for thousandth in 0..thousandths {
        let flows = thousandth * FLOWS..(thousandth + 1) * FLOWS;
        let packets = |number: u32| if number % FLOWS < TWICE { 2 } else { 1 };
        let numbers: Vec<u32> = flows
            .clone()
            .flat_map(|number| (0..packets(number)).map(move |_| number))
            .collect();
        let from = now();
        sender.send_all(&numbers)?;
        let to = now();
        bursts.extend(flows.map(|number| Burst {
            number,
            packets: packets(number),
            from,
            to,
        }));
        made += numbers.len() as u64;
        if made > AHEAD {
            stage.await_packets(made - AHEAD);
        }
        if thousandth == thousandths / 2 {
            warm = Some(daemon.size()?);
        }
    }
    stage.await_packets(made);
    let took = begun.elapsed();
    let end = daemon.size()?;
    let mut outcome = stage.end(daemon, reader, &bursts)?;
    outcome.done = format!("{} flows, {made} packets", bursts.len());
    outcome.sizes = warm.map(|warm| (warm, end));
    if sender.counted()? != made {
        outcome
            .problems
            .push(format!("nft has dropped {}, not {made}", sender.counted()?));
    }
    let rate = f64::from(thousandths * FLOWS) / took.as_secs_f64();
    outcome.notes.push(format!("{rate:.0} records a second"));
    Ok(outcome)
}
