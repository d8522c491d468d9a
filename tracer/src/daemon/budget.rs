//! What the daemon may cost, and what it leaves out when it costs more: details first,
//! flows last, totals never.

use std::{fmt, time::Duration};

use super::config::Limits;
use crate::tracer::DETAILS_PER_SECOND;

/// How long cost is measured before it is judged.
pub const WINDOW: Duration = Duration::from_secs(10);
/// As many windows in a row must cost less than half before more is done again.
const CALM: u32 = 6;

/// How much is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    #[default]
    Full,
    /// Few packets are looked at closely: more records are without rule, process and
    /// TCP state.
    FewDetails,
    /// None are.
    NoDetails,
    /// And few flows are told apart: the others are counted by their cause.
    FewFlows,
}

impl Level {
    const ALL: [Self; 4] = [
        Self::Full,
        Self::FewDetails,
        Self::NoDetails,
        Self::FewFlows,
    ];

    /// Packets a second that are looked at closely, on each CPU.
    #[must_use]
    pub const fn details_per_second(self) -> u64 {
        match self {
            Self::Full => DETAILS_PER_SECOND,
            Self::FewDetails => DETAILS_PER_SECOND / 40,
            Self::NoDetails | Self::FewFlows => 0,
        }
    }

    /// Flows that are listed in an interval.
    #[must_use]
    pub fn max_flows(self, configured: u32) -> u32 {
        match self {
            Self::FewFlows => configured.min(256),
            _ => configured,
        }
    }

    /// As a number, 0 for everything.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    fn more(self) -> Self {
        Self::ALL[usize::from(self.number() + 1).min(Self::ALL.len() - 1)]
    }

    fn less(self) -> Self {
        Self::ALL[usize::from(self.number().saturating_sub(1))]
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "everything is told",
            Self::FewDetails => "few packets are looked at closely",
            Self::NoDetails => "no packet is looked at closely: records have no rule and process",
            Self::FewFlows => "no packet is looked at closely, and few flows are told apart",
        })
    }
}

/// What was used in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// CPU time of this process and of its kernel programs, as a share of one CPU in
    /// percent.
    pub cpu: f64,
    /// Resident memory, bytes.
    pub memory: u64,
}

/// Why it is as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// How much is done from now on.
    pub level: Level,
    /// What was used, and what may be.
    pub used: Used,
}

/// Compares what is used with what may be.
#[derive(Debug)]
pub struct Budget {
    max_cpu: f64,
    max_memory: u64,
    level: Level,
    calm: u32,
}

impl Budget {
    /// With everything done.
    #[must_use]
    pub const fn new(limits: &Limits) -> Self {
        Self {
            max_cpu: limits.max_cpu.0,
            max_memory: limits.max_memory.0,
            level: Level::Full,
            calm: 0,
        }
    }

    /// Other limits from now on.
    pub const fn limit(&mut self, limits: &Limits) {
        self.max_cpu = limits.max_cpu.0;
        self.max_memory = limits.max_memory.0;
    }

    /// How much is done.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Judges a window; what changes by it.
    pub fn judge(&mut self, used: Used) -> Option<Change> {
        let is_over = used.cpu > self.max_cpu || used.memory > self.max_memory;
        let is_calm = used.cpu <= self.max_cpu / 2.0 && used.memory <= self.max_memory;
        self.calm = if is_calm { self.calm + 1 } else { 0 };
        let level = if is_over {
            self.level.more()
        } else if self.calm >= CALM {
            self.calm = 0;
            self.level.less()
        } else {
            self.level
        };
        if level == self.level {
            return None;
        }
        self.level = level;
        Some(Change { level, used })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, used } = self;
        let (cpu, memory) = (used.cpu, used.memory >> 20);
        write!(f, "{level}; used: {cpu:.1} % of a CPU, {memory} MiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::{Share, Size};

    fn budget() -> Budget {
        Budget::new(&Limits {
            max_cpu: Share(4.0),
            max_memory: Size(100),
        })
    }

    fn cpu(cpu: f64) -> Used {
        Used { cpu, memory: 50 }
    }

    #[test]
    fn detail_goes_first_and_comes_back_last() {
        let mut budget = budget();
        assert_eq!(budget.judge(cpu(4.0)), None);
        let levels: Vec<_> = (0..5)
            .filter_map(|_| Some(budget.judge(cpu(9.0))?.level))
            .collect();
        assert_eq!(
            levels,
            [Level::FewDetails, Level::NoDetails, Level::FewFlows]
        );
        // Between half and all nothing changes.
        for _ in 0..20 {
            assert_eq!(budget.judge(cpu(3.0)), None);
        }
        let mut windows = 0;
        while budget.level() != Level::Full {
            budget.judge(cpu(1.0));
            windows += 1;
        }
        assert_eq!(windows, 3 * CALM);
    }

    #[test]
    fn a_busy_window_breaks_the_calm() {
        let mut budget = budget();
        budget.judge(cpu(9.0));
        for _ in 0..10 {
            for _ in 1..CALM {
                assert_eq!(budget.judge(cpu(1.0)), None);
            }
            assert_eq!(budget.judge(cpu(3.0)), None);
        }
    }

    #[test]
    fn memory_counts_too() {
        let used = Used {
            cpu: 0.0,
            memory: 101,
        };
        assert_eq!(budget().judge(used).unwrap().level, Level::FewDetails);
    }
}
