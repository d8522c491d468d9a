//! Hears of changes of a network namespace's rule set, and asks which generation
//! it is of.
//!
//! A netlink socket stays in the namespace in which it was made, so no thread has
//! to. It keeps that namespace alive, though: [`Watch`] is to be let go as soon as
//! nothing else holds the namespace.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

/// From `linux/netfilter/nf_tables.h`.
const NFTA_GEN_ID: u16 = 1;
/// `struct nlmsghdr`, and with it `struct nfgenmsg`.
const HEADER: usize = 16;
const HEADERS: usize = HEADER + 4;
/// How long the kernel may take to answer.
static PATIENCE: libc::timeval = libc::timeval {
    tv_sec: 1,
    tv_usec: 0,
};

/// Tells rule sets apart, those of a namespace that got the number of an
/// earlier one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The namespace's own number, which is never given again; 0 where the kernel
    /// does not tell it (before Linux 5.14).
    pub cookie: u64,
    /// Grows by one with every change of the rule set.
    pub id: u32,
}

impl Generation {
    /// Whether no rule set was ever made there:
    /// `base_seq` begins with 1 in
    /// [`nf_tables_init_net`](https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_tables_api.c).
    pub fn is_first(self) -> bool {
        self.id == 1
    }
}

/// What was told of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// This many changes, of elements of sets and maps only.
    Elements(u32),
    /// Anything.
    Any,
}

/// The sockets for one namespace.
#[derive(Debug)]
pub struct Watch {
    cookie: u64,
    asks: OwnedFd,
    hears: OwnedFd,
}

impl Watch {
    /// For the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, or has no nftables.
    pub fn here() -> io::Result<Self> {
        let asks = netfilter_socket(0)?;
        let changes = 1 << (libc::NFNLGRP_NFTABLES - 1);
        Ok(Self {
            cookie: cookie(&asks),
            asks,
            hears: netfilter_socket(changes)?,
        })
    }

    /// The present generation.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    pub fn generation(&self) -> io::Result<Generation> {
        let request = request();
        // SAFETY: the buffer is valid for its length.
        let sent = unsafe {
            libc::send(
                self.asks.as_raw_fd(),
                request.as_ptr().cast(),
                request.len(),
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = [0_u8; 4096];
        let len = receive(&self.asks, &mut answer, 0)?;
        Ok(Generation {
            cookie: self.cookie,
            id: parse(answer.get(..len).unwrap_or_default())?,
        })
    }

    /// What can be polled for changes.
    pub fn fd(&self) -> RawFd {
        self.hears.as_raw_fd()
    }

    /// What has changed since the last call.
    pub fn change(&self) -> Change {
        let mut seen = Change::None;
        let mut messages = vec![0_u8; 64 << 10];
        loop {
            match receive(&self.hears, &mut messages, libc::MSG_DONTWAIT) {
                Ok(len) => seen = seen.and(messages.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return seen,
                // More than the socket holds, or anything else.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => seen = Change::Any,
                Err(_) => return Change::Any,
            }
        }
    }
}

impl Change {
    /// With a datagram of netlink messages.
    fn and(mut self, mut messages: &[u8]) -> Self {
        const ELEMENT: [libc::c_int; 2] = [libc::NFT_MSG_NEWSETELEM, libc::NFT_MSG_DELSETELEM];
        while let Some((len, kind)) = length_and_type(messages) {
            let generations = match self {
                Self::None => 0,
                Self::Elements(generations) => generations,
                Self::Any => return Self::Any,
            };
            self = if kind == message_type(libc::NFT_MSG_NEWGEN) {
                Self::Elements(generations.saturating_add(1))
            } else if ELEMENT.map(message_type).contains(&kind) {
                Self::Elements(generations)
            } else {
                Self::Any
            };
            let len = len.next_multiple_of(4).max(HEADER);
            messages = messages.get(len..).unwrap_or_default();
        }
        self
    }
}

fn length_and_type(message: &[u8]) -> Option<(usize, u16)> {
    let len = u32::from_ne_bytes(*message.first_chunk()?);
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    Some((usize::try_from(len).ok()?.min(message.len()), kind))
}

/// Receives a datagram; of one that is not the kernel's, nothing.
pub(crate) fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
    flags: libc::c_int,
) -> io::Result<usize> {
    // SAFETY: zeros are a valid address.
    let mut sender: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    let mut size = len_of::<libc::sockaddr_nl>();
    // SAFETY: buffer and address are valid for their lengths.
    let len = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            flags,
            (&raw mut sender).cast(),
            &raw mut size,
        )
    };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    Ok(if sender.nl_pid == 0 { len } else { 0 })
}

