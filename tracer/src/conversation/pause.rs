//! Times in which a conversation was quiet, and whether it survived them.

use std::time::Duration;

use jiff::Timestamp;

use super::ends::End;
use super::story::between;

/// A shorter time without packets is no pause.
const LEAST: Duration = Duration::from_secs(1);
/// A reset so long after the packet that ended the pause answers it.
const ANSWERS: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Pauses {
    last: Option<Timestamp>,
    open: Option<Open>,
    /// The longest after which packets were answered.
    pub survived: Option<Duration>,
    /// The one after which the first packet was answered by a reset.
    pub reset: Option<Duration>,
    /// How long nothing had passed when a reset came that answered nothing.
    pub quiet_before_reset: Option<Duration>,
}

/// A pause whose first packet has not been answered.
#[derive(Debug)]
struct Open {
    length: Duration,
    ended: Timestamp,
    by: End,
}

/// What ends or answers a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It asks for an answer: new data, an end, a keepalive probe.
    Asks,
    /// It does not.
    Other,
    Reset,
}

impl Pauses {
    /// Learns of a packet; `previous` is when the one before it went the same way.
    pub(super) fn packet(
        &mut self,
        by: End,
        at: Timestamp,
        previous: Option<Timestamp>,
        sign: Sign,
    ) {
        let last = self.last.max(previous);
        self.last = self.last.max(Some(at));
        let quiet = last.map_or(Duration::ZERO, |last| between(last, at));
        let answered = self.open.take_if(|open| open.by != by);
        match (sign, answered) {
            (Sign::Reset, Some(open)) if between(open.ended, at) <= ANSWERS => {
                self.reset = Some(open.length);
            }
            (Sign::Reset, _) => {
                if quiet >= LEAST {
                    self.quiet_before_reset = Some(quiet);
                }
            }
            (_, Some(open)) => self.survived = self.survived.max(Some(open.length)),
            (_, None) => {}
        }
        if sign == Sign::Asks && quiet >= LEAST && self.open.is_none() {
            self.open = Some(Open {
                length: quiet,
                ended: at,
                by,
            });
        }
    }

    /// The pause behind which nothing was answered any more.
    pub(super) fn unanswered(&self) -> Option<Duration> {
        self.open.as_ref().map(|open| open.length)
    }

    pub(super) fn swap(&mut self) {
        if let Some(open) = &mut self.open {
            open.by = open.by.other();
        }
    }
}
