//! How words become lines that fit the width, with or without colours.

use std::fmt::Write as _;

use anstyle::Style;
use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::{
    ColorChoice, Options, Sink,
    text::{safe, width},
};

/// How text looks on one particular sink.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Columns; `None` for no limit.
    pub width: Option<usize>,
    /// Whether colours are written.
    pub color: bool,
    /// Whether characters beyond ASCII are written.
    pub unicode: bool,
    /// The zone of the times.
    pub zone: TimeZone,
    /// The network namespace that goes without saying.
    pub netns: Option<u32>,
}

/// Below this, columns would leave no room for their contents.
const NARROW: usize = 60;

/// The width of a terminal that does not tell it, such as a serial line.
const USUAL_WIDTH: usize = 80;

impl Look {
    /// On this sink, as it is now: a terminal's width changes.
    pub fn new(sink: &impl Sink, options: &Options) -> Self {
        let width = options.width.or_else(|| sink.columns());
        Self {
            width: width.map(|width| if width == 0 { USUAL_WIDTH } else { width }),
            color: match options.color {
                ColorChoice::Auto => sink.takes_color(),
                ColorChoice::Always => true,
                ColorChoice::Never => false,
            },
            unicode: options.unicode,
            zone: options.zone.clone(),
            netns: options.netns,
        }
    }

    /// Whether the sink is too narrow for columns.
    pub fn narrow(&self) -> bool {
        self.width.is_some_and(|width| width < NARROW)
    }

    /// Whether so many columns fit.
    pub fn fits(&self, columns: usize) -> bool {
        self.width.is_none_or(|width| columns <= width)
    }

    /// Text from outside, made safe for this sink.
    pub fn safe(&self, text: &str) -> String {
        safe(text, self.unicode)
    }

    /// The first where the sink takes more than ASCII, else the second.
    pub fn glyph(&self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }

    /// How often something happened: `×3`.
    pub fn times(&self, n: u64) -> String {
        format!("{}{}", self.glyph("×", "x"), super::text::number(n))
    }

    /// The local time of a record's time.
    pub fn local(&self, time: &str) -> Option<Zoned> {
        let time: Timestamp = time.parse().ok()?;
        Some(time.to_zoned(self.zone.clone()))
    }
}

/// Words put one after the other, broken between words where the width ends.
///
/// A word is never cut, not even one longer than the width: half an address
/// is worth nothing.
pub(super) struct Line<'a> {
    look: &'a Look,
    indent: usize,
    text: String,
    column: usize,
    gap: usize,
    /// The style that is switched on.
    style: Style,
    /// Whether the current line has a word already.
    begun: bool,
}

impl<'a> Line<'a> {
    /// An empty line; the lines after a break start at column `indent`.
    pub fn new(look: &'a Look, indent: usize) -> Self {
        Self {
            look,
            indent,
            text: String::new(),
            column: 0,
            gap: 0,
            style: Style::new(),
            begun: false,
        }
    }

    /// As [`Line::new`], with the first line starting at column `first`.
    pub fn indented(look: &'a Look, first: usize, indent: usize) -> Self {
        let mut line = Self::new(look, indent);
        line.start(first);
        line
    }

    fn start(&mut self, indent: usize) {
        self.text.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
        self.gap = 0;
        self.begun = false;
    }

    /// Ends the current line unless it is empty.
    pub fn break_line(&mut self) -> &mut Self {
        if self.begun {
            self.switch(Style::new());
            self.text.push('\n');
            self.start(self.indent);
        }
        self
    }

    /// Sets the next word apart from the one before.
    pub fn apart(&mut self) -> &mut Self {
        if self.begun {
            self.gap = self.gap.max(2);
        }
        self
    }

    /// Lets the next word start at `column`; where there is no room for
    /// columns, or the column is past, merely sets it apart.
    pub fn stop(&mut self, column: usize) -> &mut Self {
        if self.look.narrow() {
            return self;
        }
        self.gap = column.saturating_sub(self.column);
        if self.begun {
            self.gap = self.gap.max(2);
        }
        self
    }

    /// Adds text that must not be broken. It has to be safe already.
    pub fn word(&mut self, word: &str, style: Style) -> &mut Self {
        if word.is_empty() {
            return self;
        }
        if self.begun && !self.look.fits(self.column + self.gap + width(word)) {
            self.break_line();
        }
        if style != self.style {
            self.switch(Style::new());
        }
        self.text.extend(std::iter::repeat_n(' ', self.gap));
        self.switch(style);
        self.text.push_str(word);
        self.column += self.gap + width(word);
        self.gap = 1;
        self.begun = true;
        self
    }

    /// Adds text that may be broken at its spaces. It has to be safe already.
    pub fn words(&mut self, sentence: &str, style: Style) -> &mut Self {
        for word in sentence.split(' ') {
            self.word(word, style);
        }
        self
    }

    fn switch(&mut self, style: Style) {
        if self.look.color && style != self.style {
            let _ = write!(self.text, "{:#}{style}", self.style);
            self.style = style;
        }
    }

    /// The finished lines.
    pub fn finish(mut self) -> String {
        self.switch(Style::new());
        if !self.begun {
            self.text.truncate(self.text.trim_end_matches(' ').len());
        }
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text
    }
}

/// Lines of running text, those after the first indented. It has to be safe
/// already.
pub(super) fn paragraph(text: &str, style: Style, look: &Look) -> String {
    let mut line = Line::new(look, 2);
    line.words(text, style);
    line.finish()
}
