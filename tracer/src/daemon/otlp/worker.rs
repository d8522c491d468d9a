//! The exporter's thread.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    logs::v1::{ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message;
use tokio::time::Instant;

use super::{
    answer::Outcome,
    backoff::Backoff,
    convert,
    metrics::{self, scope},
    queue::Queue,
    resource,
    send::{Sender, Signal},
};
use crate::{
    daemon::{
        line::Totals,
        spool::{Record, Spool, loss_line},
    },
    event::LossCause,
};

/// Records in a request, and bytes of their lines.
const MAX_RECORDS: usize = 512;
const MAX_BYTES: usize = 512 << 10;

/// When lines are tried again that the disk did not take.
const DISK: Duration = Duration::from_secs(1);

/// A request under way.
type Flight = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One kind of requests, one at a time.
struct Lane {
    sender: Sender,
    flight: Option<Flight>,
    backoff: Backoff,
    /// The last request failed, and this was said.
    failing: bool,
}

pub struct Worker {
    queue: Arc<Queue>,
    /// None if records are not wanted.
    spool: Option<Spool>,
    /// The number of the latest record that was handed over.
    last: Option<u64>,
    boot_id: String,
    numbers: Box<dyn FnMut() -> u64 + Send>,
    resource: Resource,
    logs: Lane,
    /// Records in the request under way.
    sent: usize,
    /// Records in the next one at most: fewer after some were refused, so that those
    /// are found which the receiver does not want.
    most: usize,
    metrics: Lane,
    /// Counts that are to be sent.
    counts: Option<Vec<u8>>,
    /// Counts in the request under way.
    sent_counts: Option<Vec<u8>>,
}

impl Worker {
    pub fn new(
        queue: Arc<Queue>,
        spool: Option<Spool>,
        sender: Sender,
        boot_id: &str,
        numbers: Box<dyn FnMut() -> u64 + Send>,
    ) -> Self {
        Self {
            queue,
            spool,
            last: None,
            boot_id: boot_id.to_owned(),
            numbers,
            resource: resource::resource(),
            logs: Lane::new(sender.clone()),
            sent: 0,
            most: MAX_RECORDS,
            metrics: Lane::new(sender),
            counts: None,
            sent_counts: None,
        }
    }

