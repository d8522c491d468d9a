//! The table of what this kernel and this user can have.

use anstyle::{AnsiColor, Style};

use super::{
    cause::{DIM, PLAIN},
    layout::{Line, Look, paragraph},
    text::width,
};
use crate::doctor::{Report, Row, Status};

const TITLES: [&str; 3] = ["HERE", "ABILITY", "BY"];

/// A sentence, the rows, and what stands in the way of tracing.
pub(super) fn text(report: &Report, look: &Look) -> String {
    let mut text = paragraph(&look.safe(&verdict(report)), PLAIN, look);
    let widest = |cell: fn(&Row) -> &str, title: &str| {
        let cells = report.abilities.iter().map(|row| width(cell(row)));
        cells.max().unwrap_or_default().max(width(title))
    };
    let label = widest(|row| word(row.status), TITLES[0]) + 2;
    let means = label + widest(|row| &row.label, TITLES[1]) + 2;
    if !look.narrow() {
        let mut line = Line::new(look, 0);
        line.word(TITLES[0], DIM);
        line.stop(label).word(TITLES[1], DIM);
        line.stop(means).word(TITLES[2], DIM);
        text.push_str(&line.finish());
    }
    for row in &report.abilities {
        let mut line = Line::new(look, if look.narrow() { 2 } else { means });
        line.word(word(row.status), style(row.status)).apart();
        line.stop(label).words(&look.safe(&row.label), PLAIN);
        // What stands in the way of everything is told once, at the end.
        let remedy = row.remedy.as_ref();
        let remedy = remedy.filter(|remedy| !report.obstacles.contains(remedy));
        let remedy = remedy.map(|remedy| pointed(remedy, look));
        let by = row.means.as_ref().map(|means| look.safe(means));
        for (i, text) in [by, remedy].into_iter().flatten().enumerate() {
            if i == 0 && !look.narrow() {
                line.stop(means);
            } else {
                line.break_line();
            }
            line.words(&text, PLAIN);
        }
        text.push_str(&line.finish());
    }
    for obstacle in &report.obstacles {
        text.push_str(&paragraph(&pointed(obstacle, look), PLAIN, look));
    }
    text
}

/// What would change something.
fn pointed(remedy: &str, look: &Look) -> String {
    format!("{} {}", look.glyph("→", "->"), look.safe(remedy))
}

fn verdict(report: &Report) -> String {
    let can = if report.can_trace {
        "droptrace can trace here"
    } else {
        "droptrace cannot trace here"
    };
    format!("Linux {}: {can}", report.kernel)
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Yes => "yes",
        Status::Partly => "partly",
        Status::Later => "later",
        Status::No => "no",
    }
}

fn style(status: Status) -> Style {
    match status {
        Status::Yes => AnsiColor::Green.on_default(),
        Status::Partly | Status::Later => AnsiColor::Yellow.on_default(),
        Status::No => AnsiColor::Red.on_default(),
    }
}
