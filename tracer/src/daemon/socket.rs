//! Records for readers on a Unix socket, one JSON object a line.
//!
//! A reader may say in one line what it wants ([`Request`]); if it says nothing it gets
//! everything from now on. Each has its own place in the [`Journal`], so that a slow one
//! holds up nobody: it misses what has gone when it comes to read on, and is told how much.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use socket2::{Domain, SockAddr, SockRef, Type};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    task::{JoinSet, yield_now},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    config,
    journal::{Got, Journal},
    listener::Listener,
    request::Request,
    status::Status,
};
use crate::event::LossCause;

/// How long a reader has to begin its request.
const REQUEST_BEGIN: Duration = Duration::from_millis(250);
/// And to end it.
const REQUEST_END: Duration = Duration::from_secs(1);
/// The longest request.
const REQUEST_SIZE: usize = 64 << 10;
/// What is handed to the kernel at a time, about.
const BATCH: usize = 32 << 10;
/// How long readers have for what is left when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// Connections beside those of readers: whose request is not known yet, or who ask how the
/// daemon is. None of them lasts.
const STANDING: usize = 16;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers at the place.
    #[error(
        "cannot listen on {path}: another process serves it; end that one, or choose another \
         socket.path"
    )]
    Served {
        /// [`config::Socket::path`].
        path: PathBuf,
    },
    /// Something else is at the place.
    #[error(
        "cannot listen on {path}: there is something else than a socket; remove it, or choose \
         another socket.path"
    )]
    Taken {
        /// [`config::Socket::path`].
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {what} {path}: {error}; make that possible, or choose another socket.path")]
    Refused {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// The socket and its readers.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    place: SocketFile,
    journal: Journal,
    seats: Seats,
}

/// What tells how the daemon is.
pub type StatusSource = dyn Fn() -> Status + Send + Sync;

/// How many readers there are.
pub type Readers = Arc<AtomicUsize>;

/// Places for readers.
#[derive(Clone, Debug)]
struct Seats {
    max: usize,
    taken: Readers,
}

impl Seats {
    /// One of them, if there is one left.
    fn take(&self) -> Option<Seat> {
        let more = |taken| (taken < self.max).then_some(taken + 1);
        let taken = &self.taken;
        let had = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        had.is_ok().then(|| Seat(taken.clone()))
    }
}

/// A reader's place, given up when it is dropped.
#[derive(Debug)]
struct Seat(Readers);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// Listens where the configuration says. The socket of a process that has died is
    /// replaced.
    ///
    /// # Errors
    ///
    /// If that is not possible.
    pub fn bind(config: &config::Socket, journal: &Journal) -> Result<Self, SocketError> {
        let path = &config.path;
        if let Some(folder) = path.parent()
            && !folder.as_os_str().is_empty()
        {
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o755).create(folder);
            made.map_err(refused("make", folder))?;
        }
        make_room(path)?;
        let refused = |error| refused("listen on", path)(error);
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).map_err(refused)?;
        socket.set_nonblocking(true).map_err(refused)?;
        let address = SockAddr::unix(path).map_err(refused)?;
        socket.bind(&address).map_err(refused)?;
        let place = SocketFile::at(path).map_err(refused)?;
        // Nobody can connect up to `listen`.
        fs::set_permissions(path, fs::Permissions::from_mode(config.mode.0)).map_err(refused)?;
        socket.listen(BACKLOG).map_err(refused)?;
        let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket));
        Ok(Self {
            listener: UnixListener::from_std(listener).map_err(refused)?,
            place,
            journal: journal.clone(),
            seats: Seats {
                max: config.max_readers,
                taken: Readers::default(),
            },
        })
    }

    /// How many readers there are, for the tracer's own health.
    #[must_use]
    pub fn readers(&self) -> Readers {
        self.seats.taken.clone()
    }

    /// Serves readers until the journal is closed, and removes the socket.
    pub async fn run(self, status: Arc<StatusSource>) {
        let mut guests = JoinSet::new();
        let has_room = |guests: &JoinSet<()>| guests.len() < self.seats.max + STANDING;
        loop {
            tokio::select! {
                // The others wait to be accepted.
                accepted = self.listener.accept(), if has_room(&guests) => match accepted {
                    Ok((stream, _)) => {
                        let (journal, seats) = (self.journal.clone(), self.seats.clone());
                        guests.spawn(serve(stream, journal, seats, status.clone()));
                    }
                    Err(error) => {
                        log::warn!("cannot accept a reader: {error}");
                        // Mostly descriptors are short, which asking again does not change.
                        sleep(Duration::from_millis(500)).await;
                    }
                },
                Some(_) = guests.join_next() => {}
                () = self.journal.closed() => break,
            }
        }
        drop(self.listener);
        drop(self.place);
        let all = async { while guests.join_next().await.is_some() {} };
        if timeout(FAREWELL, all).await.is_err() {
            log::info!("a reader did not take the last records in time");
        }
    }
}

