//! What does droptrace cost, in a few lines? For the README.

use super::contender::Contender;
use super::report::Table;
use super::samples::{Metric, Samples};
use super::streams::Stream;
use super::{accepted, cost, loss, space, start};

/// Who is compared there.
const CONTENDERS: [Contender; 3] = [Contender::Daemon, Contender::BpftraceCount, Contender::Perf];

/// The medians of what was measured of them.
pub fn of(samples: &Samples) -> Table {
    let (thousand, million) = (cost::case(1_000), cost::case(1_000_000));
    let figures: [(&str, &str, &str, Metric); 9] = [
        (
            "program runs for a datagram that passes",
            accepted::PART,
            Stream::Datagrams.name(),
            accepted::RUNS,
        ),
        (
            "throughput of a sender whose packets are all dropped, % of that without a tracer",
            cost::PART,
            &thousand,
            cost::SHARE,
        ),
        (
            "kernel time of its programs per drop, ns",
            cost::PART,
            &thousand,
            cost::KERNEL_TIME,
        ),
        (
            "drops accounted for at the highest rate, %",
            loss::PART,
            &thousand,
            cost::ACCOUNTED,
        ),
        (
            "CPU at rest, % of one",
            space::PART,
            space::AT_REST,
            space::CPU,
        ),
        (
            "CPU at 100,000 drops a second, % of one",
            space::PART,
            space::STEADY,
            space::CPU,
        ),
        (
            "resident memory at rest, MiB",
            space::PART,
            space::AT_REST,
            space::MEMORY,
        ),
        (
            "resident memory when 1,000,000 flows drop packets, MiB",
            space::PART,
            &million,
            space::MEMORY,
        ),
        (
            "from its start to tracing, ms",
            start::PART,
            start::WARM,
            start::ALL,
        ),
    ];
    let mut table = Table::new("costs", &[""]);
    table
        .head
        .extend(CONTENDERS.map(|contender| contender.name().to_owned()));
    for (what, part, case, metric) in figures {
        let figure = |contender: Contender| {
            let spread = samples
                .find(part, case, contender.name(), metric)?
                .spread()?;
            Some(super::report::show(spread.median))
        };
        let mut row = vec![what.to_owned()];
        row.extend(CONTENDERS.map(|contender| figure(contender).unwrap_or_default()));
        table.rows.push(row);
    }
    table
}
