//! Control groups (version 2): their identifiers and paths.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where the control groups are mounted, if nothing else is known.
const USUAL_ROOT: &str = "/sys/fs/cgroup";
/// Control groups below one that are selected with it at most.
const MAX_GROUPS: usize = 65_536;
/// Length of a container's identifier.
const CONTAINER_ID_LEN: usize = 64;

/// A control group that is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "--cgroup {}: there is no such control group ({error}); give a path below {}, \
     for example --cgroup system.slice/nginx.service", path.display(), root.display()
)]
pub struct UnknownCgroup {
    path: PathBuf,
    root: PathBuf,
    error: io::Error,
}

/// Identifiers of the group at `path` and of all below it. `path` is absolute
/// in the file system, or as in `/proc/PID/cgroup`, or that without its slash.
///
/// # Errors
///
/// If there is no such group.
pub fn tree(path: &Path) -> Result<Vec<u64>, UnknownCgroup> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let root = PathBuf::from(mount_point(&mounts).unwrap_or(USUAL_ROOT));
    let inside = if path.starts_with(&root) {
        path.to_owned()
    } else {
        root.join(path.strip_prefix("/").unwrap_or(path))
    };
    let unknown = |error| UnknownCgroup {
        path: path.to_owned(),
        root: root.clone(),
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

/// Whether control groups of version 2 are mounted here.
#[must_use]
pub fn is_mounted() -> bool {
    fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| mount_point(&mounts).is_some())
}

/// Where version 2 is mounted; beside version 1, that is a folder of its own.
/// <https://github.com/torvalds/linux/blob/v6.12/Documentation/filesystems/proc.rst>
fn mount_point(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let is_cgroup2 = kind.split(' ').next() == Some("cgroup2");
        mount.split(' ').nth(4).filter(|_| is_cgroup2)
    })
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

/// The container that all of these groups belong to; of several containers of
/// one Kubernetes pod, the pod's group.
#[must_use]
pub fn container_of_all(groups: &[String]) -> Option<String> {
    let (first, others) = groups.split_first()?;
    let of_first = container(first);
    if of_first.is_some() && others.iter().all(|group| container(group) == of_first) {
        return of_first;
    }
    let pod = Path::new(first).ancestors().find(|group| is_pod(group))?;
    let all = groups.iter().all(|group| Path::new(group).starts_with(pod));
    all.then(|| pod.to_string_lossy().into_owned())
}

/// `/kubepods.slice/…/kubepods-burstable-podUID.slice` or
/// `/kubepods/burstable/podUID`.
fn is_pod(group: &Path) -> bool {
    let name = group.file_name().and_then(|name| name.to_str());
    let is_one = name.is_some_and(|name| name.starts_with("pod") || name.contains("-pod"));
    let mut above = group.iter().filter_map(|part| part.to_str());
    is_one && above.any(|part| part.starts_with("kubepods"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_found_beside_version_1() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro\n\
                      31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n\
                      32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point("30 24 0:26 / / rw - ext4 /dev/vda rw\n"), None);
    }

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

    #[test]
    fn a_container_is_told_only_if_all_agree() {
        let ids = ["a", "b"].map(|digit| digit.repeat(64));
        let docker = ids
            .clone()
            .map(|id| format!("/system.slice/docker-{id}.scope"));
        let all = |groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
            container_of_all(&groups)
        };
        let inside = format!("{}/init.scope", docker[0]);
        assert_eq!(all(&[&docker[0], &inside]).as_ref(), Some(&ids[0]));
        assert_eq!(all(&[&docker[0], &docker[1]]), None);
        assert_eq!(all(&[&docker[0], "/user.slice"]), None);
        assert_eq!(all(&["/user.slice"]), None);
        assert_eq!(all(&[]), None);
        for pod in [
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8d0.slice",
            "/kubepods/besteffort/pod8d0",
        ] {
            let [app, pause] = ids
                .clone()
                .map(|id| format!("{pod}/cri-containerd-{id}.scope"));
            assert_eq!(all(&[&app, &pause]).as_deref(), Some(pod));
            assert_eq!(all(&[&app]).as_ref(), Some(&ids[0]));
            assert_eq!(all(&[&app, &docker[1]]), None);
        }
    }
}
