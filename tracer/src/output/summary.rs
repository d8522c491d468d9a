//! The summary at the end of a run.

use super::{
    Totals,
    aggregate::{Aggregate, KINDS},
    cause::{self, BOLD, PLAIN},
    flow,
    layout::{Line, Look, paragraph},
    table,
    text::{number, several, span},
};
use crate::event::LossOf;

/// The whole summary.
pub(super) fn text(aggregate: &mut Aggregate, totals: &Totals, look: &Look) -> String {
    let mut text = String::new();
    if aggregate.packets.iter().sum::<u64>() == 0 {
        text.push_str(&nothing(aggregate, totals, look));
    } else {
        let title = match &totals.filter {
            Some(filter) => format!("{}, {}", span(totals.duration), look.safe(filter)),
            None => span(totals.duration),
        };
        text.push_str(&paragraph(&title, BOLD, look));
        text.push_str(&table::text(aggregate, look));
        text.push('\n');
    }
    for sentence in sums(aggregate, look) {
        text.push_str(&paragraph(&sentence, PLAIN, look));
    }
    for ((what, why), count) in &aggregate.lost {
        let mut line = Line::indented(look, 2, 4);
        line.word(&number(*count), PLAIN);
        line.words(&cause::loss(*what, *why), PLAIN);
        text.push_str(&line.finish());
    }
    text
}

/// What there is to say when no packet was counted.
fn nothing(aggregate: &Aggregate, totals: &Totals, look: &Look) -> String {
    let matching = match &totals.filter {
        Some(filter) => format!(" matching {}", look.safe(filter)),
        None => String::new(),
    };
    // No claim that the numbers below would contradict.
    let lost = aggregate.lost(LossOf::Packets) + aggregate.lost(LossOf::Events);
    let was = if lost == 0 {
        "was"
    } else {
        "is known to have been"
    };
    let but = if aggregate.hidden > 0 {
        ", normal clean-up aside"
    } else {
        ""
    };
    let time = span(totals.duration);
    let claim =
        format!("no packet{matching} {was} dropped, reset or sent again here in {time}{but}");
    let mut text = paragraph(&claim, BOLD, look);
    if !totals.watched.is_empty() {
        let watched = look.safe(&totals.watched.join(", "));
        text.push_str(&paragraph(&format!("watched: {watched}"), PLAIN, look));
    }
    text
}

/// One sentence a total.
fn sums(aggregate: &Aggregate, look: &Look) -> Vec<String> {
    let kinds = KINDS.iter().zip(aggregate.packets);
    let kinds: Vec<_> = kinds
        .map(|((_, name), n)| format!("{name} {}", number(n)))
        .collect();
    let mut sums = vec![
        kinds.join(look.glyph(" · ", " | ")),
        format!(
            "hidden: {} benign (show with --all)",
            number(aggregate.hidden)
        ),
    ];
    let (packets, flows) = aggregate.unlisted;
    if packets > 0 {
        let (packets, flows) = (several(packets, "packet"), several(flows, "flow"));
        sums.push(format!(
            "not listed: {packets} of at least {flows}; a narrower filter helps"
        ));
    }
    let undecoded: u64 = aggregate.undecoded.iter().map(|(_, count)| count).sum();
    if undecoded > 0 {
        let why = aggregate.undecoded.iter();
        let why: Vec<_> = why
            .map(|(why, n)| format!("{} {}", flow::why_not(*why), number(*n)))
            .collect();
        sums.push(format!(
            "not decoded: {} ({})",
            several(undecoded, "packet"),
            why.join(", ")
        ));
    }
    sums.push(lost(aggregate));
    sums
}

/// How much is missing, also when it is nothing.
fn lost(aggregate: &Aggregate) -> String {
    let [packets, events, details] =
        [LossOf::Packets, LossOf::Events, LossOf::Details].map(|of| aggregate.lost(of));
    let mut lost = vec![several(packets, "packet"), several(details, "detail")];
    if events > 0 {
        lost.insert(1, format!("{} resets or retransmits", number(events)));
    }
    format!("lost: {}", lost.join(", "))
}
