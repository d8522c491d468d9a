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
//! Where messages were lost, nothing is named until two intervals later.

mod heard;
mod message;
mod owned;
mod packet;
mod table;

use std::{
    collections::{HashMap, hash_map::Entry},
    future::poll_fn,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    process,
    task::Poll,
    time::{Duration, Instant},
};

use droptrace_types::{Detail, Filter, Key, Sign};
use tokio::io::{Interest, unix::AsyncFd};

pub use self::heard::Place;
use self::{
    heard::Heard,
    packet::{Ends, Flow},
};
use crate::{owner::netns, rules::watch};

/// What the socket holds of messages that were not read yet.
static BUFFER: libc::c_int = 8 << 20;
/// A packet is freed so long after its message at most.
const ON_THE_WAY: Duration = Duration::from_millis(100);

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
}

/// A namespace whose rule set has the table.
#[derive(Debug)]
struct Namespace {
    path: PathBuf,
    /// The table belongs to it.
    _owner: OwnedFd,
    hears: AsyncFd<OwnedFd>,
    heard: Heard,
    /// Intervals for which nothing is named.
    doubts: u8,
    /// What was heard, by flow.
    index: Index,
}

/// The drops that may be those of an interval.
#[derive(Debug, Default)]
struct Index {
    /// Places in the list of drops.
    by_flow: HashMap<Flow, Vec<usize>>,
    /// The same of those whose flow is not certain.
    by_ends: HashMap<Ends, Vec<usize>>,
    /// There is one of which nothing is certain.
    has_unknown: bool,
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

    /// The counts of an interval were taken away at that moment: from now on
    /// [`Traces::of_packet`] and [`Traces::of_all`] are about them.
    pub fn counted(&mut self) {
        self.hear();
        for namespace in self.namespaces.values_mut() {
            namespace.counted();
        }
    }

    /// Forgets what was about counts that were taken away at that moment.
    pub fn forget(&mut self, counted: Instant) {
        for namespace in self.namespaces.values_mut() {
            namespace.forget(counted);
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

    /// The rule that dropped the packet of this detail, if that is certain.
    #[must_use]
    pub fn of_packet(&self, detail: &Detail) -> Option<&Place> {
        let namespace = self.of_traced(&detail.key)?;
        let drops = namespace.drops_of(&detail.key)?;
        only(drops.filter(|drop| drop.packet.is_of(detail)))
    }

    /// The rule that dropped all packets of this key, if that is certain. They must
    /// all have been dropped by nftables.
    #[must_use]
    pub fn of_all(&self, key: &Key) -> Option<&Place> {
        only(self.of_traced(key)?.drops_of(key)?)
    }

    /// The namespace, if the packets of this key were traced, and everything is
    /// known that was told of them.
    fn of_traced(&self, key: &Key) -> Option<&Namespace> {
        let namespace = self.namespaces.get(&key.cause.netns)?;
        let is_traced = key.cause.signs & Sign::Traced.bit() != 0;
        (is_traced && namespace.doubts == 0).then_some(namespace)
    }
}

/// The rule that all of them name.
fn only<'a>(mut drops: impl Iterator<Item = &'a heard::Drop>) -> Option<&'a Place> {
    let first = drops.next()?;
    drops
        .all(|drop| drop.place == first.place)
        .then_some(&first.place)
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
            heard: Heard::default(),
            doubts: 0,
            index: Index::default(),
        })
    }

    fn hear(&mut self, own: &str) {
        let mut datagram = [0; 8 << 10];
        loop {
            match watch::receive(self.hears.get_ref(), &mut datagram, libc::MSG_DONTWAIT) {
                Ok(len) => {
                    let datagram = datagram.get(..len).unwrap_or_default();
                    self.heard.add(datagram, own, Instant::now());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Messages were lost (ENOBUFS), or something else is wrong.
                    self.heard.is_incomplete = true;
                    if error.raw_os_error() != Some(libc::ENOBUFS) {
                        return;
                    }
                }
            }
        }
    }

    fn counted(&mut self) {
        if std::mem::take(&mut self.heard.is_incomplete) {
            self.doubts = 2;
        }
        self.index = Index::default();
        for (place, drop) in self.heard.drops.iter().enumerate() {
            if let Some(flow) = drop.packet.flow() {
                self.index.by_flow.entry(flow).or_default().push(place);
            } else if let Some(ends) = drop.packet.ends() {
                self.index.unsure(ends, place, &self.heard);
            } else {
                self.index.has_unknown = true;
            }
        }
    }

    fn forget(&mut self, counted: Instant) {
        self.doubts = self.doubts.saturating_sub(1);
        self.index = Index::default();
        let is_over = |heard: Instant| heard + ON_THE_WAY < counted;
        self.heard.drops.retain(|drop| !is_over(drop.heard));
    }

    /// The drops that may be those of this key; `None` if there may be others.
    fn drops_of(&self, key: &Key) -> Option<impl Iterator<Item = &heard::Drop>> {
        let flow = Flow::of(&key.flow).filter(|_| !self.index.has_unknown)?;
        let certain = self.index.by_flow.get(&flow).into_iter().flatten();
        let unsure = self.index.by_ends.get(&flow.ends).into_iter().flatten();
        Some(
            certain
                .chain(unsure)
                .filter_map(|place| self.heard.drops.get(*place)),
        )
    }
}

impl Index {
    /// Adds a drop of which only the ends are certain; of those that name the same
    /// rule, one is enough.
    fn unsure(&mut self, ends: Ends, place: usize, heard: &Heard) {
        match self.by_ends.entry(ends) {
            Entry::Vacant(entry) => drop(entry.insert(vec![place])),
            Entry::Occupied(mut entry) => {
                let of = |place: &usize| &heard.drops[*place].place;
                if entry.get().iter().all(|other| of(other) != of(&place)) {
                    entry.get_mut().push(place);
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
