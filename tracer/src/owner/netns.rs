//! Network namespaces: from the words of `--netns` to the inode number, and from
//! that into the namespace.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
};

use super::sockets;

/// Where `ip netns` keeps named namespaces.
const NAMED: &str = "/run/netns";
/// The tracer's own namespace.
pub const OWN: &str = "/proc/self/ns/net";

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
        "self" => OWN.to_owned(),
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

/// The named namespaces.
pub fn named() -> impl Iterator<Item = (u32, PathBuf)> {
    let named = fs::read_dir(NAMED).into_iter().flatten().flatten();
    let places = named.map(|entry| entry.path());
    places.filter_map(|place| Some((inode_at(&place)?, place)))
}

/// The number of the namespace that a file stands for; `None` if it stands for
/// none.
#[must_use]
pub fn inode_at(place: &Path) -> Option<u32> {
    let there = fs::metadata(place).ok().filter(is_namespace)?;
    u32::try_from(there.ino()).ok()
}

/// Files that stand for namespaces: the tracer's own, the named ones, those of
/// processes.
fn places() -> impl Iterator<Item = PathBuf> {
    let of_processes = sockets::processes().map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net")));
    [PathBuf::from(OWN)]
        .into_iter()
        .chain(named().map(|(_, place)| place))
        .chain(of_processes)
}

/// The namespaces that most likely matter, at most so many.
#[must_use]
pub fn likely(most: usize) -> Vec<(u32, PathBuf)> {
    let mut seen = HashSet::new();
    let namespaces = places().filter_map(|place| Some((inode_at(&place)?, place)));
    namespaces
        .filter(|(inode, _)| seen.insert(*inode))
        .take(most)
        .collect()
}

/// Inode numbers of other file systems mean something else.
fn is_namespace(there: &fs::Metadata) -> bool {
    fs::metadata(OWN).is_ok_and(|own| own.dev() == there.dev())
}

/// Opens the namespace with this inode number: the tracer's own, a named one, that
/// of a process, or one that a process holds open. Also tells where it was found.
#[must_use]
pub fn open(inode: u32) -> Option<(PathBuf, File)> {
    places()
        .find_map(|place| open_at(&place, inode))
        .or_else(|| {
            let link = format!("net:[{inode}]");
            let held = sockets::processes().find_map(|pid| {
                let (fd, _) = sockets::links_of(pid).find(|(_, of)| *of == link)?;
                Some(PathBuf::from(format!("/proc/{pid}/fd/{fd}")))
            })?;
            open_at(&held, inode)
        })
}

/// The tracer's own namespace, those with a name, those of processes, and those that
/// processes hold open: opened, with their inode numbers and where they were found;
/// `limit` of them at most.
#[must_use]
pub fn all(limit: usize) -> Vec<(u32, PathBuf, File)> {
    let held = sockets::processes().flat_map(|pid| {
        let links = sockets::links_of(pid).filter(|(_, link)| link.starts_with("net:["));
        links.map(move |(fd, _)| PathBuf::from(format!("/proc/{pid}/fd/{fd}")))
    });
    let mut seen = HashSet::new();
    places()
        .chain(held)
        .filter_map(|place| {
            let inode = u32::try_from(fs::metadata(&place).ok()?.ino()).ok()?;
            let (place, file) = seen.insert(inode).then(|| open_at(&place, inode))??;
            Some((inode, place, file))
        })
        .take(limit)
        .collect()
}

/// Opens the namespace with this inode number if it is there.
#[must_use]
pub fn open_at(place: &Path, inode: u32) -> Option<(PathBuf, File)> {
    let is_it = |there: &fs::Metadata| there.ino() == u64::from(inode) && is_namespace(there);
    fs::metadata(place).ok().filter(is_it)?;
    let file = File::open(place).ok()?;
    file.metadata().ok().filter(is_it)?;
    Some((place.to_owned(), file))
}

/// Does `work` in a network namespace, on a thread of its own: all others stay
/// where they are. Processes that `work` starts are in the namespace too.
///
/// # Errors
///
/// If the namespace cannot be entered, which takes `CAP_SYS_ADMIN`.
pub fn enter<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let is_own = namespace.metadata()?.ino() == u64::from(own());
    let there = || {
        // SAFETY: no pointers; the descriptor is open.
        if !is_own && unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(work())
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, there)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread failed")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_found_and_entered() {
        let (place, file) = open(own()).unwrap();
        assert_eq!(place, Path::new(OWN));
        let inside = enter(&file, || {
            fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
        });
        assert_eq!(inside.unwrap(), u64::from(own()));
    }

    #[test]
    fn what_is_no_namespace_is_not_opened() {
        assert!(open(1).is_none());
        assert!(open_at(Path::new("/nonexistent"), own()).is_none());
        // A file of another file system that happens to have the number.
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let inode = u32::try_from(fs::metadata(&manifest).unwrap().ino());
        assert!(inode.is_err() || open_at(&manifest, inode.unwrap()).is_none());
    }
}
