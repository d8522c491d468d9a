//! The text of a line while the run goes on.

use anstyle::Style;

use super::{
    cause::{self, BOLD, DIM, PLAIN},
    flow,
    key::Key,
    layout::{Line, Look},
    live::Shown,
    place,
    ports::Ports,
    rule,
};
use crate::event::Event;

// Where the columns start.
const WHAT: usize = 14;
const COUNT: usize = 23;
const CAUSE: usize = 36;
const FLOW: usize = 58;
const WHERE: usize = 106;
/// With fewer columns, the flow goes to a line of its own …
const FLOW_FITS: usize = 100;
/// … and so does the place.
const WHERE_FITS: usize = 170;

/// The titles of the columns, with the date as that of the times.
pub(super) fn titles(date: &str, look: &Look) -> String {
    let mut line = Line::new(look, 0);
    line.word(date, DIM);
    let columns = [
        (WHAT, 0, "WHAT"),
        (COUNT, 0, "COUNT"),
        (CAUSE, 0, "CAUSE"),
        (FLOW, FLOW_FITS, "FLOW"),
        (WHERE, WHERE_FITS, "WHERE"),
    ];
    for (column, needed, title) in columns {
        if !look.narrow() && look.fits(needed) {
            line.stop(column).word(title, DIM);
        }
    }
    line.finish()
}

/// The lines of one thing to be shown.
pub(super) fn lines(shown: &Shown<'_>, look: &Look) -> String {
    let mut line = Line::new(look, indent(look));
    let time = look.local(shown.time());
    let time = time.map_or("--:--:--.---".into(), |t| {
        t.strftime("%H:%M:%S%.3f").to_string()
    });
    line.word(&time, DIM);
    match shown {
        Shown::Full {
            event,
            key,
            packets,
            ports,
            explain,
        } => {
            let count = if *packets == 1 {
                String::new()
            } else {
                look.times(*packets)
            };
            head(&mut line, key, &count, look);
            subject(&mut line, key, ports, look);
            extras(&mut line, event, look);
            line.finish() + &explanation(event, *explain, look)
        }
        Shown::More {
            key,
            packets,
            ports,
            ..
        } => {
            head(
                &mut line,
                key,
                &format!("{} more", look.times(*packets)),
                look,
            );
            subject(&mut line, key, ports, look);
            line.finish()
        }
        Shown::Lost(event) => {
            let loss = event.loss.as_ref();
            let style = cause::style(event.kind, cause::class(event));
            line.stop(WHAT).word(cause::what(event.kind), style.bold());
            line.stop(COUNT)
                .word(&look.times(loss.map_or(0, |loss| loss.count)), PLAIN);
            let text = loss.map(|loss| cause::loss(loss.what, loss.why));
            line.stop(CAUSE).words(&text.unwrap_or_default(), style);
            line.finish()
        }
        Shown::Rest { packets, .. } => {
            line.stop(WHAT).word(look.glyph("…", "..."), PLAIN);
            line.stop(COUNT)
                .words(&format!("{} more", look.times(*packets)), PLAIN);
            line.stop(CAUSE)
                .words("in lines left out here; the summary has them all", PLAIN);
            line.finish()
        }
    }
}

/// Where the lines after the first start.
fn indent(look: &Look) -> usize {
    if look.narrow() { 2 } else { WHAT }
}

/// What, how many, why.
fn head(line: &mut Line<'_>, key: &Key, count: &str, look: &Look) {
    let style = cause::style(key.kind, key.class);
    line.stop(WHAT).word(cause::what(key.kind), style.bold());
    if !count.is_empty() {
        line.stop(COUNT).words(count, PLAIN);
    }
    line.stop(CAUSE).words(&look.safe(&key.cause), style);
}

/// Which flow.
fn subject(line: &mut Line<'_>, key: &Key, ports: &Ports, look: &Look) {
    if look.fits(FLOW_FITS) {
        line.stop(FLOW);
    } else {
        line.break_line();
    }
    for word in flow_words(key, ports, look) {
        line.word(&word, PLAIN);
    }
}

/// The words of a key's flow, or of what it has instead.
pub(super) fn flow_words(key: &Key, ports: &Ports, look: &Look) -> Vec<String> {
    match (&key.flow, &key.flowless) {
        (Some(flow), _) => flow::words(flow, key.wild, ports, look),
        (None, text) => text.iter().map(|text| look.safe(text)).collect(),
    }
}

/// What only a line about a packet has: its flags, its place, its owner.
fn extras(line: &mut Line<'_>, event: &Event, look: &Look) {
    line.word(&flow::flags(event, look).unwrap_or_default(), PLAIN);
    if let Some(flows) = flow::unlisted(event) {
        line.words(&format!("({flows})"), PLAIN);
    }
    if look.fits(WHERE_FITS) {
        line.stop(WHERE);
    } else if look.narrow() || look.fits(FLOW_FITS) {
        line.break_line();
    }
    for word in place::words(event, look) {
        line.apart().word(&word, DIM);
    }
}

/// What it means and what to do. The rule is told for every flow: at a rule,
/// it is the cause.
fn explanation(event: &Event, explain: bool, look: &Look) -> String {
    let paragraph = |text: &str, style: Style| {
        let mut line = Line::indented(look, indent(look), indent(look));
        line.words(&look.safe(text), style);
        line.finish()
    };
    let rule = event.rule.as_ref();
    let place = rule.map(rule::place);
    if !explain {
        return place.map_or_else(String::new, |place| paragraph(&place, DIM));
    }
    let mut text = match (&place, &event.reason) {
        (Some(place), _) => paragraph(place, PLAIN),
        (None, Some(reason)) => paragraph(&reason.summary, PLAIN),
        (None, None) => String::new(),
    };
    for words in rule.map_or_else(Vec::new, |rule| rule::texts(rule, look)) {
        text.push_str(&paragraph(&words, BOLD));
    }
    if let Some(advice) = &event.advice {
        let arrow = look.glyph("→", "->");
        let mut line = Line::indented(look, indent(look), indent(look));
        line.word(arrow, BOLD).words(&look.safe(advice), BOLD);
        text.push_str(&line.finish());
    }
    text
}
