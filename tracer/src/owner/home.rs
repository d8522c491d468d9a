//! Whose a network namespace is: the name that it has, the container in it.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{cgroup, netns, sockets};

/// Namespaces that are remembered.
const MAX_REMEMBERED: usize = 4096;
/// Looking at all processes may take one part in so many of the time.
const SHARE: u32 = 50;
/// What was found is believed for so long without another look.
const FRESH: Duration = Duration::from_millis(100);
/// After this time all processes are looked at again: one more may be in it.
const STALE: Duration = Duration::from_secs(10);

/// What is known of a namespace beside its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// Its name (`ip netns`).
    pub name: Option<String>,
    /// The container, or the pod's control group, that all of its processes
    /// belong to.
    pub container: Option<String>,
}

/// The namespaces, as far as they were asked for.
#[derive(Debug, Default)]
pub struct Homes {
    remembered: HashMap<u32, Seen>,
    /// When all processes were last looked at.
    looked: Option<Instant>,
    not_before: Option<Instant>,
}

/// What was found, and where.
#[derive(Debug)]
struct Seen {
    home: Home,
    /// Files that stand for the namespace while what was found is true.
    witnesses: Vec<PathBuf>,
    checked: Instant,
}

impl Homes {
    /// Whose the namespace with this inode number is.
    pub fn of(&mut self, inode: u32) -> Home {
        let now = Instant::now();
        let is_stale = self.looked.is_none_or(|then| now - then > STALE);
        let seen = self.remembered.get_mut(&inode);
        let is_true = seen.is_some_and(|seen| seen.is_still_true(inode, now));
        if !is_true {
            self.remembered.remove(&inode);
        }
        if (is_stale || !is_true) && self.not_before.is_none_or(|then| now >= then) {
            self.look(now);
        }
        if self.remembered.len() < MAX_REMEMBERED {
            // What has neither name nor container is remembered as well.
            let seen = self.remembered.entry(inode);
            seen.or_insert_with(|| Seen::nothing(now)).home.clone()
        } else {
            let seen = self.remembered.get(&inode);
            seen.map_or_else(Home::default, |seen| seen.home.clone())
        }
    }

    /// Looks at the names and at all processes.
    fn look(&mut self, now: Instant) {
        self.remembered.clear();
        for (inode, place) in netns::named() {
            let name = place.file_name().map(|name| name.to_string_lossy());
            let seen = self.remembered.entry(inode);
            let seen = seen.or_insert_with(|| Seen::nothing(now));
            seen.home.name = name.map(Into::into);
            seen.witnesses.push(place);
        }
        let mut groups: HashMap<u32, BTreeSet<Option<String>>> = HashMap::new();
        let mut places: HashMap<u32, PathBuf> = HashMap::new();
        let own = netns::own();
        for pid in sockets::processes() {
            let place = PathBuf::from(format!("/proc/{pid}/ns/net"));
            let Some(inode) = netns::inode_at(&place).filter(|inode| *inode != own) else {
                continue;
            };
            if groups.contains_key(&inode) || groups.len() < MAX_REMEMBERED {
                groups
                    .entry(inode)
                    .or_default()
                    .insert(cgroup::of_process(pid));
                places.entry(inode).or_insert(place);
            }
        }
        for (inode, groups) in groups {
            let seen = self.remembered.entry(inode);
            let seen = seen.or_insert_with(|| Seen::nothing(now));
            let groups: Option<Vec<String>> = groups.into_iter().collect();
            seen.home.container = groups.and_then(|groups| cgroup::container_of_all(&groups));
            seen.witnesses.extend(places.remove(&inode));
        }
        let took = now.elapsed().max(Duration::from_millis(1));
        self.looked = Some(now);
        self.not_before = Some(now + took * SHARE);
    }
}

impl Seen {
    fn nothing(checked: Instant) -> Self {
        Self {
            home: Home::default(),
            witnesses: Vec::new(),
            checked,
        }
    }

    /// A namespace may be gone and its number given again.
    fn is_still_true(&mut self, inode: u32, now: Instant) -> bool {
        if now - self.checked > FRESH {
            self.checked = now;
            let is_it = |place: &PathBuf| netns::inode_at(Path::new(place)) == Some(inode);
            return !self.witnesses.is_empty() && self.witnesses.iter().all(is_it);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_namespace_without_name_and_container_has_neither() {
        let mut homes = Homes::default();
        assert_eq!(homes.of(1), Home::default());
        assert_eq!(homes.of(netns::own()), Home::default());
        let command = ["-n", "sleep", "60"];
        let child = Command::new("unshare")
            .args(command)
            .stderr(Stdio::null())
            .spawn();
        if let Ok(mut child) = child {
            let place = format!("/proc/{}/ns/net", child.id());
            let inode = netns::inode_at(Path::new(&place));
            assert_eq!(homes.of(inode.unwrap_or(1)).name, None);
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn what_was_found_is_believed_only_while_it_is_there() {
        let now = Instant::now();
        let mut seen = Seen::nothing(now);
        seen.witnesses.push(PathBuf::from(netns::OWN));
        let later = now + 2 * FRESH;
        assert!(seen.is_still_true(1, now));
        assert!(seen.is_still_true(netns::own(), later));
        assert!(!seen.is_still_true(1, later + 2 * FRESH));
    }
}
