//! UDP: `udp_bind` and `udp_send`.

use std::io::{ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use crate::scenario::{SendOutcome, UdpBind, UdpSend};

/// Datagrams handed to the kernel at a time.
const BATCH: u32 = 256;

/// How long a datagram may take to come back.
const PATIENCE: Duration = Duration::from_secs(5);

/// `udp_bind`: receives until it is killed.
pub fn bind(bind: &UdpBind) -> anyhow::Result<()> {
    let addr = SocketAddr::new(bind.addr, bind.port);
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
    if let Some(bytes) = bind.rcvbuf {
        socket.set_recv_buffer_size(bytes)?;
    }
    if bind.filter_all {
        // Classic BPF "return 0": keep nothing of any packet.
        let refuse = SockFilter::new(0x06, 0, 0, 0);
        socket
            .attach_filter(&[refuse])
            .context("cannot attach a socket filter")?;
    }
    socket
        .bind(&addr.into())
        .with_context(|| format!("cannot bind {addr}"))?;
    super::ready()?;
    let socket: UdpSocket = socket.into();
    let mut buffer = vec![0; 1 << 16];
    if !bind.read {
        super::stay();
    }
    loop {
        let (length, sender) = socket.recv_from(&mut buffer)?;
        if bind.echo {
            socket.send_to(&buffer[..length], sender)?;
        }
    }
}

/// `udp_send`.
pub fn send(send: &UdpSend) -> anyhow::Result<()> {
    if !send.count.is_multiple_of(send.threads) {
        bail!(
            "{} datagrams cannot be shared among {} threads",
            send.count,
            send.threads
        );
    }
    let share = UdpSend {
        count: send.count / send.threads,
        ..send.clone()
    };
    let sockets = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..send.threads)
            .map(|_| scope.spawn(|| send_share(&share)))
            .collect();
        let results = senders.into_iter().map(|sender| {
            sender
                .join()
                .unwrap_or_else(|_| bail!("a sending thread panicked"))
        });
        results.collect::<anyhow::Result<Vec<_>>>()
    })?;
    if send.stay {
        super::ready()?;
        super::stay();
    }
    drop(sockets);
    Ok(())
}

fn send_share(send: &UdpSend) -> anyhow::Result<UdpSocket> {
    let any = match send.to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let from = send.from.unwrap_or(SocketAddr::new(any, 0));
    let socket = UdpSocket::bind(from).with_context(|| format!("cannot bind {from}"))?;
    match (send.ttl, send.to) {
        (Some(ttl), SocketAddr::V4(_)) => socket.set_ttl(ttl)?,
        (Some(hops), SocketAddr::V6(_)) => SockRef::from(&socket).set_unicast_hops_v6(hops)?,
        (None, _) => {}
    }
    if send.dont_fragment {
        forbid_fragments(&socket)?;
    }
    let payload = vec![b'x'; send.size];
    if send.echoed || send.pause_us > 0 || send.expect != SendOutcome::Sent {
        one_by_one(send, &socket, &payload)?;
    } else {
        in_batches(send, &socket, &payload)?;
    }
    Ok(socket)
}

/// Sets "don't fragment" as a path MTU probe does: even above the known path MTU.
fn forbid_fragments(socket: &UdpSocket) -> anyhow::Result<()> {
    let mode = libc::IP_PMTUDISC_PROBE;
    let length = u32::try_from(size_of_val(&mode))?;
    // SAFETY: `mode` is an `int` and `length` its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const mode).cast(),
            length,
        )
    };
    Errno::result(result).context("cannot forbid fragments")?;
    Ok(())
}

fn one_by_one(send: &UdpSend, socket: &UdpSocket, payload: &[u8]) -> anyhow::Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 1 << 16];
    for number in 0..send.count {
        if send.pause_us > 0 {
            std::thread::sleep(Duration::from_micros(send.pause_us));
        }
        let outcome = match socket.send_to(payload, target(send, number)) {
            Ok(_) => SendOutcome::Sent,
            Err(error) => match error.kind() {
                ErrorKind::PermissionDenied => SendOutcome::Forbidden,
                ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::InvalidInput => SendOutcome::Unreachable,
                _ => return Err(error).with_context(|| format!("datagram {number}")),
            },
        };
        if outcome != send.expect {
            bail!("datagram {number}: {outcome:?}, expected {:?}", send.expect);
        }
        if send.echoed {
            let (length, _) = socket
                .recv_from(&mut buffer)
                .with_context(|| format!("datagram {number} did not come back"))?;
            if length != payload.len() {
                bail!("datagram {number} came back with {length} bytes");
            }
        }
    }
    Ok(())
}

fn in_batches(send: &UdpSend, socket: &UdpSocket, payload: &[u8]) -> anyhow::Result<()> {
    let slices: Vec<[IoSlice<'_>; 1]> = (0..BATCH).map(|_| [IoSlice::new(payload)]).collect();
    let mut headers = MultiHeaders::preallocate(slices.len(), None);
    let mut done = 0;
    while done < send.count {
        let batch = BATCH.min(send.count - done);
        let targets: Vec<Option<SockaddrStorage>> = (done..done + batch)
            .map(|number| Some(target(send, number).into()))
            .collect();
        let results = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &slices[..batch as usize],
            &targets,
            [],
            MsgFlags::empty(),
        )
        .with_context(|| format!("cannot send datagram {done}"))?;
        done += u32::try_from(results.count())?;
    }
    Ok(())
}

fn target(send: &UdpSend, number: u32) -> SocketAddr {
    let mut to = send.to;
    let offset = u16::try_from(number % u32::from(send.ports)).unwrap_or_default();
    to.set_port(to.port().wrapping_add(offset));
    to
}
