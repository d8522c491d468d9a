//! When to try again.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Waits twice as long after each failure, up to a minute, each time by another part of
/// that, so that many exporters do not come back at the same moment.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    next: Instant,
}

impl Backoff {
    /// Nothing has failed.
    #[must_use]
    pub fn new() -> Self {
        Self {
            failures: 0,
            next: Instant::now(),
        }
    }

    /// The next try is not before.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.next
    }

    /// It went well.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// It failed; the receiver may have said how long it wants to be left alone.
    pub fn failed(&mut self, after: Option<Duration>) {
        let longest = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // From half of it to all of it. Without random numbers, all of it.
        let part = getrandom::u32().map_or(1.0, |it| f64::from(it) / f64::from(u32::MAX));
        let wait = longest.mul_f64(0.5 + part / 2.0);
        self.next = Instant::now() + after.unwrap_or_default().max(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_what_the_receiver_says_is_kept_to() {
        let mut backoff = Backoff::new();
        let mut longest = Duration::ZERO;
        for failure in 0..100 {
            let before = Instant::now();
            backoff.failed(None);
            let wait = backoff.next() - before;
            let limit = Duration::from_secs(1 << failure.min(6)).min(LONGEST);
            assert!(wait >= limit / 2 && wait <= limit + FIRST, "{wait:?}");
            longest = longest.max(wait);
        }
        assert!(longest > LONGEST / 2);
        let before = Instant::now();
        backoff.failed(Some(Duration::from_secs(300)));
        assert!(backoff.next() - before >= Duration::from_secs(300));
        backoff.reset();
        assert!(backoff.next() <= Instant::now());
    }
}
