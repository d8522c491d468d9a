//! A network namespace that lives as long as somebody holds its file
//! descriptor: no name, no mount, nothing to clean up.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use anyhow::{Context as _, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace.
pub struct NetNs {
    file: File,
    /// Its inode number, as in `where.netns`.
    pub inode: u64,
}

impl NetNs {
    /// A new, empty namespace.
    pub fn new() -> anyhow::Result<Self> {
        // A thread of its own, because the namespace of a thread that has seen
        // the host's must not change.
        let file = in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
            File::open("/proc/thread-self/ns/net").context("cannot open the new network namespace")
        })?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode })
    }

    /// Runs `work` inside. Only `/proc/thread-self/net` shows this namespace
    /// there, `/proc/net` does not.
    pub fn run<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        in_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .context("cannot enter a network namespace")?;
            work()
        })
    }

    /// A path that names it for `ip link … netns`, while this process lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn in_thread<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    thread::scope(|scope| {
        scope
            .spawn(work)
            .join()
            .unwrap_or_else(|_| Err(anyhow!("panicked inside a network namespace")))
    })
}