    pub async fn run(mut self) {
        loop {
            let stop = self.take().map(Instant::from_std);
            self.start();
            self.report();
            if stop.is_some_and(|stop| self.is_idle(stop)) {
                break;
            }
            let wake = self.wake(stop);
            tokio::select! {
                () = self.queue.wait() => {}
                outcome = flight(&mut self.logs.flight) => self.logs_done(&outcome),
                outcome = flight(&mut self.metrics.flight) => self.metrics_done(&outcome),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Takes what was handed over; gives when it is to end.
    fn take(&mut self) -> Option<std::time::Instant> {
        let taken = self.queue.take();
        if let Some(spool) = &mut self.spool {
            if taken.lost != Totals::default() {
                spool.lose(LossCause::SpoolFull, taken.lost);
            }
            if (!taken.lines.is_empty() || spool.waits())
                && let Some(seq) = spool.append(taken.lines)
            {
                self.queue.report(|health| health.spooled_seq = Some(seq));
            }
            self.last = taken.last.or(self.last);
            if !spool.waits() {
                let last = self.last;
                self.queue.report(|health| health.settled_seq = last);
            }
        }
        if let Some(snapshot) = taken.metrics {
            let message = metrics::request(&snapshot, &self.resource).encode_to_vec();
            self.counts = Some(message);
        }
        taken.stop
    }

    /// Sends what can be sent now.
    fn start(&mut self) {
        if self.logs.may_start()
            && let Some(spool) = &mut self.spool
        {
            let (numbers, boot_id) = (&mut self.numbers, &self.boot_id);
            let mut tell = |why, lost| loss_line(why, lost, numbers(), boot_id).unwrap_or_default();
            let front = spool.front(MAX_RECORDS, MAX_BYTES, &mut tell);
            self.sent = front.len().min(self.most);
            if self.sent > 0 {
                let records = front.iter().take(self.sent);
                let message = request(records, &self.resource).encode_to_vec();
                self.logs.start(Signal::Logs, message);
            } else if spool.has_front() {
                // It cannot be read just now.
                self.logs.backoff.failed(None);
            }
        }
        if self.metrics.may_start()
            && let Some(counts) = self.counts.take()
        {
            self.sent_counts = Some(counts.clone());
            self.metrics.start(Signal::Metrics, counts);
        }
    }

    fn logs_done(&mut self, outcome: &Outcome) {
        // Of a single record, so that a receiver that refuses all does not empty the spool.
        let paced = self.sent == 1;
        self.logs.done(outcome, paced, "records", &self.queue);
        let Some(spool) = &mut self.spool else {
            return;
        };
        let sent = self.sent as u64;
        match outcome {
            Outcome::Taken => {
                spool.done(self.sent);
                self.most = (self.most * 2).min(MAX_RECORDS);
                self.queue.report(|health| health.records_taken += sent);
            }
            Outcome::Partly { rejected, .. } if *rejected < sent => {
                // Which ones is not said; of the next ones it is found out.
                spool.partly_refused(self.sent, *rejected);
                self.most = 1;
                self.queue.report(|health| {
                    health.records_taken += sent - rejected;
                    health.records_refused += rejected;
                });
            }
            Outcome::Refused(_) if self.sent > 1 => self.most = self.sent / 2,
            Outcome::Partly { .. } | Outcome::Refused(_) => {
                spool.refused(self.sent);
                self.queue.report(|health| health.records_refused += sent);
            }
            Outcome::Failed { .. } => {}
        }
    }

    fn metrics_done(&mut self, outcome: &Outcome) {
        self.metrics.done(outcome, false, "counts", &self.queue);
        let sent = self.sent_counts.take();
        if matches!(outcome, Outcome::Failed { .. }) {
            // Unless there are newer ones.
            self.counts = self.counts.take().or(sent);
        }
    }

    fn report(&self) {
        if let Some(spool) = &self.spool {
            let condition = spool.condition();
            let oldest = spool.oldest();
            self.queue.report(|health| {
                health.spool = condition;
                health.oldest = oldest;
            });
        }
    }

    /// Whether nothing more can be sent by then.
    fn is_idle(&self, stop: Instant) -> bool {
        let idle = |lane: &Lane, waits: bool| {
            lane.flight.is_none() && (!waits || lane.backoff.next() >= stop)
        };
        Instant::now() >= stop
            || (idle(&self.logs, self.logs_wait()) && idle(&self.metrics, self.counts.is_some()))
    }

    fn logs_wait(&self) -> bool {
        self.spool.as_ref().is_some_and(Spool::has_front)
    }

    /// When to look again though nothing happened.
    fn wake(&self, stop: Option<Instant>) -> Option<Instant> {
        let next = |lane: &Lane, waits: bool| {
            (waits && lane.flight.is_none()).then(|| lane.backoff.next())
        };
        let disk = self.spool.as_ref().is_some_and(Spool::waits);
        [
            stop,
            next(&self.logs, self.logs_wait()),
            next(&self.metrics, self.counts.is_some()),
            disk.then(|| Instant::now() + DISK),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl Lane {
    fn new(sender: Sender) -> Self {
        Self {
            sender,
            flight: None,
            backoff: Backoff::new(),
            failing: false,
        }
    }

    fn may_start(&self) -> bool {
        self.flight.is_none() && self.backoff.next() <= Instant::now()
    }

    fn start(&mut self, signal: Signal, message: Vec<u8>) {
        let sender = self.sender.clone();
        self.flight = Some(Box::pin(async move { sender.send(signal, &message).await }));
    }

    /// `paced`: the next request waits also after a refusal.
    fn done(&mut self, outcome: &Outcome, paced: bool, what: &str, queue: &Queue) {
        self.flight = None;
        let error = match outcome {
            Outcome::Taken => None,
            Outcome::Partly { rejected, why } => {
                log::warn!("the receiver refuses {rejected} of the {what}: {why}");
                None
            }
            Outcome::Refused(why) => {
                if paced {
                    self.backoff.failed(None);
                }
                Some(format!("the receiver refuses {what}: {why}"))
            }
            Outcome::Failed { why, after } => {
                self.backoff.failed(*after);
                self.sender.reconnect();
                Some(format!("cannot send {what}: {why}"))
            }
        };
        match &error {
            Some(error) if self.failing => log::debug!("{error}"),
            Some(error) => log::warn!("{error}"),
            None => {
                self.backoff.reset();
                if self.failing {
                    log::info!("the receiver takes {what} again");
                }
            }
        }
        self.failing = error.is_some();
        queue.report(|health| {
            if error.is_some() {
                health.exports_failed += 1;
            } else {
                health.exports_ok += 1;
            }
            health.error = error;
        });
    }
}

fn request<'a>(
    records: impl Iterator<Item = &'a Record>,
    resource: &Resource,
) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource.clone()),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope()),
                log_records: records
                    .map(|record| convert::log_record(&record.text))
                    .collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

async fn flight(flight: &mut Option<Flight>) -> Outcome {
    match flight {
        Some(flight) => flight.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
