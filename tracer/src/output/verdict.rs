//! What became of conversations, for people: the conclusion first, then why, then what
//! to do.

use anstyle::AnsiColor;

use super::{
    cause::{BOLD, DIM, PLAIN},
    flow,
    key::Wild,
    layout::{Line, Look},
    ports::Ports,
    text::number,
};
use crate::event::{Confidence, Event, Outcome, Verdict};

/// Width of the words at the left.
const LABELS: usize = 10;

/// A conclusion; with `timeline`, what happened before it. Empty for other records.
pub(super) fn text(event: &Event, timeline: bool, look: &Look) -> String {
    let Some(verdict) = &event.verdict else {
        return String::new();
    };
    let mut text = String::new();
    if timeline {
        text.push_str(&steps(verdict, look));
    }
    text.push_str(&headline(event, verdict, look));
    let says = sentence(&verdict.explanation);
    text.push_str(&labelled("", &look.safe(&says), PLAIN, look));
    let more = verdict.evidence.iter();
    let more = more.filter(|evidence| **evidence != verdict.explanation);
    for (i, evidence) in more.enumerate() {
        let label = if i == 0 { "because" } else { "" };
        text.push_str(&labelled(label, &look.safe(evidence), PLAIN, look));
    }
    if let Some(advice) = &event.advice {
        text.push_str(&labelled("next", &look.safe(advice), PLAIN, look));
    }
    text
}

/// `TIMEOUT  NO_ANSWER  tcp 10.0.0.2:40000 > 10.0.0.5:443`.
fn headline(event: &Event, verdict: &Verdict, look: &Look) -> String {
    let mut line = Line::new(look, LABELS);
    line.word("verdict", DIM).stop(LABELS);
    line.word(&code(verdict), BOLD.fg_color(Some(color(verdict).into())));
    if let Some(flow) = &event.flow {
        line.apart();
        for word in flow::words(flow, Wild::Nothing, &Ports::default(), look) {
            line.word(&word, PLAIN);
        }
    }
    if verdict.conversations > 1 {
        let of = format!(
            "{} of {} conversations",
            number(verdict.affected),
            number(verdict.conversations)
        );
        line.apart().word(&of, PLAIN);
    }
    if verdict.confidence == Confidence::Inferred {
        line.apart().word("(inferred)", DIM);
    }
    line.finish()
}

fn steps(verdict: &Verdict, look: &Look) -> String {
    let mut text = String::new();
    let mut began = None;
    for step in &verdict.timeline {
        let Ok(at) = step.time.parse::<jiff::Timestamp>() else {
            continue;
        };
        let began = *began.get_or_insert(at);
        let after = at.duration_since(began).as_secs_f64() * 1000.0;
        let mut line = Line::new(look, LABELS + 2);
        line.word(&format!("{after:>7.1} ms"), DIM).stop(LABELS + 2);
        line.words(&look.safe(&step.what), PLAIN);
        text.push_str(&line.finish());
    }
    if verdict.steps_left_out > 0 {
        let more = format!("{} more steps", number(verdict.steps_left_out));
        text.push_str(&labelled("", &more, DIM, look));
    }
    text
}

/// A line that begins with a word at the left.
fn labelled(label: &str, words: &str, style: anstyle::Style, look: &Look) -> String {
    let indent = if look.narrow() { 2 } else { LABELS };
    let mut line = if label.is_empty() {
        Line::indented(look, indent, indent)
    } else {
        Line::new(look, indent)
    };
    if !label.is_empty() {
        line.word(label, DIM).stop(LABELS);
    }
    line.words(words, style);
    line.finish()
}

fn code(verdict: &Verdict) -> String {
    let code = serde_json::to_value(verdict.code).ok();
    let code = code.as_ref().and_then(|code| code.as_str());
    code.unwrap_or_default().to_owned()
}

const fn color(verdict: &Verdict) -> AnsiColor {
    match verdict.outcome {
        Outcome::Connected => AnsiColor::Green,
        Outcome::Degraded => AnsiColor::Yellow,
        _ => AnsiColor::Red,
    }
}

/// With a capital letter at the start, as a sentence of its own.
fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}
