//! TCP: `tcp_listen` and `tcp_connect`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use crate::scenario::{Accepted, Connect, ConnectEnd, ConnectOutcome, TcpListen};

/// How long a connection may take for one step once it is open.
const PATIENCE: Duration = Duration::from_secs(10);

/// `tcp_listen`: serves until it is killed.
pub fn listen(listen: &TcpListen) -> anyhow::Result<()> {
    let addr = SocketAddr::new(listen.addr, listen.port);
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket
        .bind(&addr.into())
        .with_context(|| format!("cannot bind {addr}"))?;
    socket.listen(listen.backlog)?;
    super::ready()?;
    if matches!(listen.then, Accepted::NeverAccept) {
        super::stay();
    }
    loop {
        let stream: TcpStream = socket.accept()?.0.into();
        let (then, delay) = (listen.then, Duration::from_millis(listen.delay_ms));
        // Errors of one connection are the connecting side's to notice.
        std::thread::spawn(move || serve(stream, then, delay));
    }
}

fn serve(mut stream: TcpStream, then: Accepted, delay: Duration) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    match then {
        Accepted::Echo => loop {
            std::thread::sleep(delay);
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..length])?;
        },
        Accepted::Unread => stream.peek(&mut buffer).map(drop),
        Accepted::Reset => {
            // How much came does not matter.
            let _ = stream.read(&mut buffer)?;
            // Closing a lingering socket with no time left sends a reset.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))
        }
        Accepted::Close | Accepted::NeverAccept => Ok(()),
    }
}

/// `tcp_connect`: makes its connections one after the other.
pub fn connect(connect: &Connect) -> anyhow::Result<()> {
    let mut open = Vec::new();
    for number in 1..=connect.count {
        let at = || format!("connection {number} to {}", connect.to);
        let (outcome, socket) = attempt(connect).with_context(at)?;
        if outcome != connect.expect {
            bail!(
                "{} ended in {outcome:?}, expected {:?}",
                at(),
                connect.expect
            );
        }
        if connect.stay {
            open.push(socket);
        } else if outcome == ConnectOutcome::Connected {
            if connect.hold || connect.meanwhile {
                open.push(socket);
            } else {
                talk(&mut socket.into(), connect).with_context(at)?;
            }
        }
    }
    if connect.stay || connect.meanwhile {
        super::ready()?;
    }
    if connect.stay {
        super::stay();
    }
    let mut open: Vec<TcpStream> = open.into_iter().map(TcpStream::from).collect();
    for stream in &mut open {
        talk(stream, connect).context("a held connection")?;
    }
    // All are closed here, after the last one has talked.
    Ok(())
}

fn attempt(connect: &Connect) -> anyhow::Result<(ConnectOutcome, Socket)> {
    let socket = Socket::new(Domain::for_address(connect.to), Type::STREAM, None)?;
    if let Some(from) = connect.from {
        socket.set_reuse_address(true)?;
        socket
            .bind(&from.into())
            .with_context(|| format!("cannot bind {from}"))?;
    }
    if let Some(limit) = connect.user_timeout_ms {
        socket.set_tcp_user_timeout(Some(Duration::from_millis(limit)))?;
    }
    if connect.keepalive {
        let second = Duration::from_secs(1);
        let asking = TcpKeepalive::new().with_time(second).with_interval(second);
        socket.set_tcp_keepalive(&asking.with_retries(2))?;
    }
    let limit = Duration::from_millis(connect.timeout_ms);
    let outcome = match socket.connect_timeout(&connect.to.into(), limit) {
        Ok(()) => ConnectOutcome::Connected,
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => ConnectOutcome::Refused,
            ErrorKind::TimedOut => ConnectOutcome::Timeout,
            ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::InvalidInput => ConnectOutcome::Unreachable,
            ErrorKind::PermissionDenied => ConnectOutcome::Forbidden,
            _ => return Err(error.into()),
        },
    };
    Ok((outcome, socket))
}

/// Sends, receives and ends the connection, and checks how it ended.
fn talk(stream: &mut TcpStream, connect: &Connect) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let data = vec![b'x'; connect.send];
    for round in 1..connect.rounds {
        stream.write_all(&data)?;
        let came = stream.read_exact(&mut vec![0; connect.send]);
        came.with_context(|| format!("what was sent at time {round} did not come back"))?;
        std::thread::sleep(Duration::from_millis(connect.pause_ms));
    }
    match connect.end {
        ConnectEnd::Leave => return Ok(stream.write_all(&data)?),
        ConnectEnd::Abort => {
            stream.write_all(&data)?;
            // Closing a lingering socket with no time left sends a reset.
            return Ok(SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?);
        }
        ConnectEnd::Unread => {
            stream.write_all(&data)?;
            return Ok(stream.peek(&mut [0]).map(drop)?);
        }
        ConnectEnd::Silence => {
            let limit = Duration::from_millis(connect.timeout_ms);
            stream.set_read_timeout(Some(limit))?;
            stream.set_write_timeout(Some(limit))?;
        }
        ConnectEnd::Close | ConnectEnd::Reset | ConnectEnd::GiveUp => {}
    }
    let received = exchange(stream, &data, connect.end);
    match (connect.end, received) {
        (ConnectEnd::Close, Ok(received)) if received == connect.send => Ok(()),
        (ConnectEnd::Close, Ok(received)) => {
            bail!("{received} of {} bytes came back", connect.send)
        }
        (ConnectEnd::Reset, Err(error)) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        (ConnectEnd::Silence, Err(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        (ConnectEnd::GiveUp, Err(error)) if error.kind() == ErrorKind::TimedOut => Ok(()),
        (_, Err(error)) => Err(error).context("cannot exchange data"),
        (end, Ok(_)) => bail!("closed, expected {end:?}"),
    }
}

/// Sends from one thread what it receives in another, so that no size can
/// block both ends.
fn exchange(stream: &TcpStream, data: &[u8], end: ConnectEnd) -> std::io::Result<usize> {
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut stream = stream;
            stream.write_all(data)?;
            match end {
                ConnectEnd::Close => stream.shutdown(Shutdown::Write),
                _ => Ok(()),
            }
        });
        let mut stream = stream;
        let mut buffer = vec![0; 1 << 16];
        let mut received = 0;
        let read = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break Ok(received),
                Ok(length) => received += length,
                Err(error) => break Err(error),
            }
        };
        let written = writer.join().unwrap_or(Ok(()));
        // A reset shows at the reader or at the writer, whoever is first.
        read.and_then(|received| written.map(|()| received))
    })
}
