//! `droptrace clean`: what a daemon that was killed has left.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;

use super::{Failure, status};
use crate::{cli::Configuration, daemon::listener::Listener};

/// Removes the socket of a daemon that is gone, and says so. All that it had in the
/// kernel went with its process.
///
/// # Errors
///
/// If the configuration is wrong, or the socket cannot be removed.
pub fn clean(from: &Configuration) -> Result<(), Failure> {
    let path = status::socket(from)?;
    let said = remove_stale(&path)
        .with_context(|| format!("cannot remove {}; try it as root", path.display()))?;
    match writeln!(io::stdout(), "{}: {said}", path.display()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Running(error.into()))
        }
        _ => Ok(()),
    }
}

/// Removes a socket that nobody listens at, and nothing else.
fn remove_stale(path: &Path) -> io::Result<&'static str> {
    match Listener::at(path)? {
        Listener::Absent => Ok("not there, nothing to remove"),
        Listener::Other => Ok("is no socket, and was left alone"),
        Listener::Alive => Ok("a daemon listens there, and was left alone"),
        Listener::Stale => {
            fs::remove_file(path)?;
            Ok("removed, nobody listened there")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::net::UnixListener, process};

    use super::*;

    #[test]
    fn only_a_socket_without_a_listener_is_removed() {
        let path = env::temp_dir().join(format!("droptrace-{}-clean", process::id()));
        assert!(remove_stale(&path).unwrap().starts_with("not there"));

        fs::write(&path, "precious").unwrap();
        assert!(remove_stale(&path).unwrap().starts_with("is no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();

        let listener = UnixListener::bind(&path).unwrap();
        assert!(
            remove_stale(&path)
                .unwrap()
                .starts_with("a daemon listens there")
        );
        assert!(path.exists());

        drop(listener);
        assert!(remove_stale(&path).unwrap().starts_with("removed"));
        assert!(!path.exists());
    }
}
