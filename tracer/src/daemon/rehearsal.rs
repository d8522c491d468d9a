//! Whether the daemon could have all the places that its configuration names. Nothing
//! is made or changed to find out.

use std::{
    ffi::CString,
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use super::{config::Config, listener::Listener};

/// A place, and what is in the way.
#[derive(Debug)]
pub struct Place {
    /// The key that names it.
    pub key: &'static str,
    /// As it is configured.
    pub place: String,
    /// Whether it can be had.
    pub outcome: io::Result<()>,
}

impl Place {
    fn path(key: &'static str, path: &Path, check: impl FnOnce(&Path) -> io::Result<()>) -> Self {
        Self {
            key,
            place: path.display().to_string(),
            outcome: check(path),
        }
    }
}

/// All places of a configuration.
#[must_use]
pub fn places(config: &Config) -> Vec<Place> {
    let mut places = vec![
        Place::path("state.dir", &config.state.dir, folder),
        Place::path("state.run", &config.state.run, folder),
    ];
    let socket_path = &config.socket.path;
    if !socket_path.as_os_str().is_empty() {
        places.push(Place::path("socket.path", socket_path, socket));
    }
    if let Some(address) = config.metrics.listen {
        places.push(Place {
            key: "metrics.listen",
            place: address.to_string(),
            outcome: port(address),
        });
    }
    if let Some(of_records) = &config.file {
        places.push(Place::path("file.path", &of_records.path, file));
    }
    if let Some(ca) = config.otlp.as_ref().and_then(|otlp| otlp.ca.as_ref()) {
        places.push(Place::path("otlp.ca", ca, |ca| allowed(ca, libc::R_OK)));
    }
    places
}

/// In which files can be made. Where it is not there, it must be possible to make it.
fn folder(path: &Path) -> io::Result<()> {
    let there = path
        .ancestors()
        .find(|place| place.symlink_metadata().is_ok())
        .ok_or(io::ErrorKind::NotFound)?;
    if !fs::metadata(there)?.is_dir() {
        return Err(io::Error::other(format!(
            "{} is no directory",
            there.display()
        )));
    }
    allowed(there, libc::W_OK | libc::X_OK)
}

/// Where a socket can be made. One of a daemon that is gone is replaced.
fn socket(path: &Path) -> io::Result<()> {
    folder(path.parent().unwrap_or(Path::new("/")))?;
    match Listener::at(path)? {
        Listener::Absent | Listener::Stale => Ok(()),
        Listener::Alive => Err(io::Error::other("a daemon listens there already")),
        Listener::Other => Err(io::Error::other("what is there is no socket")),
    }
}

/// To which records can be added.
fn file(path: &Path) -> io::Result<()> {
    folder(path.parent().unwrap_or(Path::new("/")))?;
    match fs::symlink_metadata(path).map(|there| there.is_file()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(true) => allowed(path, libc::W_OK),
        Ok(false) => Err(io::Error::other("what is there is no regular file")),
    }
}

/// Is let go at once.
fn port(address: SocketAddr) -> io::Result<()> {
    TcpListener::bind(address).map(|_| ())
}

/// What the kernel would say with this process's effective user and capabilities.
fn allowed(path: &Path, how: libc::c_int) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a string that lives during the call.
    let result = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), how, libc::AT_EACCESS) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::net::UnixListener, process};

    use super::*;

    #[test]
    fn each_place_is_told_as_it_is() {
        let own = env::temp_dir().join(format!("droptrace-{}-rehearsal", process::id()));
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("file"), "").unwrap();
        let listener = UnixListener::bind(own.join("live")).unwrap();
        drop(UnixListener::bind(own.join("stale")).unwrap());

        assert!(folder(&own.join("not/yet/there")).is_ok());
        assert!(folder(&own.join("file")).is_err());
        assert!(folder(&own.join("file/below")).is_err());
        assert!(folder(Path::new("/proc/sys/droptrace")).is_err());

        assert!(socket(&own.join("new")).is_ok());
        assert!(socket(&own.join("stale")).is_ok());
        assert!(socket(&own.join("file")).is_err());
        assert!(socket(&own.join("live")).is_err());
        drop(listener);

        assert!(file(&own.join("file")).is_ok());
        assert!(file(&own.join("new")).is_ok());
        assert!(file(&own).is_err());
        assert!(file(Path::new("/dev/null")).is_err());

        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(port(taken.local_addr().unwrap()).is_err());

        // And nothing was made.
        let mut names: Vec<_> = fs::read_dir(&own)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["file", "live", "stale"]);
        fs::remove_dir_all(own).unwrap();
    }
}
