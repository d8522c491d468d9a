//! How the running daemon is: what it answers to `{"status": true}`.
//!
//! Over the Unix socket goes one line each way. A client may be older or younger than
//! the daemon, so unknown fields are passed over, and missing ones are empty.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The question, with its line's end.
pub const REQUEST: &str = "{\"status\": true}\n";

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than any answer has.
const MAX_ANSWER: u64 = 64 << 10;

/// How the daemon is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// It does all that its configuration says.
    pub healthy: bool,
    /// What it does not, and what would change that; one line each.
    pub problems: Vec<String>,
    /// Of the program.
    pub version: String,
    /// Of its process.
    pub pid: u32,
    /// For how long it has been running.
    pub uptime_seconds: u64,
    /// The number of the latest record.
    pub seq: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// What it costs.
    pub cost: Cost,
    /// Its Unix socket, if it has one.
    pub socket: Option<Socket>,
    /// Where it serves metrics, if it does.
    pub metrics: Option<String>,
    /// Its file of records, if it writes one.
    pub file: Option<PathBuf>,
    /// Its receiver of OTLP, if it has one.
    pub otlp: Option<Otlp>,
}

/// What the daemon costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// Of one CPU in percent, over the last minute, with its kernel programs.
    pub cpu_percent: f64,
    /// Resident memory.
    pub memory_bytes: u64,
    /// What it leaves out to stay within its limits; empty if it leaves out nothing.
    pub left_out: Vec<String>,
}

/// The Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Socket {
    /// Who reads records now.
    pub readers: usize,
    /// How many may.
    pub max_readers: usize,
}

/// The receiver of OTLP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Otlp {
    /// Its address.
    pub endpoint: String,
    /// Records that it has taken.
    pub sent_records: u64,
    /// Records that wait for it on disk.
    pub waiting_records: u64,
    /// The place they take there.
    pub waiting_bytes: u64,
    /// Since when the oldest of them waits.
    pub oldest_seconds: u64,
    /// Records that had to make room.
    pub lost_records: u64,
    /// What went wrong last, while it goes on being wrong.
    pub error: Option<String>,
}

/// Why nothing is known about a daemon.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no daemon listens at {}: {error}; start one, for example with: systemctl start \
         droptrace", path.display()
    )]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// This user may not ask.
    #[error(
        "this user may not ask the daemon at {}: {error}; ask as root or as a member of the \
         group droptrace", path.display()
    )]
    Forbidden {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// It does not answer.
    #[error(
        "the daemon at {} does not answer: {error}; its log may say why: journalctl -u \
         droptrace", path.display()
    )]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What happened instead.
        error: io::Error,
    },
}

/// Asks the daemon that listens there.
///
/// # Errors
///
/// If there is none, this user may not ask, or no proper answer comes within five
/// seconds.
pub fn ask(path: &Path) -> Result<Status, AskError> {
    let stream = UnixStream::connect(path).map_err(|error| {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied => AskError::Forbidden { path, error },
            _ => AskError::Nobody { path, error },
        }
    })?;
    talk(&stream).map_err(|error| AskError::Silent {
        path: path.to_owned(),
        error: match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::other("nothing came within five seconds"),
            _ => error,
        },
    })
}

fn talk(mut stream: &UnixStream) -> io::Result<Status> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST.as_bytes())?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::other("it closed the connection"));
    }
    serde_json::from_slice(&answer)
        .map_err(|error| io::Error::other(format!("its answer is no status: {error}")))
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::net::UnixListener, process, thread};

    use super::*;

    /// What `ask` says to a daemon that answers so.
    fn answered(name: &str, answer: &'static [u8]) -> Result<Status, AskError> {
        let path = env::temp_dir().join(format!("droptrace-{}-{name}", process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            // Who asked may have had enough before the end.
            let _ = stream.write_all(answer);
            request
        });
        let status = ask(&path);
        assert_eq!(daemon.join().unwrap(), REQUEST);
        fs::remove_file(path).unwrap();
        status
    }

    #[test]
    fn an_answer_of_another_version_is_understood() {
        let status = answered("other", b"{\"healthy\":true,\"new\":[1],\"seq\":7}\n").unwrap();
        let expected = Status {
            healthy: true,
            seq: 7,
            ..Status::default()
        };
        assert_eq!(status, expected);
    }

    static ENDLESS: [u8; 1 << 20] = [b'['; 1 << 20];

    #[test]
    fn what_is_no_answer_is_said() {
        let said = |name, answer| answered(name, answer).unwrap_err().to_string();
        assert!(said("closed", b"").contains("it closed the connection"));
        assert!(said("garbage", b"\xff\n").contains("its answer is no status"));
        assert!(said("endless", &ENDLESS).contains("its answer is no status"));
    }

    #[test]
    fn where_nobody_listens_is_said() {
        let error = ask(Path::new("/nonexistent/events.sock")).unwrap_err();
        assert!(matches!(error, AskError::Nobody { .. }), "{error}");
        let path = env::temp_dir().join(format!("droptrace-{}-stale", process::id()));
        drop(UnixListener::bind(&path).unwrap());
        let error = ask(&path).unwrap_err();
        fs::remove_file(path).unwrap();
        assert!(matches!(error, AskError::Nobody { .. }), "{error}");
    }
}
