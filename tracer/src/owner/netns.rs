//! From the words of `--netns` to the namespace's inode number.

use std::{fs, io, os::unix::fs::MetadataExt};

/// Where `ip netns` keeps named namespaces.
const NAMED: &str = "/run/netns";

/// A network namespace that is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "--netns {word}: there is no such network namespace ({error}); give a name from `ip netns`, \
     a path such as /proc/PID/ns/net, an inode number from `lsns -t net`, or `self`"
)]
pub struct UnknownNetns {
    word: String,
    error: io::Error,
}

/// Inode number of the namespace called `word`: a name, a path, a number, or `self`.
///
/// # Errors
///
/// If there is no such namespace. A number is taken as it is.
pub fn inode_of(word: &str) -> Result<u32, UnknownNetns> {
    if let Ok(inode) = word.parse() {
        return Ok(inode);
    }
    let path = match word {
        "self" => "/proc/self/ns/net".to_owned(),
        path if path.contains('/') => path.to_owned(),
        name => format!("{NAMED}/{name}"),
    };
    let unknown = |error| UnknownNetns {
        word: word.to_owned(),
        error,
    };
    let inode = fs::metadata(path).map_err(unknown)?.ino();
    u32::try_from(inode).map_err(|_| {
        unknown(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a namespace",
        ))
    })
}

/// The tracer's own, 0 where it cannot be told.
#[must_use]
pub fn own() -> u32 {
    inode_of("self").unwrap_or(0)
}
