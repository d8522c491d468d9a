//! Which programs do the scenarios and the demo use, and which are missing?

use anyhow::{Context as _, Result, anyhow};

use crate::{apt, cmd, ui};

/// A program, and Debian's package of it.
pub type Tool = (&'static str, &'static str);

const TOOLS: [Tool; 9] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("iptables-legacy", "iptables"),
    ("ip6tables", "iptables"),
    ("ebtables-legacy", "ebtables"),
    ("ping", "iputils-ping"),
    ("python3", "python3"),
];

/// Finds or installs all of them; the error names what is missing.
pub fn ensure() -> Result<()> {
    ensure_all(&TOOLS, "the scenarios and the demo", apt::install)
}

/// Finds the tools, or installs their packages; the error names what is missing.
pub fn ensure_all(
    tools: &[Tool],
    purpose: &str,
    install: impl FnOnce(&[&str]) -> Result<()>,
) -> Result<()> {
    let (absent, packages) = missing(tools, cmd::which);
    if absent.is_empty() {
        let names: Vec<_> = tools.iter().map(|(tool, _)| *tool).collect();
        ui::found(&names.join(", "));
        return Ok(());
    }
    let names = absent.join(", ");
    ui::work(&names, "installing", "installed", || install(&packages)).with_context(|| {
        format!(
            "tools for {purpose} are missing: {names}; install them with `{}`",
            apt::command_line(&packages)
        )
    })?;
    match missing(tools, cmd::which).0.as_slice() {
        [] => Ok(()),
        still => Err(anyhow!(
            "still missing after installing {}: {}",
            packages.join(" "),
            still.join(", ")
        )),
    }
}

/// As [`ensure`], for verbs that do without: the runner skips what it cannot
/// set up and says so.
pub fn ensure_or_warn() {
    if let Err(error) = ensure() {
        eprintln!("warning: {error:#}");
        eprintln!("warning: scenarios that need them will be skipped");
    }
}

/// The programs that are not there, and the packages to install for them.
fn missing(
    tools: &[Tool],
    is_there: impl Fn(&str) -> bool,
) -> (Vec<&'static str>, Vec<&'static str>) {
    let missing: Vec<_> = tools.iter().filter(|(tool, _)| !is_there(tool)).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    (missing.iter().map(|(tool, _)| *tool).collect(), packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_once_and_only_for_missing_tools() {
        let (tools, packages) = missing(&TOOLS, |tool| {
            !matches!(tool, "iptables" | "ip6tables" | "tc")
        });
        assert_eq!(tools, ["tc", "iptables", "ip6tables"]);
        assert_eq!(packages, ["iproute2", "iptables"]);
        assert_eq!(missing(&TOOLS, |_| true), (vec![], vec![]));
    }
}
