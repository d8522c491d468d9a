//! Which rule set it is: of which network namespace, of which generation.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// From `linux/netfilter/nf_tables.h`.
const NFTA_GEN_ID: u16 = 1;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS: usize = 16 + 4;
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
    /// Grows with every change of the rule set.
    pub id: u32,
}

impl Generation {
    /// That of the calling thread's network namespace.
    pub fn now() -> io::Result<Self> {
        let socket = netfilter_socket()?;
        let cookie = cookie(&socket);
        let request = request();
        // SAFETY: the buffer is valid for its length.
        let sent = unsafe {
            libc::send(
                socket.as_raw_fd(),
                request.as_ptr().cast(),
                request.len(),
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = [0_u8; 4096];
        // SAFETY: the buffer is valid for its length.
        let len = unsafe {
            libc::recv(
                socket.as_raw_fd(),
                answer.as_mut_ptr().cast(),
                answer.len(),
                0,
            )
        };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        let id = parse(answer.get(..len).unwrap_or_default())?;
        Ok(Self { cookie, id })
    }
}

pub(crate) fn netfilter_socket() -> io::Result<OwnedFd> {
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

fn len_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default()
}

fn message_type(message: libc::c_int) -> u16 {
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
    let message = u16_at(4).ok_or_else(broken)?;
    if i32::from(message) == libc::NLMSG_ERROR {
        let error = answer.get(16..).and_then(|rest| rest.first_chunk());
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
    fn the_kernel_answers_or_refuses() {
        match Generation::now() {
            Ok(now) => assert_eq!(Generation::now().unwrap().cookie, now.cookie),
            // Not root, or a kernel without nf_tables.
            Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
        }
    }
}
