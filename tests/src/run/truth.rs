//! Reads the numbers that come from outside the tracer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::Context as _;

use crate::sandbox::Sandbox;
use crate::scenario::{NftCounter, Reading, Scenario};

/// Numbers by the name of their truth.
pub type Truths = BTreeMap<String, u64>;

/// Reads every truth of a scenario.
pub fn read(scenario: &Scenario, sandbox: &Sandbox) -> anyhow::Result<Truths> {
    // A guest takes long to start a program: one for all counters of a host.
    let mut listings = BTreeMap::new();
    scenario
        .truth
        .iter()
        .map(|(name, truth)| {
            let at = || format!("truth.{name}");
            let source = truth.source().with_context(at)?;
            let number = match source.reading {
                Reading::Shell(line) => {
                    let text = sandbox.shell(&source.r#in, &line, "").with_context(at)?;
                    text.trim().parse().with_context(|| {
                        format!(
                            "truth.{name}: `{line}` printed no number but `{}`",
                            text.trim()
                        )
                    })?
                }
                Reading::Nft(counter) => {
                    let listing = match listings.entry(source.r#in) {
                        Entry::Occupied(listing) => listing.into_mut(),
                        Entry::Vacant(place) => {
                            let text = sandbox.shell(place.key(), "nft list counters", "");
                            place.insert(text.with_context(at)?)
                        }
                    };
                    nft_counter(listing, &counter).with_context(at)?
                }
                Reading::Counter(counter) => sandbox
                    .host(&source.r#in)?
                    .run(|| kernel_counter(&counter))
                    .with_context(at)?,
            };
            Ok((name.clone(), number))
        })
        .collect()
}

/// A scenario's counter in what `nft list counters` prints.
fn nft_counter(listing: &str, counter: &NftCounter) -> anyhow::Result<u64> {
    let NftCounter {
        family,
        table,
        name,
        ..
    } = counter;
    let unit = if counter.bytes { "bytes" } else { "packets" };
    counter_in(listing, family, table, name, unit)
}

/// A counter in what `nft list counters` prints; `unit` is `packets` or `bytes`.
pub fn counter_in(
    listing: &str,
    family: &str,
    table: &str,
    name: &str,
    unit: &str,
) -> anyhow::Result<u64> {
    let mut lines = listing.lines();
    let found = lines.any(|line| *line == format!("table {family} {table} {{"))
        && lines
            .by_ref()
            .take_while(|line| *line != "}")
            .any(|line| *line == format!("\tcounter {name} {{"));
    let figures = lines
        .take_while(|line| found && *line != "\t}")
        .find(|line| line.starts_with("\t\tpackets "));
    let mut words = figures.unwrap_or("").split_whitespace();
    words
        .find(|word| *word == unit)
        .and_then(|_| words.next()?.parse().ok())
        .with_context(|| format!("`nft list counters` has no counter {name} in {family} {table}"))
}

/// A counter of the current network namespace, named as `nstat` names it
/// (`TcpExtListenOverflows`, `UdpRcvbufErrors`, `Udp6NoPorts`).
fn kernel_counter(name: &str) -> anyhow::Result<u64> {
    let read = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    let found = find_in_rows(&read("snmp")?, name)
        .or(find_in_rows(&read("netstat")?, name))
        .or(find_in_list(&read("snmp6").unwrap_or_default(), name));
    found.with_context(|| format!("the kernel has no counter {name}"))
}

/// `snmp` and `netstat`: pairs of lines, names and values, after a group's name.
fn find_in_rows(text: &str, name: &str) -> Option<u64> {
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks_exact(2).find_map(|pair| {
        let (group, names) = pair[0].split_once(':')?;
        let wanted = name.strip_prefix(group)?;
        let (_, values) = pair[1].split_once(':')?;
        let at = names.split_whitespace().position(|name| name == wanted)?;
        values.split_whitespace().nth(at)?.parse().ok()
    })
}

/// `snmp6`: a name and a value a line.
fn find_in_list(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(char::is_whitespace)?;
        (found == name).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::{find_in_list, find_in_rows, nft_counter};
    use crate::scenario::NftCounter;

    const NETSTAT: &str = "\
TcpExt: SyncookiesSent ListenOverflows
TcpExt: 0 3
IpExt: InNoRoutes InTruncatedPkts
IpExt: 7 0
";

    const COUNTERS: &str = "\
table ip four {
\tcounter first {
\t\tpackets 3 bytes 384
\t}
}
table inet filter {
\tcounter other {
\t\tpackets 4 bytes 512
\t}
\tcounter first {
\t\tcomment \"c\"
\t\tpackets 5 bytes 640
\t}
}
";

    #[test]
    fn counters_are_found_by_family_table_and_name() {
        let number = |family: &str, table: &str, name: &str, bytes| {
            let text = format!(
                "in = \"h\"\nfamily = \"{family}\"\ntable = \"{table}\"\nname = \"{name}\"\nbytes = {bytes}"
            );
            let counter: NftCounter = toml::from_str(&text).unwrap();
            nft_counter(COUNTERS, &counter).ok()
        };
        assert_eq!(number("ip", "four", "first", false), Some(3));
        assert_eq!(number("inet", "filter", "first", false), Some(5));
        assert_eq!(number("inet", "filter", "other", true), Some(512));
        assert_eq!(number("ip", "four", "other", false), None);
        assert_eq!(number("ip6", "four", "first", false), None);
    }

    #[test]
    fn rows_are_found_by_group_and_name() {
        assert_eq!(find_in_rows(NETSTAT, "TcpExtListenOverflows"), Some(3));
        assert_eq!(find_in_rows(NETSTAT, "IpExtInNoRoutes"), Some(7));
        assert_eq!(find_in_rows(NETSTAT, "IpExtListenOverflows"), None);
    }

    #[test]
    fn lists_are_found_by_name() {
        assert_eq!(
            find_in_list("Ip6InReceives 4\nUdp6NoPorts\t2\n", "Udp6NoPorts"),
            Some(2)
        );
    }
}
