//! Which kernel is meant by `6.12`, and where does it lie once it is here?

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context as _, Result, bail};

use super::archive::{Archive, Package};
use crate::{cmd, ui, workspace::Workspace};

/// The architecture's name at Debian, which is the only one that boots here.
const ARCH: &str = "amd64";

/// What a user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The newest kernel of all.
    Newest,
    /// The newest kernel of a series, such as `6.12`.
    Series(String),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "newest" {
            return Ok(Self::Newest);
        }
        let parts: Vec<_> = text.split('.').collect();
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if parts.len() == 2 && parts.iter().all(is_number) {
            Ok(Self::Series(text.to_owned()))
        } else {
            Err("a kernel is a series such as 6.12, or `newest`".to_owned())
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Newest => "newest",
            Self::Series(series) => series,
        })
    }
}

/// An unpacked kernel.
#[derive(Debug, Default)]
pub struct Kernel {
    /// As `uname -r` says it.
    pub release: String,
    /// What was unpacked.
    pub folder: PathBuf,
    /// Its modules, in a folder named by the release.
    pub modules: PathBuf,
    /// The compressed image.
    pub vmlinuz: PathBuf,
}

/// Finds or fetches the kernel.
pub fn ensure(ws: &Workspace, archive: &Archive, wanted: &Wanted) -> Result<Kernel> {
    let names = archive.names("linux-image-")?;
    let names: Vec<_> = names
        .iter()
        .filter(|name| release_of(name).is_some_and(|release| fits(release, wanted)))
        .map(String::as_str)
        .collect();
    let found = if names.is_empty() {
        None
    } else {
        newest(archive.packages(&names)?, is_newer)
    };
    let Some(package) = found else {
        let reason = archive.stale().map_or_else(
            || "Debian's suites have none; name another series".to_owned(),
            |stale| format!("the package lists are incomplete: {stale}"),
        );
        bail!("could not find a kernel for `{wanted}`: {reason}");
    };
    let folder = ws.kernels().join(&package.name);
    if let Ok(kernel) = Kernel::find(&folder) {
        ui::found(&format!("kernel {}", kernel.release));
        return Ok(kernel);
    }
    ui::work(&package.name, "fetching", "fetched", || {
        unpack(archive, &package, &folder)
    })
    .with_context(|| format!("could not fetch the kernel for `{wanted}`"))?;
    Kernel::find(&folder)
}

/// In one go: an interrupted download leaves no half a kernel.
fn unpack(archive: &Archive, package: &Package, folder: &Path) -> Result<()> {
    let half = folder.with_extension("new");
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    let (packages, unpacked) = (half.join("packages"), half.join("unpacked"));
    fs::create_dir_all(&packages)?;
    fs::create_dir_all(&unpacked)?;
    let mut parts = parts(package);
    // Not every part that is named is in the archive, nor is it always needed:
    // the first kernels that name one still hold everything themselves.
    parts.retain(|part| *part == package.name || archive.has(part, &package.version));
    let parts: Vec<_> = parts
        .iter()
        .map(|part| format!("{part}={}", package.version))
        .collect();
    archive.download(&parts, &packages)?;
    for file in fs::read_dir(&packages)? {
        let mut extract = Command::new("dpkg-deb");
        extract.arg("--extract").arg(file?.path()).arg(&unpacked);
        cmd::run(&mut extract, "unpack a Debian package")?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&unpacked, folder)?;
    fs::remove_dir_all(half)?;
    Ok(())
}

/// The image's package and those that it is split into, if it is.
fn parts(package: &Package) -> Vec<String> {
    let suffix = package.name.trim_start_matches("linux-image-");
    ["image", "base", "modules", "binary"]
        .iter()
        .map(|part| format!("linux-{part}-{suffix}"))
        .filter(|name| *name == package.name || package.depends.contains(name))
        .collect()
}

/// The release in the name of an image's package: plain kernels only, neither
/// flavours nor packages that stand for the newest of a series.
fn release_of(package: &str) -> Option<&str> {
    let release = package
        .strip_prefix("linux-image-")?
        .strip_suffix(ARCH)?
        .strip_suffix('-')?;
    let last = release.rsplit('-').next()?;
    let is_plain = release.split('.').count() > 2
        && [release, last]
            .iter()
            .all(|part| part.starts_with(|c: char| c.is_ascii_digit()));
    is_plain.then_some(release)
}

fn fits(release: &str, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Newest => true,
        Wanted::Series(series) => release
            .strip_prefix(series.as_str())
            .is_some_and(|rest| rest.starts_with('.')),
    }
}

fn newest(packages: Vec<Package>, is_newer: impl Fn(&str, &str) -> bool) -> Option<Package> {
    packages.into_iter().reduce(|newest, other| {
        if is_newer(&other.version, &newest.version) {
            other
        } else {
            newest
        }
    })
}

/// By Debian's own rules.
fn is_newer(version: &str, than: &str) -> bool {
    let mut compare = Command::new("dpkg");
    compare.args(["--compare-versions", version, "gt", than]);
    cmd::ask(&mut compare).is_some()
}

impl Kernel {
    /// What lies where differs between Debian's releases.
    fn find(folder: &Path) -> Result<Self> {
        let modules = ["usr/lib/modules", "lib/modules"]
            .iter()
            .filter_map(|place| fs::read_dir(folder.join(place)).ok())
            .find_map(|mut entries| entries.find_map(Result::ok))
            .with_context(|| format!("there are no modules in {}", folder.display()))?
            .path();
        let release = modules.file_name().unwrap_or_default().to_string_lossy();
        let boot = folder.join("boot").join(format!("vmlinuz-{release}"));
        let vmlinuz = [boot, modules.join("vmlinuz")]
            .into_iter()
            .find(|file| file.is_file())
            .with_context(|| format!("there is no kernel image in {}", folder.display()))?;
        Ok(Self {
            release: release.into_owned(),
            folder: folder.to_path_buf(),
            vmlinuz,
            modules,
        })
    }
}

#[cfg(test)]
mod tests;
