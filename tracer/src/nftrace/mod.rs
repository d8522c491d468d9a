//! The rule set's own trace: the kernel is made to tell, for the packets that the
//! filter selects, which rule dropped them.
//!
//! For this a table is added to the rule set, and so only if that was asked for. It
//! has the one purpose to switch the trace of those packets on (`meta nftrace set
//! 1`), and goes with the socket that made it ([`owned`]).
//!
//! The kernel sends its message before it frees the packet. So when counts were
//! taken away, the messages about all packets in them can be read, and the
//! kernel program says which packets were traced
//! ([`droptrace_types::Sign::Traced`]). From both follows what a record may name:
//!
//! * the rule of one packet, if all drops with the same headers name it;
//! * that of all packets of a key, if they all were traced, and all drops of
//!   their flow name it.
//!
//! Neither where fewer drops were told than packets were counted, nor where messages
//! were lost, for two intervals.

mod heard;
mod message;
mod owned;
mod packet;
mod table;
mod told;

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    process,
    task::Poll,
    time::Instant,
};

use droptrace_types::{Detail, Filter, Key};
use tokio::io::{Interest, unix::AsyncFd};

pub use self::heard::Place;
use self::told::Told;
use crate::{owner::netns, rules::watch, tracer::Drained};

/// What the socket holds of messages that were not read yet.
static BUFFER: libc::c_int = 8 << 20;
/// Messages that are read at a time: more than the socket can hold, so that all are
/// read that were there at the beginning.
const AT_A_TIME: usize = 1 << 16;

/// Why packets of a namespace are not traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It is not there.
    #[error("it was not found")]
    Missing,
    /// Most likely `CAP_SYS_ADMIN` is missing.
    #[error("it could not be entered: {0}")]
    Enter(io::Error),
    /// Most likely `CAP_NET_ADMIN` is missing.
    #[error("the kernel does not tell traces: {0}")]
    Listen(io::Error),
    /// As it says.
    #[error(transparent)]
    Add(#[from] owned::AddError),
}

/// The traces of all namespaces.
#[derive(Debug, Default)]
pub struct Traces {
    /// Name of the table.
    table: String,
    namespaces: HashMap<u32, Namespace>,
    /// That messages were lost was said.
    has_warned: bool,
}

/// A namespace whose rule set has the table.
#[derive(Debug)]
struct Namespace {
    path: PathBuf,
    /// The table belongs to it.
    _owner: OwnedFd,
    hears: AsyncFd<OwnedFd>,
    told: Told,
}

impl Traces {
    /// Adds the table to the namespaces with these inode numbers, for the packets
    /// of this filter; also says where that could not be done.
    ///
    /// To be called inside the event loop.
    #[must_use]
    pub fn start(filter: &Filter, namespaces: &[u32]) -> (Self, Vec<(u32, TraceError)>) {
        let mut traces = Self {
            table: format!("droptrace-{}", process::id()),
            namespaces: HashMap::new(),
            has_warned: false,
        };
        let chains = table::chains(filter);
        let mut failures = Vec::new();
        for inode in namespaces {
            match Namespace::open(*inode, &traces.table, &chains) {
                Ok(namespace) => drop(traces.namespaces.insert(*inode, namespace)),
                Err(error) => failures.push((*inode, error)),
            }
        }
        (traces, failures)
    }

    /// Whether packets of this namespace are traced: it has the tracer's table.
    #[must_use]
    pub fn has(&self, netns: u32) -> bool {
        self.namespaces.contains_key(&netns)
    }

