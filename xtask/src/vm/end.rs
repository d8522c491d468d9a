//! How did a guest end? Told from what it left.

use std::{fmt, time::Duration};

use crate::ui;

/// A start takes 3 to 5 s in software on an idle machine.
pub const BOOT: Duration = Duration::from_secs(90);
/// Lines of the console that are shown on failure.
const CONSOLE_LINES: usize = 60;

/// When a guest is stopped.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// After so much time.
    pub whole: Duration,
    /// When its command has said nothing for so long.
    pub silence: Option<Duration>,
}

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The command ended with this exit status.
    Exited(u8),
    /// The kernel panicked, or the machine stopped otherwise.
    Died(String),
    /// The command had not ended in this time.
    TimedOut(Duration),
    /// The command had said nothing for this time.
    Silent(Duration),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "the command ended with exit status {status}"),
            Self::Died(why) => write!(f, "the guest died: {why}"),
            Self::TimedOut(limit) => {
                let limit = ui::elapsed(*limit);
                write!(f, "the guest was stopped: no end after {limit}")
            }
            Self::Silent(limit) => {
                let limit = ui::elapsed(*limit);
                write!(f, "the guest was stopped: it hung, silent for {limit}")
            }
        }
    }
}

/// Why this process stopped looking at a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Ended,
    NeverUp,
    Deadline,
    Silence,
}

/// From what is left of a machine.
pub fn end(stop: Stop, status: &str, console: &str, limits: Limits) -> End {
    let exit = status
        .lines()
        .find_map(|line| line.strip_prefix("end ")?.parse().ok());
    if let Some(exit) = exit {
        return End::Exited(exit);
    }
    match stop {
        Stop::Deadline => End::TimedOut(limits.whole),
        Stop::Silence => End::Silent(limits.silence.unwrap_or_default()),
        Stop::NeverUp => End::Died(format!("it did not start within {}", ui::elapsed(BOOT))),
        Stop::Ended => End::Died(death(console)),
    }
}

/// The line of the console that says most.
fn death(console: &str) -> String {
    ["Kernel panic", "xtask: ", "BUG:", "Oops"]
        .iter()
        .find_map(|sign| {
            let line = console.lines().find(|line| line.contains(sign))?;
            Some(line[line.find(sign)?..].trim().to_owned())
        })
        .unwrap_or_else(|| "its machine stopped without a word".to_owned())
}

/// Of what the kernel said, without the firmware's greeting.
pub fn last_lines(text: &str) -> String {
    let kernel = text.find("Booting from ROM").unwrap_or(0);
    let lines: Vec<_> = text[kernel..].lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limits = Limits {
        whole: Duration::from_secs(60),
        silence: Some(Duration::from_secs(5)),
    };

    #[test]
    fn exit_status_counts_more_than_how_the_machine_stopped() {
        assert_eq!(
            end(Stop::Deadline, "up\nend 3\n", "", LIMIT),
            End::Exited(3)
        );
        assert_eq!(
            end(Stop::Deadline, "up\n", "", LIMIT),
            End::TimedOut(LIMIT.whole)
        );
    }

    #[test]
    fn panic_is_told_by_its_own_line() {
        let console = "[ 1.0] BUG: kernel NULL pointer\n[ 1.1] Kernel panic - not syncing: Oops\n";
        assert_eq!(
            end(Stop::Ended, "up\n", console, LIMIT).to_string(),
            "the guest died: Kernel panic - not syncing: Oops"
        );
        assert_eq!(death(""), "its machine stopped without a word");
    }

    #[test]
    fn silent_guest_is_told_as_hung() {
        assert_eq!(
            end(Stop::Silence, "up\n", "", LIMIT).to_string(),
            "the guest was stopped: it hung, silent for 5.0s"
        );
    }

    #[test]
    fn only_the_end_of_the_console_is_kept() {
        let long: Vec<_> = (0..100).map(|line| line.to_string()).collect();
        let kept = last_lines(&long.join("\n"));
        assert_eq!(kept.lines().count(), CONSOLE_LINES);
        assert!(kept.ends_with("99"));
        assert_eq!(
            last_lines("\x1bcSeaBIOS\nBooting from ROM..\npanic"),
            "Booting from ROM..\npanic"
        );
    }
}
