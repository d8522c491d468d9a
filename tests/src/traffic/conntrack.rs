//! `fill_conntrack`: fills the connection tracking table of the namespace.
//!
//! The limit belongs to the machine and is not touched, but the kernel counts
//! entries by namespace. So entries are added over netlink (as `conntrack -I`
//! does) until this namespace has as many as the machine allows. They are
//! "assured", which keeps the kernel from evicting them for a new connection.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket,
};

use crate::scenario::FillConntrack;

/// Messages handed to the kernel at a time.
const BATCH: u32 = 512;

/// `nfnetlink` subsystem "conntrack" (high byte), message "new".
const CT_NEW: u16 = 1 << 8;
/// `NLM_F_REQUEST | NLM_F_CREATE`.
const REQUEST_CREATE: u16 = 0x1 | 0x400;
const NESTED: u16 = 1 << 15;
/// `IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED`.
const STATUS: u32 = 2 | 4 | 8;
/// Seconds; the namespace is gone long before.
const TIMEOUT: u32 = 600;

/// `fill_conntrack`.
pub fn fill(fill: &FillConntrack) -> anyhow::Result<()> {
    let max = read("nf_conntrack_max")?;
    if max > fill.at_most {
        bail!(
            "the table has room for {max} connections, more than {}",
            fill.at_most
        );
    }
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )
    .context("cannot open a netlink socket")?;
    // An entry can be refused (its hash chain is too long): try others.
    let mut number = 0;
    while read("nf_conntrack_count")? < max {
        if number > max * 2 {
            bail!(
                "cannot fill the table: {} of {max}",
                read("nf_conntrack_count")?
            );
        }
        let batch: Vec<u8> = (number..number + BATCH).flat_map(message).collect();
        number += BATCH;
        sendto(
            socket.as_raw_fd(),
            &batch,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )
        .context("cannot add connections")?;
    }
    Ok(())
}

fn read(name: &str) -> anyhow::Result<u32> {
    let path = format!("/proc/sys/net/netfilter/{name}");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().parse()?)
}

/// The request for connection `number`: UDP between addresses for
/// documentation (RFC 5737) and benchmarks (RFC 2544).
fn message(number: u32) -> Vec<u8> {
    let [high, b, c, d] = number.to_be_bytes();
    let (here, here_port) = ([198, 18, c, d], 1024 + u16::from(b) + u16::from(high) * 256);
    let (there, there_port) = ([203, 0, 113, 1], 9);
    let body = [
        attribute(1 | NESTED, &tuple(here, here_port, there, there_port)),
        attribute(2 | NESTED, &tuple(there, there_port, here, here_port)),
        attribute(3, &STATUS.to_be_bytes()),
        attribute(7, &TIMEOUT.to_be_bytes()),
    ]
    .concat();
    let mut message = Vec::new();
    let length = u32::try_from(16 + 4 + body.len()).unwrap_or_default();
    message.extend(length.to_ne_bytes());
    message.extend(CT_NEW.to_ne_bytes());
    message.extend(REQUEST_CREATE.to_ne_bytes());
    message.extend([0; 8]); // sequence number, port
    message.extend([2, 0, 0, 0]); // AF_INET, version, resource
    message.extend(body);
    message
}

fn tuple(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> Vec<u8> {
    let ip = [attribute(1, &src), attribute(2, &dst)].concat();
    let proto = [
        attribute(1, &[17]),
        attribute(2, &sport.to_be_bytes()),
        attribute(3, &dport.to_be_bytes()),
    ]
    .concat();
    [attribute(1 | NESTED, &ip), attribute(2 | NESTED, &proto)].concat()
}

/// A netlink attribute, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or_default();
    let mut attribute = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}
