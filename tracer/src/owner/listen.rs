//! How often listeners of a network namespace had no room for a connection.

use std::{collections::HashMap, fs, path::PathBuf};

use super::netns;

/// Namespaces that are remembered.
const MAX_NAMESPACES: usize = 64;

/// What the kernel counted in each namespace since it was first asked.
#[derive(Default)]
pub struct Overflows {
    /// Where the namespace was found, and the first answer.
    first: HashMap<u32, (PathBuf, u64)>,
}

impl Overflows {
    /// How much the counter `TcpExtListenOverflows` of this namespace has risen since the
    /// first call; `None` where it cannot be read.
    pub fn since_first(&mut self, inode: u32) -> Option<u64> {
        let known = self.first.get(&inode).map(|(path, _)| path.clone());
        let (path, file) = match known {
            Some(path) => netns::open_at(&path, inode)?,
            None if self.first.len() < MAX_NAMESPACES => netns::open(inode)?,
            None => return None,
        };
        let text = netns::enter(&file, || {
            fs::read_to_string("/proc/thread-self/net/netstat")
        });
        let now = counter(&text.ok()?.ok()?, "TcpExt:", "ListenOverflows")?;
        let (_, first) = self.first.entry(inode).or_insert((path, now));
        Some(now.saturating_sub(*first))
    }
}

/// A counter of `/proc/net/netstat`, which has a line of names and a line of numbers for
/// each group.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|word| word == name)?;
    numbers.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_stands_below_its_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\n\
                    IpExt: InNoRoutes\nIpExt: 7\n";
        assert_eq!(counter(text, "TcpExt:", "ListenOverflows"), Some(22));
        assert_eq!(counter(text, "IpExt:", "InNoRoutes"), Some(7));
        assert_eq!(counter(text, "IpExt:", "ListenOverflows"), None);
        assert_eq!(
            counter("TcpExt: ListenOverflows\n", "TcpExt:", "ListenOverflows"),
            None
        );
    }

    #[test]
    fn nothing_overflows_in_the_own_namespace_meanwhile() {
        let mut overflows = Overflows::default();
        assert_eq!(overflows.since_first(netns::own()), Some(0));
    }
}
