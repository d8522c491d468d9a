//! From the kernel's monotonic clock to the time of day.

use jiff::Timestamp;

use crate::{event::utc, kernel::clock::read};

/// The distance between the two clocks at one moment. Taken anew for every
/// interval, since the time of day is adjusted while the other runs on.
pub struct Clock {
    realtime: i128,
    /// Nanoseconds to add.
    offset: i128,
}

impl Clock {
    /// As of now.
    pub fn now() -> Self {
        let realtime = read(libc::CLOCK_REALTIME);
        Self {
            realtime,
            offset: realtime - read(libc::CLOCK_MONOTONIC),
        }
    }

    /// RFC 3339 with nanoseconds, of a reading of `CLOCK_MONOTONIC`.
    pub fn utc(&self, monotonic_ns: u64) -> String {
        utc(self.timestamp(monotonic_ns))
    }

    /// The time of day of a reading of `CLOCK_MONOTONIC`.
    pub fn timestamp(&self, monotonic_ns: u64) -> Timestamp {
        timestamp(i128::from(monotonic_ns) + self.offset)
    }

    /// The moment at which this was taken.
    pub fn utc_now(&self) -> String {
        utc(timestamp(self.realtime))
    }
}

fn timestamp(nanoseconds: i128) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits_and_no_zone_but_utc() {
        assert_eq!(
            utc(timestamp(1_795_310_400_000_000_001)),
            "2026-11-22T01:20:00.000000001Z"
        );
        assert_eq!(
            utc(timestamp(1_795_310_400_000_000_000)),
            "2026-11-22T01:20:00.000000000Z"
        );
    }

    #[test]
    fn now_on_one_clock_is_now_on_the_other() {
        let clock = Clock::now();
        let monotonic = u64::try_from(read(libc::CLOCK_MONOTONIC)).unwrap();
        // To the minute, of which there may be two.
        assert!(clock.utc(monotonic)[..13] >= clock.utc_now()[..13]);
    }
}
