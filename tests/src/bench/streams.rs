//! Traffic that is not dropped, between two hosts, each on a CPU of its own.

use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

use super::load::{self, Ground, SERVER};

/// How long one end waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that are written at a time.
const CHUNK: usize = 1 << 16;

/// Datagrams that are on their way at a time: few enough that none is lost.
const WINDOW: usize = 32;

/// Bytes of a small datagram.
const SMALL: usize = 64;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// As many bytes as a connection takes.
    Bulk,
    /// A byte there, a byte back, and again.
    Requests,
    /// Connections, one after the other.
    Connections,
    /// Small datagrams; those of a window are answered together.
    Datagrams,
}

/// What went through.
#[derive(Debug, Default)]
pub struct Done {
    /// Bytes, requests, connections or datagrams in a second.
    pub rate: f64,
    /// Of requests, the time each took, sorted.
    pub times: Vec<Duration>,
}

impl Stream {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Bulk,
        Self::Requests,
        Self::Connections,
        Self::Datagrams,
    ];

    /// As the report names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bulk => "TCP stream",
            Self::Requests => "TCP request/response",
            Self::Connections => "TCP connections",
            Self::Datagrams => "UDP, 64 bytes",
        }
    }

    /// What is counted in a second.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Bulk => "bytes/s",
            Self::Requests => "requests/s",
            Self::Connections => "connections/s",
            Self::Datagrams => "packets/s",
        }
    }

    /// Sends for so long.
    pub fn run(self, ground: &Ground, time: Duration) -> anyhow::Result<Done> {
        let cpus = load::cpus()?;
        let (here, there) = (cpus[0], cpus[cpus.len() - 1]);
        let server = ground.sandbox.host("server")?;
        let client = ground.sandbox.host("client")?;
        let is_over = AtomicBool::new(false);
        let is_over = &is_over;
        if self == Self::Datagrams {
            let socket = server.run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
            let addr = socket.local_addr()?;
            return both(
                || {
                    load::pin(there)?;
                    answer_windows(&socket, is_over)
                },
                || {
                    let done = client.run(|| {
                        load::pin(here)?;
                        datagrams(addr, time)
                    });
                    is_over.store(true, Ordering::Relaxed);
                    done
                },
            );
        }
        let listener = server.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
        let addr = listener.local_addr()?;
        both(
            || {
                load::pin(there)?;
                self.serve(&listener, is_over)
            },
            || {
                let done = client.run(|| {
                    load::pin(here)?;
                    match self {
                        Self::Bulk => bulk(addr, time),
                        Self::Requests => requests(addr, time),
                        _ => connections(addr, time),
                    }
                });
                is_over.store(true, Ordering::Relaxed);
                // Wakes a server that waits for the next connection.
                let _ = client.run(|| Ok(TcpStream::connect(addr)?));
                done
            },
        )
    }

    fn serve(self, listener: &TcpListener, is_over: &AtomicBool) -> anyhow::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let (mut connection, _) = listener.accept()?;
            if is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            connection.set_nodelay(true)?;
            loop {
                // The client is the one who closes last, so that it has its ports again.
                if self == Self::Connections {
                    break;
                }
                let length = connection.read(&mut buffer)?;
                if length == 0 {
                    break;
                }
                if self == Self::Requests {
                    connection.write_all(&buffer[..length])?;
                }
            }
        }
    }
}

/// The server's end in a thread of its own.
fn both(
    server: impl FnOnce() -> anyhow::Result<()> + Send,
    client: impl FnOnce() -> anyhow::Result<Done>,
) -> anyhow::Result<Done> {
    std::thread::scope(|scope| {
        let server = scope.spawn(server);
        let done = client();
        match server.join() {
            Ok(outcome) => done.and_then(|done| outcome.map(|()| done)),
            Err(_) => bail!("the server of a stream panicked"),
        }
    })
}

fn connect(addr: SocketAddr) -> anyhow::Result<TcpStream> {
    let connection = TcpStream::connect(addr).context("cannot connect to the server")?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    Ok(connection)
}

fn bulk(addr: SocketAddr, time: Duration) -> anyhow::Result<Done> {
    let mut connection = connect(addr)?;
    let chunk = vec![0; CHUNK];
    let begin = Instant::now();
    let mut chunks: u32 = 0;
    while begin.elapsed() < time {
        connection.write_all(&chunk)?;
        chunks += 1;
    }
    // Only what has arrived counts.
    connection.shutdown(std::net::Shutdown::Write)?;
    let _ = connection.read(&mut [0])?;
    let bytes = f64::from(chunks) * 65_536.0;
    Ok(Done {
        rate: bytes / begin.elapsed().as_secs_f64(),
        times: Vec::new(),
    })
}

fn requests(addr: SocketAddr, time: Duration) -> anyhow::Result<Done> {
    let mut connection = connect(addr)?;
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut last = begin;
    while last - begin < time {
        connection.write_all(&[1])?;
        connection.read_exact(&mut [0])?;
        let now = Instant::now();
        times.push(now - last);
        last = now;
    }
    let rate = f64::from(u32::try_from(times.len())?) / (last - begin).as_secs_f64();
    times.sort_unstable();
    Ok(Done { rate, times })
}

fn connections(addr: SocketAddr, time: Duration) -> anyhow::Result<Done> {
    let begin = Instant::now();
    let mut count: u32 = 0;
    while begin.elapsed() < time {
        let mut connection = connect(addr)?;
        if connection.read(&mut [0])? != 0 {
            bail!("the server sent something");
        }
        count += 1;
    }
    Ok(Done {
        rate: f64::from(count) / begin.elapsed().as_secs_f64(),
        times: Vec::new(),
    })
}

fn datagrams(addr: SocketAddr, time: Duration) -> anyhow::Result<Done> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(addr)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let payload = [1; SMALL];
    let slices: Vec<[IoSlice<'_>; 1]> = (0..WINDOW).map(|_| [IoSlice::new(&payload)]).collect();
    let nowhere_else: Vec<Option<SockaddrStorage>> = vec![None; WINDOW];
    let mut headers = MultiHeaders::preallocate(WINDOW, None);
    let begin = Instant::now();
    let mut count: u32 = 0;
    while begin.elapsed() < time {
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &slices,
            &nowhere_else,
            [],
            MsgFlags::empty(),
        )?;
        if sent.count() != WINDOW {
            bail!("a window of datagrams was not sent");
        }
        socket
            .recv(&mut [0; SMALL])
            .context("a datagram was lost")?;
        count += u32::try_from(WINDOW)?;
    }
    Ok(Done {
        rate: f64::from(count) / begin.elapsed().as_secs_f64(),
        times: Vec::new(),
    })
}

/// One datagram back for each window.
fn answer_windows(socket: &UdpSocket, is_over: &AtomicBool) -> anyhow::Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        match socket.recv_from(&mut [0; SMALL]) {
            Ok((_, sender)) => {
                count += 1;
                if count % WINDOW == 0 {
                    socket.send_to(&[1], sender)?;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
