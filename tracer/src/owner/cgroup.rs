//! Control groups (version 2): their identifiers and paths.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where the control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Control groups below one that are selected with it at most.
const MAX_GROUPS: usize = 65_536;
/// Length of a container's identifier.
const CONTAINER_ID_LEN: usize = 64;

/// A control group that is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "--cgroup {}: there is no such control group ({error}); give a path below {ROOT}, \
     for example --cgroup system.slice/nginx.service", path.display()
)]
pub struct UnknownCgroup {
    path: PathBuf,
    error: io::Error,
}

/// Identifiers of the group at `path` and of all below it. `path` is absolute
/// in the file system, or as in `/proc/PID/cgroup`, or that without its slash.
///
/// # Errors
///
/// If there is no such group.
pub fn tree(path: &Path) -> Result<Vec<u64>, UnknownCgroup> {
    let inside = if path.starts_with(ROOT) {
        path.to_owned()
    } else {
        Path::new(ROOT).join(path.strip_prefix("/").unwrap_or(path))
    };
    let unknown = |error| UnknownCgroup {
        path: path.to_owned(),
        error,
    };
    // The inode number of a group's folder is its identifier.
    // <https://github.com/torvalds/linux/blob/v6.12/include/linux/kernfs.h>
    let group = fs::metadata(&inside).map_err(unknown)?;
    if !group.is_dir() {
        return Err(unknown(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    let mut ids = vec![group.ino()];
    let mut open = vec![inside];
    while let Some(folder) = open.pop() {
        // Groups may vanish meanwhile.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Ok(group) = entry.metadata()
                && ids.len() < MAX_GROUPS
            {
                ids.push(group.ino());
                open.push(entry.path());
            }
        }
    }
    Ok(ids)
}

/// The group of a process; `None` where it is gone or has none.
#[must_use]
pub fn of_process(pid: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

/// The container that a group belongs to: container managers put its
/// identifier, 64 hexadecimal digits, into the group's name.
#[must_use]
pub fn container(cgroup: &str) -> Option<String> {
    cgroup
        .rsplit(|c: char| !c.is_ascii_hexdigit())
        .find(|word| word.len() == CONTAINER_ID_LEN)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_the_usual_managers_are_recognised() {
        let id = "0123456789abcdef".repeat(4);
        for group in [
            format!("/system.slice/docker-{id}.scope"),
            format!("/docker/{id}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods/burstable/pod8d0/{id}/init"),
        ] {
            assert_eq!(container(&group), Some(id.clone()), "{group}");
        }
        assert_eq!(container("/system.slice/nginx.service"), None);
        assert_eq!(container(&format!("/docker/{id}0")), None);
    }
}
