//! Between who makes records and the thread that exports them.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use super::metrics::Snapshot;
use crate::daemon::{
    line::{Line, Totals},
    spool::Condition,
};

/// Bytes of lines that wait for the thread: those of an interval, which come all at once.
const MAX: usize = 8 << 20;

/// How the exporter does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether its thread runs.
    pub running: bool,
    /// The last number that is safe in the spool.
    pub spooled_seq: Option<u64>,
    /// Up to this number, none waits for the spool any more: it is safe there, or was lost
    /// and is told.
    pub settled_seq: Option<u64>,
    /// The spool.
    pub spool: Condition,
    /// When the oldest record was last seen that the receiver does not have yet (RFC 3339).
    pub oldest: Option<String>,
    /// Records that the receiver took.
    pub records_taken: u64,
    /// Records that it refused for good.
    pub records_refused: u64,
    /// Records that were lost before the spool had them.
    pub records_overflowed: u64,
    /// Requests that went well, for records and counts.
    pub exports_ok: u64,
    /// Requests that failed, or were refused.
    pub exports_failed: u64,
    /// Why the last one failed; `None` after one that went well.
    pub error: Option<String>,
}

/// What waits for the thread.
#[derive(Debug)]
pub struct Queue {
    wants_lines: bool,
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: usize,
    taken: Taken,
    health: Health,
}

/// What was handed over since the last time.
#[derive(Debug, Default)]
pub struct Taken {
    /// Records.
    pub lines: Vec<Line>,
    /// What there was no room for.
    pub lost: Totals,
    /// The number of the latest of both.
    pub last: Option<u64>,
    /// Counts.
    pub metrics: Option<Snapshot>,
    /// It is to end, at this time at the latest.
    pub stop: Option<Instant>,
}

impl Queue {
    pub fn new(wants_lines: bool) -> Self {
        Self {
            wants_lines,
            inner: Mutex::default(),
            wake: Notify::new(),
        }
    }

    pub fn push(&self, lines: impl IntoIterator<Item = Line>) {
        if !self.wants_lines {
            return;
        }
        let mut inner = self.inner();
        for line in lines {
            inner.taken.last = Some(line.seq);
            if inner.bytes + line.text.len() > MAX {
                inner.taken.lost += Totals::of(&line);
                inner.health.records_overflowed += 1;
            } else {
                inner.bytes += line.text.len();
                inner.taken.lines.push(line);
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    pub fn metrics(&self, snapshot: Snapshot) {
        self.inner().taken.metrics = Some(snapshot);
        self.wake.notify_one();
    }

    pub fn stop(&self, at: Instant) {
        self.inner().taken.stop = Some(at);
        self.wake.notify_one();
    }

    /// Everything that waits; the wish to end stays.
    pub fn take(&self) -> Taken {
        let mut inner = self.inner();
        inner.bytes = 0;
        let stop = inner.taken.stop;
        let taken = mem::take(&mut inner.taken);
        inner.taken.stop = stop;
        taken
    }

    /// Until something waits.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    pub fn health(&self) -> Health {
        self.inner().health.clone()
    }

    pub fn has_settled(&self, seq: u64) -> bool {
        let settled = self.inner().health.settled_seq;
        !self.wants_lines || settled.is_some_and(|settled| settled >= seq)
    }

    pub fn report(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.inner().health);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
