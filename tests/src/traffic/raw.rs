//! `raw_send`: puts frames on `eth0` as they are.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send as send_bytes, socket};
use nix::unistd::Pid;

use super::frame::frame;
use crate::scenario::{Raw, link_address};

const DEV: &str = "eth0";

/// `raw_send`.
pub fn send(raw: &Raw) -> anyhow::Result<()> {
    let own = match raw.from {
        // The receiver does not look at the sender's link address.
        IpAddr::V4(addr) => addr,
        IpAddr::V6(_) => Ipv4Addr::LOCALHOST,
    };
    let peer = match (raw.via, raw.to) {
        (Some(via), _) => via,
        (None, IpAddr::V4(to)) => to,
        (None, IpAddr::V6(_)) => bail!("an IPv6 frame needs `via`, the receiver's IPv4 address"),
    };
    let send_frame = |socket: &OwnedFd, raw: &Raw, number: u32| {
        let id = u16::try_from(number % 0xffff)? + 1;
        let frame = frame(raw, link_address(own), link_address(peer), id);
        send_bytes(socket.as_raw_fd(), &frame, MsgFlags::empty())
            .with_context(|| format!("cannot send frame {number}"))?;
        anyhow::Ok(())
    };
    let Some(racers) = raw.racers else {
        let socket = open()?;
        return (0..raw.count).try_for_each(|number| send_frame(&socket, raw, number));
    };
    let ready = AtomicU32::new(0);
    let ready = &ready;
    let racer = |cpu: u32| {
        let socket = open()?;
        run_undisturbed(cpu)?;
        let mut raw = raw.clone();
        for number in 0..raw.count {
            ready.fetch_add(1, Ordering::SeqCst);
            while ready.load(Ordering::SeqCst) < (number + 1) * racers {
                std::hint::spin_loop();
            }
            send_frame(&socket, &raw, number)?;
            raw.sport += 1;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..racers)
            .map(|cpu| scope.spawn(move || racer(cpu)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| bail!("a sending thread panicked"))
        })
    })
}

/// Keeps the thread on one processor, before all others that want it.
fn run_undisturbed(cpu: u32) -> anyhow::Result<()> {
    let this = Pid::from_raw(0);
    let mut cpus = CpuSet::new();
    cpus.set(usize::try_from(cpu)?)?;
    sched_setaffinity(this, &cpus).context("cannot choose a processor")?;
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: `first` is valid for the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) };
    Errno::result(result).context("cannot come before other threads")?;
    Ok(())
}

/// Protocol 0: it receives nothing, so it copies no other packet.
pub fn open() -> anyhow::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context("cannot open a packet socket")?;
    bind(socket.as_raw_fd(), DEV)?;
    Ok(socket)
}

fn bind(socket: i32, dev: &str) -> anyhow::Result<()> {
    let index =
        nix::net::if_::if_nametoindex(dev).with_context(|| format!("no interface {dev}"))?;
    // SAFETY: all-zero bytes are a valid `sockaddr_ll`.
    let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    addr.sll_family = u16::try_from(libc::AF_PACKET)?;
    addr.sll_ifindex = i32::try_from(index)?;
    let length = u32::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: `addr` is a `sockaddr_ll` and `length` its size.
    let result = unsafe { libc::bind(socket, (&raw const addr).cast(), length) };
    Errno::result(result).with_context(|| format!("cannot bind to {dev}"))?;
    Ok(())
}
