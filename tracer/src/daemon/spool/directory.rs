//! The spool's files: for this user alone, never behind a symbolic link, and used by one
//! process at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Numbers of records and segments stay below it.
pub const MAX_INDEX: u64 = 1 << 62;

const SUFFIX: &str = ".seg";

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file or the directory.
    #[error(
        "cannot {what} {path}: {error}; the spool needs a directory that only this user writes, \
         on a disk with room (`state.dir`)"
    )]
    File {
        /// What was attempted.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// How it failed.
        error: io::Error,
    },
    /// Another process has it.
    #[error(
        "the spool {0} is used by another process; stop the other daemon, or give this one a \
         `state.dir` of its own"
    )]
    Busy(PathBuf),
}

/// The directory, while this process has it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Open for as long as the lock is to be held.
    _lock: File,
    handle: File,
}

impl Directory {
    /// Takes the directory, which is made if there is none.
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |error| SpoolError::File { what, path, error }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("make", path))?;
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(path)
            .map_err(failed("open", path))?;
        handle
            .set_permissions(Permissions::from_mode(0o700))
            .map_err(failed("set permissions of", path))?;
        let at = path.join("lock");
        let lock = own(&at, true).map_err(failed("open", &at))?;
        hold(&lock).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                SpoolError::Busy(path.to_owned())
            } else {
                failed("lock", &at)(error)
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            handle,
        })
    }

    /// The file of what is remembered.
    pub fn state(&self) -> Result<File, SpoolError> {
        let path = self.path.join("state");
        own(&path, true).map_err(|error| SpoolError::File {
            what: "open",
            path,
            error,
        })
    }

    /// The first indices of all segments, in order, with their sizes. What bears the name
    /// of a segment and is no file is removed, so that it is in nobody's way.
    pub fn segments(&self) -> Result<Vec<(u64, u64)>, SpoolError> {
        let failed = |error| SpoolError::File {
            what: "list",
            path: self.path.clone(),
            error,
        };
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let first = name
                .to_str()
                .and_then(|name| name.strip_suffix(SUFFIX))
                .filter(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok());
            let (Some(first), Ok(kind)) = (first, entry.metadata()) else {
                continue;
            };
            if first >= MAX_INDEX || kind.is_dir() {
                continue;
            }
            if kind.is_file() {
                segments.push((first, kind.len()));
            } else {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }

    /// A segment, to be read and written.
    pub fn segment(&self, first: u64) -> io::Result<File> {
        own(&self.at(first), false)
    }

    /// A new segment, whose name is safe.
    pub fn create(&self, first: u64) -> io::Result<File> {
        let file = own(&self.at(first), true)?;
        self.handle.sync_all()?;
        Ok(file)
    }

    /// Removes a segment.
    pub fn remove(&self, first: u64) -> io::Result<()> {
        match fs::remove_file(self.at(first)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn at(&self, first: u64) -> PathBuf {
        self.path.join(format!("{first:020}{SUFFIX}"))
    }
}

/// Locks it. A process that has just died, and a child of it that is about to run another
/// program, still hold it for a moment.
fn hold(lock: &File) -> io::Result<()> {
    const TRIES: u32 = 50;
    for left in (0..TRIES).rev() {
        // SAFETY: the descriptor is open; nothing else is handed over.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if left == 0 || error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// As many bytes as there are from here on, up to a limit.
pub fn read_at(file: &File, mut at: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut length = 0;
    while length < most {
        match file.read_at(&mut bytes[length..], at) {
            Ok(0) => break,
            Ok(read) => {
                length += read;
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn own(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}
