//! Which characters may reach a terminal, and how numbers are written.

use std::fmt::Write as _;

/// Text from outside, with every character escaped that could steer a
/// terminal or hide in it.
///
/// The kernel lets anybody choose a process or interface name, so all strings
/// of a record pass here before they are printed.
pub(crate) fn safe(text: &str, unicode: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            _ if unicode && !is_hidden(c) => out.push(c),
            _ => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// Whether a character shows nothing of its own, or changes how others show:
/// controls, formatting (bidirectional ones too), combining, private and
/// unassigned ones.
pub(super) fn is_hidden(c: char) -> bool {
    match c {
        ' '..='~' => false,
        // Letters by their category, but drawn as blanks.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' => true,
        // The standard library keeps the table of printable characters for
        // its debug format; a character that it escapes is not one.
        _ => c.escape_debug().len() > 1,
    }
}

/// Columns that already escaped text takes.
///
/// East Asian wide characters count once: they can only stand in names and
/// rule texts, which end a line, so that no column moves.
pub(super) fn width(text: &str) -> usize {
    text.chars().count()
}

/// A number with its thousands set apart.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with what it counts: `1 packet`, `2 packets`.
pub(super) fn several(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {what}{plural}", number(n))
}

/// A span of time in at most two units.
pub(super) fn span(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let mut out = String::new();
    if seconds >= 3600 {
        let _ = write!(out, "{} h", number(seconds / 3600));
        if seconds % 3600 >= 60 {
            let _ = write!(out, " {} min", seconds % 3600 / 60);
        }
    } else if seconds >= 60 {
        let _ = write!(out, "{} min", seconds / 60);
        if !seconds.is_multiple_of(60) {
            let _ = write!(out, " {} s", seconds % 60);
        }
    } else if duration.subsec_millis() >= 100 && seconds < 10 {
        let _ = write!(out, "{seconds}.{} s", duration.subsec_millis() / 100);
    } else {
        let _ = write!(out, "{seconds} s");
    }
    out
}

/// Whether the locale that these variables set writes UTF-8; the first that
/// is set and not empty decides, as in the C library.
pub(super) fn is_utf8_locale<'a>(variables: impl IntoIterator<Item = Option<&'a str>>) -> bool {
    let decisive = variables.into_iter().flatten().find(|v| !v.is_empty());
    decisive.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}
