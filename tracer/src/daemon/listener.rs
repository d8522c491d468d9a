//! Whether somebody listens at the place of a Unix socket. A daemon that was killed
//! leaves its socket behind.

use std::{
    fs, io,
    os::unix::{fs::FileTypeExt as _, net::UnixStream},
    path::Path,
};

/// What is at the place of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Nothing is there.
    Absent,
    /// A socket at which somebody listens.
    Alive,
    /// A socket at which nobody listens any more.
    Stale,
    /// Something else.
    Other,
}

impl Listener {
    /// Looks, and tries.
    ///
    /// # Errors
    ///
    /// If this user may not.
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Absent),
            found => found?,
        };
        if !found.file_type().is_socket() {
            return Ok(Self::Other);
        }
        match UnixStream::connect(path) {
            Ok(_) => Ok(Self::Alive),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Self::Stale),
            Err(error) => Err(error),
        }
    }
}
