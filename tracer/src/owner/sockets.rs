//! From a socket's inode number to the process that holds it open.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use droptrace_types::{COMM_LEN, Detail, Sighting};

use super::cgroup;
use crate::event::Process;

/// Sockets that are remembered.
const MAX_REMEMBERED: usize = 4096;
/// A search through all processes may take one part in so many of the time.
const SEARCH_SHARE: u32 = 50;

/// Who holds which socket, as far as it was asked.
#[derive(Default)]
pub struct Sockets {
    remembered: HashMap<u64, Holder>,
    /// No search before then.
    not_before: Option<Instant>,
}

/// What the kernel side saw of a socket and of the process that was running.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    /// The socket's inode number, 0 where there is none.
    pub inode: u64,
    /// Who owns it.
    pub uid: u32,
    /// The process that was running.
    pub pid: u32,
    /// Which held it open.
    pub held: bool,
    /// What its thread was called.
    pub comm: [u8; COMM_LEN],
}

impl Trace {
    /// Of a packet.
    #[must_use]
    pub const fn of_packet(detail: &Detail) -> Self {
        Self {
            inode: detail.socket_inode,
            uid: detail.socket_uid,
            pid: detail.task_pid,
            held: detail.socket_held != 0,
            comm: detail.comm,
        }
    }

    /// Of a socket that took another state.
    #[must_use]
    pub const fn of_sighting(sighting: &Sighting) -> Self {
        Self {
            inode: sighting.socket_inode,
            uid: sighting.socket_uid,
            pid: sighting.task_pid,
            held: sighting.socket_held != 0,
            comm: sighting.comm,
        }
    }
}

/// Where a socket was found.
#[derive(Clone)]
struct Holder {
    process: Process,
    fd: String,
}

impl Holder {
    /// A process may have closed the socket, or be gone and its number reused.
    fn still_holds(&self, inode: u64) -> bool {
        is_socket(&format!("/proc/{}/fd/{}", self.process.pid, self.fd), inode)
    }
}

impl Sockets {
    /// The process that holds the socket; `None` if there is none, or if all processes
    /// were searched a moment ago.
    pub fn owner(&mut self, seen: &Trace) -> Option<Process> {
        let Trace { inode, uid, .. } = *seen;
        if inode == 0 {
            return None;
        }
        if let Some(holder) = self.remembered.get(&inode) {
            if holder.still_holds(inode) {
                return Some(holder.process.clone());
            }
            self.remembered.remove(&inode);
        }
        let holder = match find_in_process(seen.pid, inode, uid) {
            // It held the socket when the packet was seen, and is gone by now.
            None if seen.held => return Some(seen_then(seen)),
            None => self.search(inode, uid)?,
            Some(holder) => holder,
        };
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(inode, holder.clone());
        Some(holder.process)
    }

    /// Looks at every process.
    fn search(&mut self, inode: u64, uid: u32) -> Option<Holder> {
        let start = Instant::now();
        if self.not_before.is_some_and(|then| start < then) {
            return None;
        }
        let found = processes().find_map(|pid| find_in_process(pid, inode, uid));
        let took = start.elapsed().max(Duration::from_millis(1));
        self.not_before = Some(start + took * SEARCH_SHARE);
        found
    }
}

fn seen_then(seen: &Trace) -> Process {
    let len = seen
        .comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(COMM_LEN);
    Process {
        pid: seen.pid,
        comm: String::from_utf8_lossy(&seen.comm[..len]).into_owned(),
        uid: seen.uid,
        cgroup: None,
        container: None,
    }
}

/// Inode numbers of all sockets that the processes hold open.
#[must_use]
pub fn held_by(pids: &[u32]) -> Vec<u64> {
    let mut inodes: Vec<u64> = pids
        .iter()
        .flat_map(|pid| links_of(*pid))
        .filter_map(|(_, link)| socket_inode(&link))
        .collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

/// All processes.
pub(super) fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A process's open files: number and what it is.
pub(super) fn links_of(pid: u32) -> impl Iterator<Item = (String, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    entries.filter_map(|entry| {
        let link = fs::read_link(entry.path()).ok()?;
        Some((
            entry.file_name().into_string().ok()?,
            link.into_os_string().into_string().ok()?,
        ))
    })
}

fn find_in_process(pid: u32, inode: u64, uid: u32) -> Option<Holder> {
    if pid == 0 {
        return None;
    }
    let (fd, _) = links_of(pid).find(|(_, link)| socket_inode(link) == Some(inode))?;
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let cgroup = cgroup::of_process(pid);
    let process = Process {
        pid,
        comm: comm.trim_end_matches('\n').to_owned(),
        uid,
        container: cgroup.as_deref().and_then(cgroup::container),
        cgroup,
    };
    Some(Holder { process, fd })
}

fn is_socket(path: &str, inode: u64) -> bool {
    fs::read_link(path).is_ok_and(|link| link.to_str().and_then(socket_inode) == Some(inode))
}

fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsRawFd, process};

    use super::*;

    fn inode(socket: &UdpSocket) -> u64 {
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        socket_inode(link.to_str().unwrap()).unwrap()
    }

    fn seen(inode: u64, pid: u32, held: bool) -> Trace {
        let mut comm = [0; COMM_LEN];
        comm[..4].copy_from_slice(b"curl");
        Trace {
            inode,
            uid: 7,
            pid,
            held,
            comm,
        }
    }

    #[test]
    fn a_socket_is_found_until_it_is_closed() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = inode(&socket);
        let mut sockets = Sockets::default();
        for hint in [process::id(), 0] {
            let owner = sockets.owner(&seen(inode, hint, false)).unwrap();
            assert_eq!((owner.pid, owner.uid), (process::id(), 7));
        }
        assert!(held_by(&[process::id()]).contains(&inode));
        drop(socket);
        assert_eq!(sockets.owner(&seen(inode, process::id(), false)), None);
    }

    #[test]
    fn a_process_that_is_gone_is_named_if_it_was_seen_with_the_socket() {
        let gone = u32::MAX;
        let owner = Sockets::default().owner(&seen(1, gone, true)).unwrap();
        assert_eq!((owner.pid, &*owner.comm), (gone, "curl"));
    }

    #[test]
    fn without_an_inode_there_is_no_owner() {
        assert_eq!(
            Sockets::default().owner(&seen(0, process::id(), true)),
            None
        );
    }
}
