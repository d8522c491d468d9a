//! Which programs do the scenarios and the demo use, and which are missing?

use anyhow::{Context as _, Result, anyhow};

use crate::{apt, cmd, ui};

/// Each program, and Debian's package of it.
const TOOLS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("iptables-legacy", "iptables"),
    ("ip6tables", "iptables"),
    ("python3", "python3"),
];

/// Finds or installs all of them; the error names what is missing.
pub fn ensure() -> Result<()> {
    let (missing, packages) = missing(cmd::which);
    if missing.is_empty() {
        let names: Vec<_> = TOOLS.iter().map(|(tool, _)| *tool).collect();
        ui::found(&names.join(", "));
        return Ok(());
    }
    let names = missing.join(", ");
    ui::work(&names, "installing", "installed", || {
        apt::install(&packages)
    })
    .with_context(|| {
        format!(
            "tools for the scenarios and the demo are missing: {names}; install them with `{}`",
            apt::command_line(&packages)
        )
    })?;
    match self::missing(cmd::which).0.as_slice() {
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
fn missing(is_there: impl Fn(&str) -> bool) -> (Vec<&'static str>, Vec<&'static str>) {
    let missing: Vec<_> = TOOLS.iter().filter(|(tool, _)| !is_there(tool)).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    (missing.iter().map(|(tool, _)| *tool).collect(), packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_once_and_only_for_missing_tools() {
        let (tools, packages) = missing(|tool| !matches!(tool, "iptables" | "ip6tables" | "tc"));
        assert_eq!(tools, ["tc", "iptables", "ip6tables"]);
        assert_eq!(packages, ["iproute2", "iptables"]);
        assert_eq!(missing(|_| true), (vec![], vec![]));
    }
}
