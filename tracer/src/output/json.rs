//! Records as JSON, one a line.

use std::{fmt::Write as _, io};

use super::{cause, text::is_hidden};
use crate::event::Event;

/// Lines are handed on in pieces of about this size, so that an interval with
/// very many records takes no more memory than one with few.
const PIECE: usize = 1 << 20;

/// Which records become lines, and how many did not.
#[derive(Debug)]
pub(super) struct Json {
    all: bool,
    hidden: u64,
}

impl Json {
    /// With `all`, normal clean-up becomes lines too.
    pub fn new(all: bool) -> Self {
        Self { all, hidden: 0 }
    }

    /// Hands the records to `send` as whole lines.
    pub fn events(
        &mut self,
        events: &[Event],
        mut send: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut lines = String::new();
        for event in events {
            if !self.all && cause::is_benign(event) {
                self.hidden += event.packets;
                continue;
            }
            push_line(&mut lines, event)?;
            if lines.len() >= PIECE {
                send(lines.as_bytes())?;
                lines.clear();
            }
        }
        send(lines.as_bytes())
    }

    /// Packets that became no line.
    pub fn hidden(&self) -> u64 {
        self.hidden
    }
}

/// Adds a record's line. Characters that could steer a terminal are written
/// as `\u` escapes: the same JSON, and safe to look at.
fn push_line(lines: &mut String, event: &Event) -> io::Result<()> {
    let json = serde_json::to_string(event)?;
    for c in json.chars() {
        // Outside of strings JSON is ASCII, so this is inside one.
        if is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(lines, "\\u{unit:04x}");
            }
        } else {
            lines.push(c);
        }
    }
    lines.push('\n');
    Ok(())
}
