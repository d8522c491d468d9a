//! From a socket's inode number to the process that holds it open.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use droptrace_types::{COMM_LEN, Detail};

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
    /// The process that holds the packet's socket; `None` if there is none, or
    /// if all processes were searched a moment ago.
    pub fn owner(&mut self, detail: &Detail) -> Option<Process> {
        let (inode, uid) = (detail.socket_inode, detail.socket_uid);
        if inode == 0 {
            return None;
        }
        if let Some(holder) = self.remembered.get(&inode) {
            if holder.still_holds(inode) {
                return Some(holder.process.clone());
            }
            self.remembered.remove(&inode);
        }
        let holder = match find_in_process(detail.task_pid, inode, uid) {
            // It held the socket when the packet was seen, and is gone by now.
            None if detail.socket_held != 0 => return Some(seen_then(detail)),
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

fn seen_then(detail: &Detail) -> Process {
    let len = detail
        .comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(COMM_LEN);
    Process {
        pid: detail.task_pid,
        comm: String::from_utf8_lossy(&detail.comm[..len]).into_owned(),
        uid: detail.socket_uid,
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

    fn detail(socket_inode: u64, task_pid: u32, socket_held: u8) -> Detail {
        // SAFETY: plain data, of which zeros are a valid value.
        let empty: Detail = unsafe { std::mem::zeroed() };
        let mut comm = [0; COMM_LEN];
        comm[..4].copy_from_slice(b"curl");
        Detail {
            socket_inode,
            socket_uid: 7,
            task_pid,
            socket_held,
            comm,
            ..empty
        }
    }

    #[test]
    fn a_socket_is_found_until_it_is_closed() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = inode(&socket);
        let mut sockets = Sockets::default();
        for hint in [process::id(), 0] {
            let owner = sockets.owner(&detail(inode, hint, 0)).unwrap();
            assert_eq!((owner.pid, owner.uid), (process::id(), 7));
        }
        assert!(held_by(&[process::id()]).contains(&inode));
        drop(socket);
        assert_eq!(sockets.owner(&detail(inode, process::id(), 0)), None);
    }

    #[test]
    fn a_process_that_is_gone_is_named_if_it_was_seen_with_the_socket() {
        let gone = u32::MAX;
        let owner = Sockets::default().owner(&detail(1, gone, 1)).unwrap();
        assert_eq!((owner.pid, &*owner.comm), (gone, "curl"));
    }

    #[test]
    fn without_an_inode_there_is_no_owner() {
        assert_eq!(Sockets::default().owner(&detail(0, process::id(), 1)), None);
    }
}