/// A socket in the file system, removed when it is dropped if it is still this one.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn refused(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |error| SocketError::Refused { what, path, error }
}

/// Removes the socket of a process that has died.
fn make_room(path: &Path) -> Result<(), SocketError> {
    match Listener::at(path).map_err(refused("ask who serves", path))? {
        Listener::Absent => Ok(()),
        Listener::Stale => fs::remove_file(path).map_err(refused("remove", path)),
        Listener::Alive => Err(SocketError::Served {
            path: path.to_owned(),
        }),
        Listener::Other => Err(SocketError::Taken {
            path: path.to_owned(),
        }),
    }
}

/// Serves one reader until it goes away, or the journal is closed.
async fn serve(stream: UnixStream, journal: Journal, seats: Seats, status: Arc<StatusSource>) {
    let now = journal.next();
    let request = match request(&stream).await {
        Ok(request) => request,
        Err(error) => return refuse(&stream, &error),
    };
    if request.status {
        match serde_json::to_string(&status()) {
            // If the other end does not take it, it goes without.
            Ok(answer) => {
                let answer = format!("{answer}\n");
                let _ = timeout(REQUEST_END, send(&stream, answer.as_bytes())).await;
            }
            Err(error) => refuse(&stream, &error.to_string()),
        }
        return;
    }
    let Some(_seat) = seats.take() else {
        let max = seats.max;
        return refuse(
            &stream,
            &format!("there are {max} readers, and no more are allowed (socket.max_readers)"),
        );
    };
    let mut cursor = journal.reader(now, request);
    let mut batch = Vec::new();
    loop {
        batch.clear();
        match cursor.read(BATCH, LossCause::ReaderSlow, &mut batch) {
            Got::Lines => {
                if send(&stream, &batch).await.is_err() {
                    return;
                }
                // One that takes all at once leaves time for the others.
                yield_now().await;
            }
            Got::Nothing => {
                // One that waits holds no memory.
                batch = Vec::new();
                tokio::select! {
                    () = cursor.changed() => {}
                    gone = changed(&stream) => if gone.is_err() {
                        return;
                    },
                }
            }
            Got::End => return,
        }
    }
}

/// What the reader asks for; everything if it says nothing.
async fn request(stream: &UnixStream) -> Result<Request, String> {
    let begun = Instant::now();
    let mut line = Vec::new();
    let mut chunk = [0; 1024];
    let ended = loop {
        match stream.try_read(&mut chunk) {
            Ok(0) => break line.len(),
            Ok(count) => {
                let from = line.len();
                line.extend(chunk.iter().take(count));
                let end = line.iter().skip(from).position(|byte| *byte == b'\n');
                if let Some(end) = end {
                    break from + end;
                }
                if line.len() > REQUEST_SIZE {
                    return Err("the request is longer than 64 KiB".to_owned());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let time = if line.is_empty() {
                    REQUEST_BEGIN
                } else {
                    REQUEST_END
                };
                match timeout_at(begun + time, stream.readable()).await {
                    Ok(_) => {}
                    Err(_) if line.is_empty() => return Ok(Request::default()),
                    Err(_) => return Err("the request did not end within a second".to_owned()),
                }
            }
            Err(error) => return Err(format!("cannot read the request: {error}")),
        }
    };
    line.truncate(ended);
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(Request::default());
    }
    Request::parse(&line)
}

/// Says why the reader gets nothing. If it does not even take that, it goes without.
fn refuse(stream: &UnixStream, error: &str) {
    let mut line = serde_json::json!({ "error": error }).to_string();
    line.push('\n');
    let _ = SockRef::from(stream).send(line.as_bytes());
}

/// Sends all of it, however long the reader takes.
///
/// Around the runtime's own writing, since [`changed`] takes its notes away.
async fn send(stream: &UnixStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match SockRef::from(stream).send(rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => changed(stream).await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Comes back when there may be room again, and with an error when the reader has gone.
/// A reader that only says that it will send no more (as `socat` does at the end of its
/// input) has not.
async fn changed(stream: &UnixStream) -> io::Result<()> {
    let ready = stream.ready(Interest::WRITABLE).await?;
    if ready.is_write_closed() {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // The next call is to wait for the next news from the kernel.
    let _ = stream.try_io(Interest::WRITABLE, || {
        Err::<(), _>(io::ErrorKind::WouldBlock.into())
    });
    Ok(())
}

#[cfg(test)]
mod tests;
