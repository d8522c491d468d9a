//! How long nothing was traced, while the daemon was not running.
//!
//! A file in the runtime directory, which is memory, has the time up to which all records
//! are where a kill cannot reach them, on the clock that also counts while the machine
//! sleeps. It is gone with the next start of the machine; then the time since that start
//! counts.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use crate::event::{Event, EventKind, Loss, LossCause, LossOf, utc};

/// Intervals that wait for their records at a time; more are taken together.
const MAX_INTERVALS: usize = 64;

/// Says up to when all that was counted is safe.
#[derive(Debug)]
pub struct Mark {
    file: File,
    /// Since when nothing was traced; `None` where no daemon ran before.
    before: Option<Duration>,
    intervals: VecDeque<Interval>,
}

/// Whose counts were taken, and whose records are not all safe yet.
#[derive(Debug)]
struct Interval {
    until: Duration,
    /// When its records were made.
    made: Instant,
    /// None of them waits for the text of its rule any more.
    is_told: bool,
    /// The number of the last one; `None` before the first record of all.
    last: Option<u64>,
}

impl Mark {
    /// Reads what the last daemon wrote. `has_run`: one ran on this machine before, in
    /// this start of it or an earlier one.
    ///
    /// # Errors
    ///
    /// If the file cannot be read and written.
    pub fn open(dir: &Path, has_run: bool) -> io::Result<Self> {
        let path: PathBuf = dir.join("last");
        let before = match fs::read(&path) {
            Ok(bytes) => bytes
                .first_chunk()
                .map(|bytes| Duration::from_nanos(u64::from_le_bytes(*bytes))),
            // The start of the machine.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                has_run.then_some(Duration::ZERO)
            }
            Err(error) => return Err(error),
        };
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        Ok(Self {
            file,
            before,
            intervals: VecDeque::new(),
        })
    }

    /// The record of the time in which nothing was traced, up to `attached`; `None` if there
    /// was none. It ends at its `time`, and began at its `first_seen`.
    pub fn gap(&mut self, attached: Duration) -> Option<Event> {
        let gap = attached.checked_sub(self.before.take()?)?;
        // Not less than it was.
        let count = u64::try_from(gap.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let since = SignedDuration::try_from(since_start().saturating_sub(attached));
        let time = Timestamp::now() - since.unwrap_or_default();
        let begin = SignedDuration::try_from(gap).ok();
        let begin = begin.and_then(|gap| time.checked_sub(gap).ok());
        (count > 0).then(|| Event {
            loss: Some(Loss {
                what: LossOf::Time,
                why: LossCause::NotRunning,
                count,
            }),
            first_seen: utc(begin.unwrap_or(time)),
            ..Event::bare(EventKind::Loss, utc(time))
        })
    }

    /// Counts were taken up to then, and records made of them.
    pub fn taken(&mut self, until: Duration) {
        let interval = Interval {
            until,
            made: Instant::now(),
            is_told: false,
            last: None,
        };
        if self.intervals.len() >= MAX_INTERVALS {
            self.intervals.pop_back();
        }
        self.intervals.push_back(interval);
    }

    /// Whether an interval's records are not all safe, as far as is known.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.intervals.is_empty()
    }

    /// Looks which intervals' records are safe by now. `waits_since`: since when the oldest
    /// record waits for the text of its rule; `last`: the number that was given last.
    ///
    /// # Errors
    ///
    /// If it cannot be written; then the next gap looks longer than it is.
    pub fn settle(
        &mut self,
        waits_since: Option<Instant>,
        last: Option<u64>,
        is_safe: impl Fn(u64) -> bool,
    ) -> io::Result<()> {
        let mut safe = None;
        for interval in &mut self.intervals {
            if !interval.is_told && waits_since.is_none_or(|since| since > interval.made) {
                interval.is_told = true;
                interval.last = last;
            }
        }
        while let Some(interval) = self.intervals.front()
            && interval.is_told
            && interval.last.is_none_or(&is_safe)
        {
            safe = Some(interval.until);
            self.intervals.pop_front();
        }
        match safe {
            Some(until) => self.write(until),
            None => Ok(()),
        }
    }

    fn write(&self, until: Duration) -> io::Result<()> {
        let nanos = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.file.write_all_at(&nanos.to_le_bytes(), 0)
    }
}

