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
        line.word(word(row.status), style(row.status));
        line.stop(label).words(&look.safe(&row.label), PLAIN);
        if let Some(by) = &row.means {
            line.stop(means).words(&look.safe(by), DIM);
        }
        // What stands in the way of everything is told once, at the end.
        let remedy = row.remedy.as_ref();
        if let Some(remedy) = remedy.filter(|remedy| !report.obstacles.contains(remedy)) {
            if row.means.is_some() {
                line.break_line();
            } else {
                line.stop(means);
            }
            line.words(&look.safe(remedy), PLAIN);
        }
        text.push_str(&line.finish());
    }
    for obstacle in &report.obstacles {
        let arrow = look.glyph("→", "->");
        let obstacle = look.safe(obstacle);
        text.push_str(&paragraph(&format!("{arrow} {obstacle}"), PLAIN, look));
    }
    text
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