    /// Whether packets are traced anywhere.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.namespaces.is_empty()
    }

    /// Waits until something was told; then [`Traces::hear`] is to be called.
    pub async fn told(&self) {
        poll_fn(|context| {
            let mut namespaces = self.namespaces.values();
            let is_told =
                namespaces.any(|namespace| match namespace.hears.poll_read_ready(context) {
                    Poll::Ready(Ok(mut guard)) => {
                        // All of it will be read.
                        guard.clear_ready();
                        true
                    }
                    _ => false,
                });
            if is_told {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Reads all that was told so far.
    pub fn hear(&mut self) {
        for namespace in self.namespaces.values_mut() {
            namespace.hear(&self.table);
        }
    }

    /// These counts were taken away: from now on [`Traces::of_packet`] and
    /// [`Traces::of_all`] are about them.
    pub fn counted(&mut self, drained: &Drained) {
        self.hear();
        let mut is_whole = true;
        for namespace in self.namespaces.values_mut() {
            is_whole &= namespace.told.counted();
        }
        if !is_whole && !self.has_warned {
            self.has_warned = true;
            log::warn!(
                "not all could be kept that the rule set's trace told; it names no rules for a \
                 moment after each such loss. A narrower filter has it tell less"
            );
        }
        for (key, counts, _) in &drained.counts {
            if let Some(namespace) = self.namespaces.get_mut(&key.cause.netns) {
                namespace.told.add_packets(key, counts.packets);
            }
        }
    }

    /// Forgets what was about counts that were taken away at that moment.
    pub fn forget(&mut self, counted: Instant) {
        for namespace in self.namespaces.values_mut() {
            namespace.told.forget(counted);
        }
    }

    /// Lets namespaces go that nothing else holds any more.
    pub fn look_after(&mut self) {
        self.namespaces.retain(|inode, namespace| {
            let is_there = netns::open_at(&namespace.path, *inode).is_some();
            if !is_there && let Some((path, _)) = netns::open(*inode) {
                namespace.path = path;
                return true;
            }
            is_there
        });
    }

    /// The rule that dropped the packet of this detail, if that is certain. Its
    /// transport header begins at `transport`, if it has one.
    #[must_use]
    pub fn of_packet(&self, detail: &Detail, transport: Option<usize>) -> Option<&Place> {
        let namespace = self.namespaces.get(&detail.key.cause.netns)?;
        namespace.told.of_packet(detail, transport)
    }

    /// The rule that dropped all packets of this key, if that is certain. They must
    /// all have been dropped by nftables.
    #[must_use]
    pub fn of_all(&self, key: &Key) -> Option<&Place> {
        self.namespaces.get(&key.cause.netns)?.told.of_all(key)
    }
}

impl Namespace {
    fn open(inode: u32, table: &str, chains: &[table::Chain]) -> Result<Self, TraceError> {
        let (path, file) = netns::open(inode).ok_or(TraceError::Missing)?;
        let there = || -> Result<_, TraceError> {
            // Whoever listens first misses nothing.
            let traces = 1 << (libc::NFNLGRP_NFTRACE - 1);
            let hears = watch::netfilter_socket(traces).map_err(TraceError::Listen)?;
            let owner = watch::netfilter_socket(0).map_err(TraceError::Listen)?;
            owned::add(&owner, table, chains)?;
            Ok((owner, hears))
        };
        let (owner, hears) = netns::enter(&file, there).map_err(TraceError::Enter)??;
        enlarge(&hears);
        // SAFETY: the socket is the `AsyncFd`'s own, which neither closes nor changes
        // it as long as it lives.
        let hears = unsafe { AsyncFd::register_with_interest(hears, Interest::READABLE) };
        let hears = hears.map_err(|error| TraceError::Listen(error.into()))?;
        Ok(Self {
            path,
            _owner: owner,
            hears,
            told: Told::default(),
        })
    }

    fn hear(&mut self, own: &str) {
        let mut datagram = [0; 8 << 10];
        for _ in 0..AT_A_TIME {
            match watch::receive(self.hears.get_ref(), &mut datagram, libc::MSG_DONTWAIT) {
                Ok(len) => {
                    let datagram = datagram.get(..len).unwrap_or_default();
                    self.told.heard.add(datagram, own, Instant::now());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Messages were lost (ENOBUFS), or something else is wrong.
                    self.told.heard.is_incomplete = true;
                    if error.raw_os_error() != Some(libc::ENOBUFS) {
                        return;
                    }
                }
            }
        }
    }
}

/// A larger buffer, if the kernel allows it: the more messages it holds, the fewer
/// are lost.
fn enlarge(socket: &OwnedFd) {
    // SAFETY: the option's value is valid for its length.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const BUFFER).cast(),
            watch::len_of::<libc::c_int>(),
        );
    }
}