/// The time since the machine started, sleep included.
#[must_use]
pub fn since_start() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time is valid to write; this clock exists on all of Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_two_daemons_is_told() {
        let dir = std::env::temp_dir().join(format!("droptrace-gap-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let second = Duration::from_secs;
        let count = |mark: &mut Mark, now| mark.gap(now).map(|event| event.loss.unwrap().count);
        let mut first = Mark::open(&dir, false).unwrap();
        assert_eq!(count(&mut first, second(100)), None);
        first.write(second(130)).unwrap();
        first.write(second(131)).unwrap();
        drop(first);
        let mut next = Mark::open(&dir, true).unwrap();
        assert_eq!(count(&mut next, second(141)), Some(10_000));
        assert_eq!(count(&mut next, second(142)), None);
        fs::remove_file(dir.join("last")).unwrap();
        let mut after_start = Mark::open(&dir, true).unwrap();
        assert_eq!(count(&mut after_start, second(9)), Some(9_000));
        fs::remove_dir_all(&dir).unwrap();
    }
    #[test]
    fn only_what_is_safe_is_no_gap() {
        let dir = std::env::temp_dir().join(format!("droptrace-safe-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let second = Duration::from_secs;
        // What a daemon would find that begins at 100 s.
        let gap = || {
            let mut next = Mark::open(&dir, true).unwrap();
            next.gap(second(100)).unwrap().loss.unwrap().count / 1000
        };
        let mut mark = Mark::open(&dir, true).unwrap();
        mark.taken(second(10));
        mark.settle(None, None, |_| false).unwrap();
        assert!(!mark.waits());
        assert_eq!(gap(), 90, "without a record");
        let before = Instant::now();
        mark.taken(second(20));
        mark.settle(Some(before), Some(5), |_| true).unwrap();
        assert_eq!(gap(), 90, "a record waits for its rule");
        mark.taken(second(30));
        mark.settle(None, Some(7), |seq| seq <= 6).unwrap();
        assert_eq!(gap(), 90, "a record is not written");
        mark.settle(None, Some(9), |seq| seq <= 7).unwrap();
        assert_eq!(gap(), 70);
        for second in 0..1000 {
            mark.taken(Duration::from_secs(31) + Duration::from_millis(second));
        }
        assert!(mark.intervals.len() <= MAX_INTERVALS);
        mark.settle(None, Some(9), |_| true).unwrap();
        assert_eq!(gap(), 68);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_gap_ends_when_tracing_began() {
        let dir = std::env::temp_dir().join(format!("droptrace-ends-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let before = Timestamp::now();
        let attached = since_start().saturating_sub(Duration::from_secs(300));
        Mark::open(&dir, true)
            .unwrap()
            .write(attached.saturating_sub(Duration::from_millis(1500)))
            .unwrap();
        let event = Mark::open(&dir, true).unwrap().gap(attached).unwrap();
        let after = Timestamp::now();
        assert_eq!(event.loss.unwrap().count, 1500);
        let parse = |time: &str| -> Timestamp { time.parse().unwrap() };
        let (begin, end) = (parse(&event.first_seen), parse(&event.time));
        // However long this took, it ended 300 s before some moment of it; two clocks are
        // read, and rounded.
        let ago = SignedDuration::from_secs(300);
        let rounding = SignedDuration::from_millis(2);
        assert!((before - ago - rounding..=after - ago + rounding).contains(&end));
        let length = end.duration_since(begin);
        assert!((length - SignedDuration::from_millis(1500)).abs() <= rounding);
        fs::remove_dir_all(&dir).unwrap();
    }
}
