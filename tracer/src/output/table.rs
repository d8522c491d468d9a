//! The table of what a run saw.

use anstyle::Style;

use super::{
    aggregate::{Aggregate, MOST_ROWS, Row},
    cause::{self, DIM, PLAIN},
    key::Key,
    layout::{Line, Look, paragraph},
    line::flow_words,
    text::{number, several, width},
};

/// Rows on a screen.
const MOST_ON_SCREEN: usize = 20;

/// The cells of a row.
struct Cells {
    packets: String,
    what: &'static str,
    cause: String,
    flow: Vec<String>,
    span: [String; 2],
    style: Style,
}

const TITLES: [&str; 6] = ["PACKETS", "WHAT", "CAUSE", "FLOW", "FIRST", "LAST"];

/// The rows of the most packets; all of them where there is no screen.
pub(super) fn text(aggregate: &mut Aggregate, look: &Look) -> String {
    let other = aggregate.other.clone();
    let rows = aggregate.rows();
    let on_screen = if look.width.is_some() {
        MOST_ON_SCREEN
    } else {
        rows.len()
    };
    let (shown, left_out) = rows.split_at(on_screen.min(rows.len()));
    let format = time_format(&rows, look);
    let mut all: Vec<_> = shown
        .iter()
        .map(|(key, row)| cells(key, row, format, look))
        .collect();
    if other.packets > 0 {
        let rest = format!(
            "everything beyond the first {} rows",
            number(MOST_ROWS as u64)
        );
        all.push(Cells {
            packets: number(other.packets),
            what: "other",
            cause: String::new(),
            flow: vec![rest],
            span: times(&other, format, look),
            style: PLAIN,
        });
    }
    let mut text = layout(&all, look);
    if !left_out.is_empty() {
        let packets: u64 = left_out.iter().map(|(_, row)| row.packets).sum();
        let dots = look.glyph("…", "...");
        let rows = several(left_out.len() as u64, "more row");
        let packets = several(packets, "packet");
        let note = format!("{dots} and {rows}, {packets} (use --format json for all)");
        text.push_str(&paragraph(&note, DIM, look));
    }
    text
}

fn cells(key: &Key, row: &Row, format: &str, look: &Look) -> Cells {
    let cause = key.rule.as_ref().map_or(&key.cause, |rule| &rule.place);
    Cells {
        packets: number(row.packets),
        what: cause::what(key.kind),
        cause: look.safe(cause),
        flow: flow_words(key, &row.ports, look),
        span: times(row, format, look),
        style: cause::style(key.kind, key.class),
    }
}

/// The date is told where a run is not all on one day.
fn time_format(rows: &[(&Key, &Row)], look: &Look) -> &'static str {
    let first = rows.iter().map(|(_, row)| &row.first).min();
    let last = rows.iter().map(|(_, row)| &row.last).max();
    let date = |time: &String| look.local(time).map(|time| time.date());
    if first.and_then(date) == last.and_then(date) {
        "%H:%M:%S"
    } else {
        "%m-%d %H:%M:%S"
    }
}

fn times(row: &Row, format: &str, look: &Look) -> [String; 2] {
    [&row.first, &row.last].map(|time| {
        look.local(time)
            .map_or("-".into(), |time| time.strftime(format).to_string())
    })
}

/// The cells as columns where these fit, else each row in two or three lines.
fn layout(rows: &[Cells], look: &Look) -> String {
    let widest = |title: &str, cell: &dyn Fn(&Cells) -> usize| {
        rows.iter()
            .map(cell)
            .max()
            .unwrap_or_default()
            .max(width(title))
    };
    let packets = widest(TITLES[0], &|row| width(&row.packets));
    let what = packets + 2;
    let cause = what + widest(TITLES[1], &|row| width(row.what)) + 2;
    let flow = cause + widest(TITLES[2], &|row| width(&row.cause)) + 2;
    let first = flow + widest(TITLES[3], &|row| width(&row.flow.join(" "))) + 2;
    let last = first + widest(TITLES[4], &|row| width(&row.span[0])) + 2;
    let columns = look.fits(last + widest(TITLES[5], &|row| width(&row.span[1])));
    let mut text = String::new();
    if !look.narrow() {
        let mut line = Line::new(look, 0);
        let stops = [packets - width(TITLES[0]), what, cause, flow, first, last];
        for (stop, title) in stops
            .into_iter()
            .zip(TITLES)
            .take(if columns { 6 } else { 3 })
        {
            line.stop(stop).word(title, DIM);
        }
        text.push_str(&line.finish());
    }
    for row in rows {
        let mut line = Line::new(look, if look.narrow() { 2 } else { cause });
        line.stop(packets - width(&row.packets))
            .word(&row.packets, PLAIN);
        line.stop(what).word(row.what, row.style);
        line.stop(cause).words(&row.cause, row.style);
        if columns {
            line.stop(flow);
        } else {
            line.break_line();
        }
        for word in &row.flow {
            line.word(word, PLAIN);
        }
        if columns {
            line.stop(first)
                .word(&row.span[0], DIM)
                .stop(last)
                .word(&row.span[1], DIM);
        } else {
            line.apart()
                .word(&row.span.join(look.glyph(" – ", " - ")), DIM);
        }
        text.push_str(&line.finish());
    }
    text
}
