//! How records are shown.
//!
//! ```text
//!             ┌─ json ─────────────────────────────────────────┐
//! records ──▶ ┤                                                ├─▶ sink
//!             │         ┌─ group ─▶ live ─▶ line ─────────────┐│
//!             └─ human ─┴─ aggregate ─▶ fold ─▶ table, summary ┴┘
//! ```
//!
//! `live` decides which lines appear, `line` how they read. `key` tells what
//! is the same thing to a reader; `cause`, `flow`, `rule` and `place` are the
//! words, `layout` puts them into lines, and `text` lets nothing through that
//! could steer a terminal. `abilities` is the table of `droptrace doctor`.

use std::{io, time::Duration};

use clap::ValueEnum;
use jiff::tz::TimeZone;

use crate::{doctor::Report, event::Event};

mod abilities;
mod aggregate;
mod cause;
mod flow;
mod fold;
mod group;
mod human;
mod icmp;
mod json;
mod key;
mod layout;
mod line;
mod live;
mod place;
mod ports;
mod rule;
mod sink;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod verdict;

pub(crate) use cause::loss;
pub use sink::{FileSink, Sink, WriteError};
pub(crate) use text::safe;

/// The shape of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned lines for people, and a summary at the end.
    #[default]
    Human,
    /// One JSON object a line, for programs.
    Json,
}

/// When to write colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Also into a pipe or a file.
    Always,
    /// Not at all.
    Never,
}

/// How records are to be shown.
#[derive(Clone, Debug)]
pub struct Options {
    /// The shape of the output.
    pub format: Format,
    /// Whether normal clean-up is shown too.
    pub all: bool,
    /// When to write colours.
    pub color: ColorChoice,
    /// Columns of a line; `None` for those of the terminal, or no limit where
    /// there is no terminal.
    pub width: Option<usize>,
    /// Whether the reader's terminal shows more than ASCII.
    pub unicode: bool,
    /// The zone of the times that people read.
    pub zone: TimeZone,
    /// Whether only verdicts are shown, with what happened before them.
    pub verdicts_only: bool,
    /// The network namespace that goes without saying (the tracer's own);
    /// `None` to name the namespace always.
    pub netns: Option<u32>,
}

impl Options {
    /// The options that the environment suggests: the locale's character set,
    /// the machine's time zone.
    #[must_use]
    pub fn from_env(format: Format) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(|name| std::env::var(name).ok());
        Self {
            format,
            all: false,
            color: ColorChoice::default(),
            width: None,
            unicode: text::is_utf8_locale(locale.iter().map(Option::as_deref)),
            zone: TimeZone::system(),
            verdicts_only: false,
            netns: None,
        }
    }
}

/// What a run saw that no record tells.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// How long packets were watched.
    pub duration: Duration,
    /// The filter as the user gave it, such as `tcp and port 443`; `None`
    /// where every packet was wanted.
    pub filter: Option<String>,
    /// What was watched, such as `kfree_skb` or `tcp_send_reset`: the evidence
    /// when there is nothing to show.
    pub watched: Vec<String>,
}

/// Shows records on a sink.
#[derive(Debug)]
pub struct Output<S> {
    sink: S,
    view: View,
}

#[derive(Debug)]
enum View {
    Human(Box<human::Human>),
    Json(json::Json),
}

impl<S: Sink> Output<S> {
    /// An output that has shown nothing yet.
    pub fn new(sink: S, options: Options) -> Self {
        let view = match options.format {
            Format::Human => View::Human(Box::new(human::Human::new(options))),
            Format::Json => View::Json(json::Json::new(options.all)),
        };
        Self { sink, view }
    }

    /// Shows some records of an interval.
    ///
    /// # Errors
    ///
    /// Where the sink takes no more; [`io::ErrorKind::BrokenPipe`] when its
    /// reader went away.
    pub fn events(&mut self, events: &[Event]) -> io::Result<()> {
        match &mut self.view {
            View::Human(human) => {
                let text = human.events(&self.sink, events);
                send(&mut self.sink, text.as_bytes())
            }
            View::Json(json) => json.events(events, |lines| send(&mut self.sink, lines)),
        }
    }

    /// Ends an interval, also one without records: lines that were held back
    /// come out by the number of intervals.
    ///
    /// # Errors
    ///
    /// As [`Output::events`].
    pub fn interval_ends(&mut self) -> io::Result<()> {
        match &mut self.view {
            View::Human(human) => {
                let text = human.interval_ends(&self.sink);
                send(&mut self.sink, text.as_bytes())
            }
            View::Json(_) => Ok(()),
        }
    }

    /// Ends the run: for people, with a summary.
    ///
    /// # Errors
    ///
    /// As [`Output::events`].
    pub fn finish(&mut self, totals: &Totals) -> io::Result<()> {
        if let View::Human(human) = &mut self.view {
            let text = human.finish(&self.sink, totals);
            send(&mut self.sink, text.as_bytes())?;
        }
        self.sink.close()
    }

    /// Packets left out so far because they are normal clean-up.
    ///
    /// The human summary says it; for JSON, it belongs on standard error.
    pub fn hidden(&self) -> u64 {
        match &self.view {
            View::Human(human) => human.hidden(),
            View::Json(json) => json.hidden(),
        }
    }
}

/// Shows people what this kernel and this user can have.
///
/// # Errors
///
/// As [`Output::events`].
pub fn show_abilities(sink: &mut impl Sink, options: &Options, report: &Report) -> io::Result<()> {
    let look = layout::Look::new(sink, options);
    send(sink, abilities::text(report, &look).as_bytes())
}

/// Writes whole lines, at once, so that no reader waits for half a line.
fn send(sink: &mut impl Sink, lines: &[u8]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    sink.write_all(lines)?;
    sink.flush()
}
