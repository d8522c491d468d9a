//! BPF programs on netfilter hooks, which accept or drop every packet. Since
//! Linux 6.4.

use std::{io, os::fd::OwnedFd};

use super::syscall;

/// What a program does with a packet: `NF_DROP` or `NF_ACCEPT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Drops it.
    Drop = 0,
    /// Lets it pass.
    Accept = 1,
}

/// A program that has the same verdict for every packet.
pub struct Program(OwnedFd);

/// A program at work on a hook; dropping it takes it off.
pub struct Link {
    _link: OwnedFd,
}

impl Program {
    /// Loads it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, which it does where it has no such programs.
    pub fn load(verdict: Verdict) -> io::Result<Self> {
        let name = match verdict {
            Verdict::Drop => c"drop_all",
            Verdict::Accept => c"accept_all",
        };
        syscall::load_netfilter(verdict as i32, name).map(Self)
    }

    /// Puts it on a hook for IPv4 in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn attach(&self, hook: u8, priority: i32) -> io::Result<Link> {
        let link = syscall::attach_netfilter(&self.0, u32::from(hook), priority)?;
        Ok(Link { _link: link })
    }
}
