//! What the daemon uses: its own time and memory, and the time of its kernel programs.
//!
//! The kernel takes the time of BPF programs only while somebody wants to know, since
//! that costs all of them. So it is asked for a second of each window.

use std::{
    fs,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use aya::sys::{Stats, enable_stats};

use super::budget::{Used, WINDOW};

/// How long the kernel takes the time of programs.
const SAMPLE: Duration = Duration::from_secs(1);

/// Of each window, the part in which it does not.
const UNMEASURED: Duration = Duration::from_secs(WINDOW.as_secs() - SAMPLE.as_secs());

/// Measures one window after the other.
pub struct Meter {
    since: Instant,
    own_before: Duration,
    sample: Option<Sample>,
    /// Share of one CPU, percent, that kernel programs took when last measured.
    programs: f64,
}

struct Sample {
    _enabled: OwnedFd,
    since: Instant,
    before: Duration,
}

impl Meter {
    /// Begins the first window.
    #[must_use]
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            own_before: own_time(),
            sample: None,
            programs: 0.0,
        }
    }

    /// When to call [`Meter::look`] next.
    #[must_use]
    pub fn next(&self) -> Instant {
        match &self.sample {
            None => self.since + UNMEASURED,
            Some(_) => self.since + WINDOW,
        }
    }

    /// Answers at the end of a window with what was used in it. `of_programs` is the time
    /// that the kernel has taken so far.
    pub fn look(&mut self, of_programs: impl Fn() -> Duration) -> Option<Used> {
        let Some(sample) = self.sample.take() else {
            match enable_stats(Stats::RunTime) {
                Ok(enabled) => {
                    self.sample = Some(Sample {
                        _enabled: enabled,
                        since: Instant::now(),
                        before: of_programs(),
                    });
                    return None;
                }
                Err(error) => {
                    log::debug!("the kernel does not take the time of BPF programs: {error}");
                }
            }
            return self.end();
        };
        let taken = of_programs().saturating_sub(sample.before);
        self.programs = share(taken, sample.since.elapsed());
        self.end()
    }

    fn end(&mut self) -> Option<Used> {
        let now = own_time();
        let own = share(now.saturating_sub(self.own_before), self.since.elapsed());
        (self.since, self.own_before) = (Instant::now(), now);
        Some(Used {
            cpu: own + self.programs,
            memory: resident()?,
        })
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

fn share(of: Duration, whole: Duration) -> f64 {
    100.0 * of.as_secs_f64() / whole.as_secs_f64().max(0.001)
}

/// CPU time of this process.
#[must_use]
pub fn own_time() -> Duration {
    // SAFETY: zeros are a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the result is valid to write.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let duration = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let micros = u64::try_from(time.tv_usec).unwrap_or_default();
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

/// Resident memory of this process, bytes.
#[must_use]
pub fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: asks for a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_time_and_memory() {
        let before = own_time();
        let mut sum = 0_u64;
        while own_time() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(own_time() > before);
        let mut waste = vec![0_u8; 32 << 20];
        waste.fill(1);
        std::hint::black_box(&waste);
        let resident = resident().unwrap();
        assert!((32 << 20..8 << 30).contains(&resident), "{resident}");
        drop(waste);
    }
}
