//! How does progress look? Plain lines on standard error, the same on a
//! terminal and in a pipe, so that standard output belongs to the tools.

use std::time::{Duration, Instant};

/// One step of a verb: its name as it starts, its time when it ends.
#[derive(Debug)]
pub struct Step {
    name: String,
    start: Instant,
}

impl Step {
    pub fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        eprintln!("==> {name}");
        Self {
            name,
            start: Instant::now(),
        }
    }

    pub fn end(self) -> Duration {
        let took = self.start.elapsed();
        eprintln!("    {} ({})", self.name, elapsed(took));
        took
    }
}

/// Says that something was there already.
pub fn found(what: &str) {
    eprintln!("  {what} … found");
}

/// Says that something is being put in place, and at the end how long it took.
/// `doing` and `done` are the same verb: `installing`, `installed`.
pub fn work<T, E>(
    what: &str,
    doing: &str,
    done: &str,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    eprintln!("  {what} … {doing}");
    let start = Instant::now();
    let value = work()?;
    eprintln!("  {what} … {done} ({})", elapsed(start.elapsed()));
    Ok(value)
}

/// `1.2s` or `1m 38s`.
pub fn elapsed(time: Duration) -> String {
    // Rounded before it is split, or 59.96 s would become `60.0s`.
    let tenths = (time.as_millis() + 50) / 100;
    if tenths < 600 {
        format!("{}.{}s", tenths / 10, tenths % 10)
    } else {
        let seconds = (time.as_millis() + 500) / 1000;
        format!("{}m {:02}s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_reads_as_seconds_then_as_minutes() {
        let cases = [
            (0, "0.0s"),
            (1_240, "1.2s"),
            (59_940, "59.9s"),
            (59_960, "1m 00s"),
            (98_400, "1m 38s"),
            (119_700, "2m 00s"),
        ];
        for (millis, expected) in cases {
            assert_eq!(elapsed(Duration::from_millis(millis)), expected);
        }
    }
}