/// A socket that is in these multicast groups.
pub(crate) fn netfilter_socket(groups: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the option's value is valid for its length.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const PATIENCE).cast(),
            len_of::<libc::timeval>(),
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeros are a valid address.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
    address.nl_groups = groups;
    // SAFETY: the address is valid for its length.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            len_of::<libc::sockaddr_nl>(),
        )
    };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// The number of the socket's namespace, 0 where the kernel does not tell.
fn cookie(socket: &OwnedFd) -> u64 {
    let mut cookie = 0_u64;
    let mut len = len_of::<u64>();
    // SAFETY: the value and its length are valid.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if got == 0 { cookie } else { 0 }
}

pub(crate) fn len_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default()
}

pub(crate) fn message_type(message: libc::c_int) -> u16 {
    u16::try_from(libc::NFNL_SUBSYS_NFTABLES << 8 | message).unwrap_or_default()
}

fn request() -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADERS);
    request.extend(u32::try_from(HEADERS).unwrap_or_default().to_ne_bytes());
    request.extend(message_type(libc::NFT_MSG_GETGEN).to_ne_bytes());
    let flags = u16::try_from(libc::NLM_F_REQUEST).unwrap_or_default();
    request.extend(flags.to_ne_bytes());
    // Sequence number, port, and family, version, resource: all zero.
    request.resize(HEADERS, 0);
    request
}

/// The generation in the kernel's answer.
fn parse(answer: &[u8]) -> io::Result<u32> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "an answer without a generation");
    let u16_at = |at: usize| Some(u16::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    let (_, message) = length_and_type(answer).ok_or_else(broken)?;
    if i32::from(message) == libc::NLMSG_ERROR {
        let error = answer.get(HEADER..).and_then(|rest| rest.first_chunk());
        let error = i32::from_ne_bytes(*error.ok_or_else(broken)?);
        return Err(io::Error::from_raw_os_error(error.saturating_neg()));
    }
    if message != message_type(libc::NFT_MSG_NEWGEN) {
        return Err(broken());
    }
    let mut at = HEADERS;
    while let (Some(len), Some(kind)) = (u16_at(at), u16_at(at + 2)) {
        if kind == NFTA_GEN_ID {
            let id = answer.get(at + 4..).and_then(|rest| rest.first_chunk());
            return id.map(|id| u32::from_be_bytes(*id)).ok_or_else(broken);
        }
        at += usize::from(len).next_multiple_of(4).max(4);
    }
    Err(broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 answered in a new namespace to which a table was added.
    const ANSWER: [u8; 48] = [
        48, 0, 0, 0, 15, 10, 0, 0, 0, 0, 0, 0, 35, 89, 0, 0, 0, 0, 0, 2, 8, 0, 1, 0, 0, 0, 0, 2, 8,
        0, 2, 0, 0, 0, 89, 35, 12, 0, 3, 0, 112, 121, 116, 104, 111, 110, 51, 0,
    ];

    #[test]
    fn the_generation_is_read_from_the_answer() {
        assert_eq!(parse(&ANSWER).unwrap(), 2);
        for len in 0..28 {
            assert!(parse(&ANSWER[..len]).is_err(), "{len}");
        }
        // An attribute without a length.
        let mut broken = ANSWER;
        broken[20..24].copy_from_slice(&[0, 0, 9, 0]);
        assert!(parse(&broken).is_err());
    }

    #[test]
    fn a_refusal_is_told_by_its_cause() {
        let mut refusal = [0_u8; 36];
        refusal[4] = 2;
        refusal[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        assert_eq!(
            parse(&refusal).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
    }

    #[test]
    fn changes_of_elements_are_told_apart() {
        let message = |kind: libc::c_int| {
            let mut message = ANSWER;
            message[4..6].copy_from_slice(&message_type(kind).to_ne_bytes());
            message
        };
        let [element, generation, rule] = [
            libc::NFT_MSG_NEWSETELEM,
            libc::NFT_MSG_NEWGEN,
            libc::NFT_MSG_NEWRULE,
        ]
        .map(message);
        let of = |messages: &[[u8; 48]]| Change::None.and(&messages.concat());
        assert_eq!(of(&[]), Change::None);
        assert_eq!(of(&[element, element, generation]), Change::Elements(1));
        let twice = [element, generation, element, generation];
        assert_eq!(of(&twice), Change::Elements(2));
        assert_eq!(of(&twice).and(&rule), Change::Any);
        assert_eq!(of(&[rule, generation]).and(&element), Change::Any);
        for len in 0..ANSWER.len() {
            Change::None.and(&element[..len]);
            let mut broken = element;
            broken[0] = u8::try_from(len).unwrap();
            Change::None.and(&broken);
        }
    }

    #[test]
    fn the_kernel_answers_or_refuses() {
        match Watch::here().and_then(|watch| Ok((watch.generation()?, watch))) {
            Ok((now, watch)) => assert_eq!(watch.generation().unwrap().cookie, now.cookie),
            // Not root, or a kernel without nf_tables.
            Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
        }
    }
}
