//! What people see: lines while the run goes on, then a summary.

use jiff::Zoned;

use super::{
    ColorChoice, Options, Sink, Totals,
    aggregate::Aggregate,
    layout::Look,
    line,
    live::{Live, Shown},
    summary,
};
use crate::event::Event;

/// The width of a terminal that does not tell it, such as a serial line.
const USUAL_WIDTH: usize = 80;

/// The lines and the numbers of a run.
#[derive(Debug)]
pub(super) struct Human {
    options: Options,
    color: bool,
    live: Live,
    aggregate: Aggregate,
    /// The day that the last titles told.
    day: String,
}

impl Human {
    /// Nothing seen yet.
    pub fn new(sink: &impl Sink, options: Options) -> Self {
        let color = match options.color {
            ColorChoice::Auto => sink.takes_color(),
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        let aggregate = Aggregate::new(options.all);
        Self {
            options,
            color,
            live: Live::default(),
            aggregate,
            day: String::new(),
        }
    }

    /// The lines of some records of an interval.
    pub fn events(&mut self, sink: &impl Sink, events: &[Event]) -> String {
        for event in events {
            self.aggregate.add(event);
        }
        let look = self.look(sink);
        let aggregate = &self.aggregate;
        let visible = events.iter().filter(|event| !aggregate.hides(event));
        let shown = self.live.events(visible);
        self.lines(&shown, &look)
    }

    /// The lines at the end of an interval.
    pub fn interval_ends(&mut self, sink: &impl Sink) -> String {
        let look = self.look(sink);
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
        let look = self.look(sink);
        let summary = summary::text(&mut self.aggregate, totals, &look);
        let apart = if self.day.is_empty() { "" } else { "\n" };
        format!("{apart}{summary}")
    }

    /// Packets left out so far.
    pub fn hidden(&self) -> u64 {
        self.aggregate.hidden
    }

    /// How text looks now: a terminal's width changes.
    fn look(&self, sink: &impl Sink) -> Look {
        Look {
            width: self
                .options
                .width
                .or_else(|| sink.columns())
                .map(|width| match width {
                    0 => USUAL_WIDTH,
                    width => width,
                }),
            color: self.color,
            unicode: self.options.unicode,
            zone: self.options.zone.clone(),
            netns: self.options.netns,
        }
    }
}

fn day(time: &Zoned) -> String {
    time.strftime("%Y-%m-%d").to_string()
}
