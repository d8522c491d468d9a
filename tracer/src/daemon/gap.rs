//! How long nothing was traced, while the daemon was not running.
//!
//! At every interval a file in the runtime directory, which is memory, gets the time on
//! the clock that also counts while the machine sleeps. It is gone with the next start
//! of the machine; then the time since that start counts.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::event::{Event, EventKind, Loss, LossCause, LossOf};

/// Says when counts were last taken from the kernel.
#[derive(Debug)]
pub struct Mark {
    file: File,
    /// Since when nothing was traced; `None` where no daemon ran before.
    before: Option<Duration>,
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
        Ok(Self { file, before })
    }

    /// The record of the time up to now in which nothing was traced; `None` if there was
    /// none. `time` is that of the record.
    pub fn gap(&mut self, now: Duration, time: String) -> Option<Event> {
        let gap = now.checked_sub(self.before.take()?)?;
        let count = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        (count > 0).then(|| Event {
            loss: Some(Loss {
                what: LossOf::Time,
                why: LossCause::NotRunning,
                count,
            }),
            ..Event::bare(EventKind::Loss, time)
        })
    }

    /// Counts were taken up to now.
    ///
    /// # Errors
    ///
    /// If it cannot be written; then the next gap looks longer than it is.
    pub fn write(&self, now: Duration) -> io::Result<()> {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
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
        let count = |mark: &mut Mark, now| {
            mark.gap(now, String::new())
                .map(|event| event.loss.unwrap().count)
        };
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
}
