//! A namespace's connection tracking table as a whole.

use std::{fs, str::FromStr};

/// Where its numbers and settings stand.
const SETTINGS: &str = "/proc/sys/net/netfilter/nf_conntrack_";
/// Counters, a line for each CPU, hexadecimal. Of the thread's own namespace:
/// `/proc/net` is that of the process.
const COUNTERS: &str = "/proc/thread-self/net/stat/nf_conntrack";

/// How full it is, what it has counted, how it is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Entries.
    pub count: u64,
    /// Entries that there may be; 0 for any number.
    pub max: u64,
    /// What was counted; `None` where the kernel does not show it.
    pub counted: Option<Counted>,
    /// `nf_conntrack_tcp_loose`: connections are picked up in the middle.
    pub tcp_loose: Option<bool>,
    /// `nf_conntrack_tcp_be_liberal`: windows do not matter.
    pub tcp_be_liberal: Option<bool>,
}

/// Packets since the namespace was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// That were called invalid, ICMP errors included.
    pub invalid: u64,
    /// That it dropped.
    pub dropped: u64,
}

impl Table {
    /// That of the calling thread's network namespace; `None` where nothing tracks.
    #[must_use]
    pub fn of_this_namespace() -> Option<Self> {
        Some(Self {
            count: setting("count")?,
            max: setting("max")?,
            counted: fs::read_to_string(COUNTERS)
                .ok()
                .and_then(|text| Counted::parse(&text)),
            tcp_loose: setting("tcp_loose").map(|set: u8| set != 0),
            tcp_be_liberal: setting("tcp_be_liberal").map(|set: u8| set != 0),
        })
    }

    /// Whether it has no room left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.max != 0 && self.count >= self.max
    }
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = fs::read_to_string(format!("{SETTINGS}{name}")).ok()?;
    text.trim().parse().ok()
}

impl Counted {
    /// From the text of `/proc/net/stat/nf_conntrack`.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next()?.split_whitespace().collect();
        let rows: Vec<Vec<u64>> = lines
            .map(|line| {
                let number = |word| u64::from_str_radix(word, 16).unwrap_or_default();
                line.split_whitespace().map(number).collect()
            })
            .collect();
        let sum = |name: &str| {
            let column = names.iter().position(|known| *known == name)?;
            Some(rows.iter().filter_map(|row| row.get(column)).sum::<u64>())
        };
        Some(Self {
            invalid: sum("invalid")? + sum("icmp_error").or_else(|| sum("error"))?,
            dropped: sum("drop")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_all_cpus() {
        let text = "entries  clashres found new invalid ignore delete chainlength insert \
            insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete \
            search_restart\n\
            00000010  00000000 00000000 00000000 0000000a 00000000 00000000 00000000 00000000 \
            00000000 00000002 00000000 00000001  00000000 00000000 00000000 00000000\n\
            00000010  00000000 00000000 00000000 00000001 00000000 00000000 00000000 00000000 \
            00000000 00000003 00000000 00000000  00000000 00000000 00000000 00000000\n";
        let counted = Counted::parse(text).unwrap();
        assert_eq!((counted.invalid, counted.dropped), (12, 5));
        assert_eq!(Counted::parse("entries found\n00000001 00000002\n"), None);
        assert_eq!(Counted::parse(""), None);
    }

    #[test]
    fn a_table_without_a_limit_is_never_full() {
        let table = |count, max| Table {
            count,
            max,
            ..Table::default()
        };
        assert!(table(5, 5).is_full());
        assert!(!table(4, 5).is_full());
        assert!(!table(4, 0).is_full());
    }
}
