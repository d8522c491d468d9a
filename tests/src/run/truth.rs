//! Reads the numbers that come from outside the tracer.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::sandbox::Sandbox;
use crate::scenario::{Reading, Scenario};

/// Numbers by the name of their truth.
pub type Truths = BTreeMap<String, u64>;

/// Reads every truth of a scenario.
pub fn read(scenario: &Scenario, sandbox: &Sandbox) -> anyhow::Result<Truths> {
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
                Reading::Counter(counter) => sandbox
                    .host(&source.r#in)?
                    .run(|| kernel_counter(&counter))
                    .with_context(at)?,
            };
            Ok((name.clone(), number))
        })
        .collect()
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
    use super::{find_in_list, find_in_rows};

    const NETSTAT: &str = "\
TcpExt: SyncookiesSent ListenOverflows
TcpExt: 0 3
IpExt: InNoRoutes InTruncatedPkts
IpExt: 7 0
";

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
