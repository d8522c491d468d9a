//! Records and counts for a receiver of OpenTelemetry's protocol (OTLP).
//!
//! A thread of its own takes records from a bounded [`queue`], puts them into the
//! [spool](super::spool), [converts](convert) what lies at its front, [sends](send) it,
//! and, by the [`answer`], takes it out of the spool when the receiver has it. Neither a slow disk nor a slow
//! receiver holds up who hands the records over.

mod answer;
mod backoff;
mod convert;
mod metrics;
mod queue;
mod resource;
mod send;
mod worker;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use self::{
    metrics::{Count, Kind, Number, Point, Snapshot},
    queue::Health,
    send::SenderError,
};
use self::{queue::Queue, send::Sender, worker::Worker};
use super::{
    config,
    line::Line,
    privileges,
    spool::{Spool, SpoolError},
};

/// How long the rest may take at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// Why the exporter cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The receiver's address, headers or certificates.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The thread.
    #[error("cannot start a thread for OTLP: {0}; raise the limits of processes or memory")]
    Thread(io::Error),
}

/// The exporter, while it runs.
#[derive(Debug)]
pub struct Otlp {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Otlp {
    /// Starts it. `numbers` gives numbers for records of its own, about losses: such as
    /// no other record has or will have.
    ///
    /// # Errors
    ///
    /// If what the configuration says cannot be used.
    pub fn start(
        otlp: &config::Otlp,
        state: &config::State,
        boot_id: &str,
        numbers: impl FnMut() -> u64 + Send + 'static,
    ) -> Result<Self, OtlpError> {
        let sender = Sender::new(otlp)?;
        let spool = if otlp.logs {
            Some(Spool::open(&state.dir.join("spool"), state.spool.0)?)
        } else {
            None
        };
        let queue = Arc::new(Queue::new(otlp.logs));
        if let Some(spool) = &spool {
            queue.report(|health| health.spool = spool.condition());
        }
        let worker = Worker::new(
            Arc::clone(&queue),
            spool,
            sender,
            boot_id,
            Box::new(numbers),
        );
        let (dir, ca) = (state.dir.clone(), otlp.ca.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // For the look-up of the receiver's name.
            .max_blocking_threads(1)
            .build()
            .map_err(OtlpError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("otlp".into())
            .spawn(move || {
                match privileges::confine(&dir, ca.as_deref()) {
                    Ok(true) => {}
                    Ok(false) => log::info!("this kernel does not confine the thread for OTLP"),
                    Err(error) => log::warn!("the thread for OTLP: {error}"),
                }
                runtime.block_on(worker.run());
                // A look-up that hangs is not waited for.
                runtime.shutdown_background();
            })
            .map_err(OtlpError::Thread)?;
        Ok(Self {
            queue,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands records over. Never waits: those without room are counted as lost, and told.
    pub fn push(&self, lines: impl IntoIterator<Item = Line>) {
        self.queue.push(lines);
    }

    /// Hands counts over, to be sent now. Those that are not sent yet are replaced.
    pub fn metrics(&self, snapshot: Snapshot) {
        self.queue.metrics(snapshot);
    }

    /// Whether no record up to this number waits for the spool any more: it is safe there,
    /// or was lost and is told.
    #[must_use]
    pub fn has_settled(&self, seq: u64) -> bool {
        self.queue.has_settled(seq)
    }

    /// How it goes.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut health = self.queue.health();
        health.running = self.thread().as_ref().is_some_and(|it| !it.is_finished());
        health
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the rest, for two seconds at most; what is left stays in the spool.
    pub fn stop(&self) {
        self.queue.stop(Instant::now() + FLUSH);
        if let Some(thread) = self.thread().take()
            && thread.join().is_err()
        {
            log::error!("the thread for OTLP has failed");
        }
    }
}
