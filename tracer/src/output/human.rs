//! What people see: lines while the run goes on, then a summary.

use jiff::Zoned;

use super::{
    Options, Sink, Totals,
    aggregate::Aggregate,
    layout::Look,
    line,
    live::{Live, Shown},
    summary, verdict,
};
use crate::event::{Event, EventKind};

/// The lines and the numbers of a run.
#[derive(Debug)]
pub(super) struct Human {
    options: Options,
    live: Live,
    aggregate: Aggregate,
    /// The day that the last titles told.
    day: String,
    /// What became of conversations, for the end.
    verdicts: Vec<Event>,
}

/// Conclusions that are shown at the end, the last ones: what matters most is the
/// very last.
const VERDICTS: usize = 5;

impl Human {
    /// Nothing seen yet.
    pub fn new(options: Options) -> Self {
        let aggregate = Aggregate::new(options.all);
        Self {
            options,
            live: Live::default(),
            aggregate,
            day: String::new(),
            verdicts: Vec::new(),
        }
    }

    /// The lines of some records of an interval.
    pub fn events(&mut self, sink: &impl Sink, events: &[Event]) -> String {
        let is_verdict = |event: &&Event| event.kind == EventKind::Verdict;
        for event in events {
            if is_verdict(&event) {
                self.keep(event);
            } else {
                self.aggregate.add(event);
            }
        }
        let look = Look::new(sink, &self.options);
        let aggregate = &self.aggregate;
        let visible = events
            .iter()
            .filter(|event| !is_verdict(event) && !aggregate.hides(event))
            .filter(|_| !self.options.verdicts_only);
        let shown = self.live.events(visible);
        self.lines(&shown, &look)
    }

    /// The lines at the end of an interval.
    pub fn interval_ends(&mut self, sink: &impl Sink) -> String {
        let look = Look::new(sink, &self.options);
        let shown = self.live.interval_ends();
        self.lines(&shown, &look)
    }

    fn lines(&mut self, shown: &[Shown<'_>], look: &Look) -> String {
        let mut text = String::new();
        for shown in shown {
            if let Some(day) = look.local(shown.time()).as_ref().map(day)
                && day != self.day
            {
                text.push_str(&line::titles(&day, look));
                self.day = day;
            }
            text.push_str(&line::lines(shown, look));
        }
        text
    }

    /// The summary.
    pub fn finish(&mut self, sink: &impl Sink, totals: &Totals) -> String {
        let look = Look::new(sink, &self.options);
        let summary = summary::text(&mut self.aggregate, totals, &look);
        let apart = if self.day.is_empty() { "" } else { "\n" };
        let mut text = if self.options.verdicts_only {
            String::new()
        } else {
            format!("{apart}{summary}")
        };
        for event in &self.verdicts {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&verdict::text(event, self.options.verdicts_only, &look));
        }
        text
    }

    /// Keeps a conclusion for the end.
    fn keep(&mut self, event: &Event) {
        if self.verdicts.len() >= VERDICTS {
            self.verdicts.remove(0);
        }
        self.verdicts.push(event.clone());
    }

    /// Packets left out so far.
    pub fn hidden(&self) -> u64 {
        self.aggregate.hidden
    }
}

fn day(time: &Zoned) -> String {
    time.strftime("%Y-%m-%d").to_string()
}
