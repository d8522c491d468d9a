//! Where is the Debian archive? Where this machine's own package sources say.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::cmd;

/// Signs every suite of the archive; package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What apt says about each of its sources, in this order.
const FIELDS: &str = "$(REPO_URI) $(RELEASE) $(CODENAME) $(COMPONENT)";

/// A part of the archive with an address of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Main,
    Security,
}

/// Addresses of the parts of the archive, as this machine reaches them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// This machine's release.
    pub codename: String,
    main: Option<String>,
    security: Option<String>,
}

impl Base {
    pub fn of_this_machine() -> Result<Self> {
        let mut ask = Command::new("apt-get");
        ask.args(["indextargets", "--format", FIELDS, "Created-By: Packages"]);
        let targets = cmd::ask(&mut ask).context(
            "could not ask apt for this machine's package sources; \
             kernels to test on come from the Debian archive",
        )?;
        let codename = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = codename
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .unwrap_or_default();
        let base = Self::parse(&targets, codename);
        if base.main.is_none() || base.security.is_none() {
            bail!(
                "this machine's package sources name no Debian archive with its security \
                 updates (`apt-get indextargets` shows them); kernels to test on come from there"
            );
        }
        Ok(base)
    }

    fn parse(targets: &str, codename: &str) -> Self {
        let mut base = Self {
            codename: codename.to_owned(),
            ..Self::default()
        };
        for target in targets.lines() {
            let fields: Vec<_> = target.split(' ').collect();
            let [address, release, name, "main"] = fields[..] else {
                continue;
            };
            let is = |suite: &str| release == suite || name == suite;
            let part = if is(codename) {
                &mut base.main
            } else if is(&format!("{codename}-security")) {
                &mut base.security
            } else {
                continue;
            };
            part.get_or_insert_with(|| address.to_owned());
        }
        base
    }

    /// A line of a list of sources.
    pub fn line(&self, part: Part, suite: &str) -> String {
        let address = match part {
            Part::Main => &self.main,
            Part::Security => &self.security,
        };
        let address = address.as_deref().unwrap_or_default();
        format!("deb [signed-by={KEYRING}] {address} {suite} main\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_is_found_among_other_sources() {
        let base = Base::parse(
            "tool://other/node nodistro nodistro main\n\
             tool://mirror/debian/ bookworm-updates bookworm-updates main\n\
             tool://mirror/debian/ bookworm bookworm contrib\n\
             tool://mirror/debian/ oldstable bookworm main\n\
             tool://mirror/security/ bookworm-security bookworm-security main\n",
            "bookworm",
        );
        assert_eq!(
            base.line(Part::Main, "sid"),
            format!("deb [signed-by={KEYRING}] tool://mirror/debian/ sid main\n")
        );
        assert_eq!(base.security.as_deref(), Some("tool://mirror/security/"));
        assert_eq!(Base::parse("", "bookworm").main, None);
    }
}
