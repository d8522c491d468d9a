//! `raw_send`: puts frames on `eth0` as they are.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send as send_bytes, socket};

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
    // Protocol 0: it receives nothing, so it copies no other packet.
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context("cannot open a packet socket")?;
    bind(socket.as_raw_fd(), DEV)?;
    for number in 0..raw.count {
        let id = u16::try_from(number % 0xffff)? + 1;
        let frame = frame(raw, link_address(own), link_address(peer), id);
        send_bytes(socket.as_raw_fd(), &frame, MsgFlags::empty())
            .with_context(|| format!("cannot send frame {number}"))?;
    }
    Ok(())
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
