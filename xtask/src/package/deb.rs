//! From files to a Debian package.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{depends, files::Files, source::Source};
use crate::{cmd, workspace::Workspace};

/// What dpkg runs, each from `packaging/debian`.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Files that stay as an administrator has changed them.
const CONFFILES: &str = "/etc/droptrace/droptrace.toml\n";

/// Packs the files, and returns the package.
pub fn build(ws: &Workspace, files: &Files, folder: &Path, source: &Source) -> Result<PathBuf> {
    if !cmd::which("dpkg-deb") {
        bail!("dpkg-deb is not here, which makes Debian packages; do this on Debian or Ubuntu");
    }
    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("Debian's name of the architecture {other} is not known here"),
    };
    let control = files.root.join("DEBIAN");
    let write = |name: &str, text: &str, mode: u32| -> Result<()> {
        let file = control.join(name);
        fs::write(&file, text)
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("could not write {}", file.display()))
    };
    let depends = depends::of(&files.root.join("usr/bin/droptrace"))?;
    let size = kibibytes(&files.root)?;
    fs::create_dir_all(&control).context("could not make the package's control folder")?;
    for script in SCRIPTS {
        let from = ws.root().join("packaging/debian").join(script);
        let text = fs::read_to_string(&from)
            .with_context(|| format!("could not read {}", from.display()))?;
        write(script, &text, 0o755)?;
    }
    write("conffiles", CONFFILES, 0o644)?;
    write("md5sums", &sums(&files.root)?, 0o644)?;
    write(
        "control",
        &format!(
            "Package: droptrace\nVersion: {}\nArchitecture: {architecture}\nMaintainer: {}\n\
             Installed-Size: {size}\n\
             Depends: {depends}, systemd | systemd-standalone-sysusers | systemd-sysusers\n\
             Recommends: iptables, nftables\nSection: net\nPriority: optional\n\
             Description: says why Linux dropped or reset a packet\n\
             \u{20}For each packet that this machine drops, resets or sends again, droptrace says\n\
             \u{20}which flow it belongs to, the kernel's reason, the place in the kernel, the\n\
             \u{20}netfilter rule and the process that holds the socket. It runs on demand, or as\n\
             \u{20}a daemon that feeds a monitoring agent.\n",
            source.version, source.author
        ),
        0o644,
    )?;
    let package = folder.join(format!("droptrace_{}_{architecture}.deb", source.version));
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group", "-Zxz", "--build"])
        .args([&files.root, &package])
        .env("SOURCE_DATE_EPOCH", &source.epoch);
    cmd::run(&mut pack, "pack the Debian package")?;
    Ok(package)
}

/// Files of the package, as it lists them.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("could not list {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(what)? {
        let path = entry.with_context(what)?.path();
        if path.is_dir() {
            found.extend(below(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// As dpkg counts: each file in whole blocks.
fn kibibytes(root: &Path) -> Result<u64> {
    let mut size = 0;
    for file in below(root)? {
        size += fs::metadata(&file)?.len().div_ceil(1024);
    }
    Ok(size)
}

/// For `dpkg --verify`.
fn sums(root: &Path) -> Result<String> {
    let files = below(root)?;
    let names = files.iter().filter_map(|file| file.strip_prefix(root).ok());
    let names: Vec<&Path> = names
        .filter(|name| !name.starts_with("DEBIAN") && !name.starts_with("etc"))
        .collect();
    let mut md5sum = Command::new("md5sum");
    md5sum.current_dir(root).args(names);
    let sums = cmd::ask(&mut md5sum).context("could not run md5sum over the files")?;
    Ok(sums + "\n")
}
