//! How are Debian packages installed, and when is that possible?

use std::process::Command;

use anyhow::{Result, bail};

use crate::cmd;

/// Installs the packages in one call, or says why this user or this machine
/// cannot. Never asks, never removes another package.
pub fn install(packages: &[&str]) -> Result<()> {
    if !cmd::which("apt-get") {
        bail!("there is no apt-get on this machine");
    }
    if !cmd::is_root() {
        bail!("apt-get needs root");
    }
    // Fresh containers come without package lists, old ones with lists that
    // name versions which are gone.
    let known = cmd::ask(Command::new("apt-cache").arg("show").args(packages)).is_some();
    if known && get("install", packages).is_ok() {
        return Ok(());
    }
    get("update", &[])?;
    get("install", packages)
}

/// The command line a user would type.
pub fn command_line(packages: &[&str]) -> String {
    format!(
        "sudo apt-get install --no-install-recommends {}",
        packages.join(" ")
    )
}

fn get(verb: &str, packages: &[&str]) -> Result<()> {
    let mut apt_get = Command::new("apt-get");
    apt_get
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Another apt may be at work, as on a machine that just started.
        .args(["-q", "-o", "DPkg::Lock::Timeout=120"])
        .args(["-o", "Dpkg::Use-Pty=0", verb]);
    if !packages.is_empty() {
        apt_get
            .args(["-y", "--no-install-recommends", "--no-remove"])
            .args(packages);
    }
    cmd::run(&mut apt_get, &format!("{verb} Debian packages"))
}
