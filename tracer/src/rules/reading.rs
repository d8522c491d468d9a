//! Reads the rule set of a network namespace, from inside.

use std::{
    fs::File,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    iptables,
    listing::Listing,
    nft,
    program::ProgramError,
    watch::{Generation, Watch},
};
use crate::{kernel::clock, owner::netns};

/// A packet that a change overtakes is dropped by the rules from before it, at
/// most so long afterwards.
const ON_THE_WAY: Duration = Duration::from_millis(10);
/// What a listing may take.
const MAX_TIME: Duration = Duration::from_secs(30);
/// Maps of verdicts whose elements are read.
const MAX_MAPS: usize = 16;

/// What a reading told.
#[derive(Debug)]
pub struct Reading {
    /// Tells of later changes.
    pub watch: Watch,
    /// That of before the listing.
    pub generation: Generation,
    /// The listing is of that generation for certain.
    pub is_certain: bool,
    /// The generation is in force from then on.
    pub from_ns: u64,
    /// And until then at least.
    pub until_ns: u64,
    /// The rules.
    pub listing: Listing,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The namespace is not there.
    #[error("it was not found")]
    Missing,
    /// Most likely `CAP_SYS_ADMIN` is missing.
    #[error("it could not be entered to read its rules: {0}")]
    Enter(io::Error),
    /// Most likely `CAP_NET_ADMIN` is missing.
    #[error("the kernel did not tell the rule set's generation: {0}")]
    Generation(io::Error),
    /// As it says.
    #[error("its rules could not be read: {0}")]
    List(ProgramError),
}

/// What took how long.
#[derive(Debug)]
pub struct Told {
    /// The namespace, by its number.
    pub netns: u32,
    /// Where the namespace was found.
    pub path: Option<PathBuf>,
    /// What was read there.
    pub reading: Result<Reading, ReadError>,
    /// What searching for the namespace took.
    pub searched: Duration,
    /// What all took.
    pub took: Duration,
}

/// Reads the rule set of the namespace with this number, which may be at `path`.
/// `may_search` if it is not there.
pub fn read(netns: u32, path: Option<PathBuf>, may_search: bool) -> Told {
    let start = Instant::now();
    let known = path.and_then(|path| netns::open_at(&path, netns));
    let is_lost = known.is_none();
    let opened = known.or_else(|| may_search.then(|| netns::open(netns))?);
    let searched = if is_lost {
        start.elapsed()
    } else {
        Duration::ZERO
    };
    let (path, reading) = match opened {
        Some((path, file)) => (Some(path), enter_and_read(&file)),
        None => (None, Err(ReadError::Missing)),
    };
    Told {
        netns,
        path,
        reading,
        searched,
        took: start.elapsed(),
    }
}

fn enter_and_read(namespace: &File) -> Result<Reading, ReadError> {
    netns::enter(namespace, read_here).unwrap_or_else(|error| Err(ReadError::Enter(error)))
}

/// Reads that of the calling thread's namespace.
fn read_here() -> Result<Reading, ReadError> {
    let watch = Watch::here().map_err(ReadError::Generation)?;
    let generation = watch.generation().map_err(ReadError::Generation)?;
    let from_ns = now_ns() + u64::try_from(ON_THE_WAY.as_nanos()).unwrap_or(0);
    let mut listing = Listing::default();
    if !generation.is_first() {
        let text = nft::list_within(MAX_TIME).map_err(ReadError::List)?;
        listing = Listing::parse(&text);
        drop(text);
        for map in listing.maps().iter().take(MAX_MAPS) {
            let [family, table, name] = map;
            if let Ok(text) = nft::list_map(family, table, name) {
                listing.add_elements(map, &text);
            }
        }
        listing.find_ways();
    }
    let until_ns = now_ns();
    let is_same = || watch.generation().is_ok_and(|after| after == generation);
    let is_certain = is_same();
    for family in listing.families_of_iptables() {
        if is_certain
            && iptables::may_be_asked()
            && let Ok(text) = iptables::save_within(family, MAX_TIME)
            && is_same()
        {
            listing.add_iptables(family, &text);
        }
    }
    Ok(Reading {
        watch,
        generation,
        is_certain,
        from_ns,
        until_ns,
        listing,
    })
}

/// Now, on the kernel's monotonic clock.
pub fn now_ns() -> u64 {
    u64::try_from(clock::read(libc::CLOCK_MONOTONIC)).unwrap_or(0)
}
