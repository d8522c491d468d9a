//! How often counts are taken: less often while there is much to take, since the records of
//! a flood say the same each time.

use std::time::Duration;

/// The pause after many records, where the interval is shorter.
pub const AFTER_MANY: Duration = Duration::from_secs(5);
/// So many are.
const MANY: usize = 1024;

/// How long counts are left to grow after so many records.
#[must_use]
pub fn pause(interval: Duration, records: usize) -> Duration {
    if records > MANY {
        interval.max(AFTER_MANY)
    } else {
        interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_never_shorter_than_the_interval() {
        for (interval, records, expected) in [(1, 1024, 1), (1, 1025, 5), (60, 1025, 60)] {
            let interval = Duration::from_secs(interval);
            assert_eq!(pause(interval, records), Duration::from_secs(expected));
        }
    }
}
