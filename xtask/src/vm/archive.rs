//! Where do kernels and their tools come from? From the Debian archive that
//! this machine's own package sources name, through apt, which checks the
//! archive's signature and each package's hash.
//!
//! Other suites than the machine's are asked with lists and caches of their
//! own, so that what the machine installs from stays as it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::base::{Base, Part};
use crate::{cmd, ui, workspace::Workspace};

/// Suites that have kernels. Those of a release lie in its security archive:
/// the main archive keeps only what was newest at the last point release.
const KERNEL_SUITES: [(Part, &str); 5] = [
    (Part::Security, "bullseye-security"),
    (Part::Security, "bookworm-security"),
    (Part::Security, "trixie-security"),
    (Part::Main, "trixie-backports"),
    (Part::Main, "sid"),
];

/// Lists older than this are fetched again.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// apt with lists of its own.
#[derive(Debug)]
pub struct Archive {
    folder: PathBuf,
    /// Why the lists are not up to date, if they are not.
    stale: Option<String>,
    /// The suite to install from, unless by version.
    preferred: Option<String>,
}

impl Archive {
    /// The suites with kernels.
    pub fn of_kernels(ws: &Workspace) -> Result<Self> {
        let base = Base::of_this_machine()?;
        let mut sources = String::new();
        for (part, suite) in KERNEL_SUITES {
            sources.push_str(&base.line(part, suite));
        }
        Self::open(ws.kernels().join("apt"), &sources)
    }

    /// This machine's own release with its backports, the latter preferred.
    pub fn of_backports(ws: &Workspace) -> Result<Self> {
        let base = Base::of_this_machine()?;
        let name = &base.codename;
        let sources = [
            base.line(Part::Main, name),
            base.line(Part::Main, &format!("{name}-updates")),
            base.line(Part::Security, &format!("{name}-security")),
            base.line(Part::Main, &format!("{name}-backports")),
        ];
        let mut archive = Self::open(ws.kernels().join("apt-backports"), &sources.concat())?;
        archive.preferred = Some(format!("{name}-backports"));
        Ok(archive)
    }

    fn open(folder: PathBuf, sources: &str) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part)
                .with_context(|| format!("could not make the folder {}", part.display()))?;
        }
        let list = folder.join("sources.list");
        let stamp = folder.join("updated");
        // Left alone when they would not change: apt keeps its index for their dates.
        let unchanged =
            |file: &Path, content: &str| fs::read_to_string(file).is_ok_and(|old| old == content);
        let same_sources = unchanged(&list, sources);
        for (file, content) in [(&list, sources), (&folder.join(CONFIG), &config(&folder))] {
            if !unchanged(file, content) {
                fs::write(file, content)
                    .with_context(|| format!("could not write {}", file.display()))?;
            }
        }
        let mut archive = Self {
            folder,
            stale: None,
            preferred: None,
        };
        if same_sources && is_fresh(&stamp) {
            return Ok(archive);
        }
        let update = ui::work("package lists", "fetching", "fetched", || {
            // Otherwise apt-get takes an unreachable source for a success.
            let mut update = archive.apt("apt-get");
            update.args(["-q", "update", "--error-on=any"]);
            cmd::run(&mut update, "fetch the package lists of Debian's kernels")
        });
        match update {
            Ok(()) => fs::write(&stamp, "")
                .with_context(|| format!("could not write {}", stamp.display()))?,
            // Some of the sources may have answered.
            Err(error) => archive.stale = Some(format!("{error:#}")),
        }
        Ok(archive)
    }

    /// Why the lists are not up to date, if they are not.
    pub fn stale(&self) -> Option<&str> {
        self.stale.as_deref()
    }

    /// Names of packages that begin so.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let mut names = self.apt("apt-cache");
        names.args(["pkgnames", prefix]);
        let names = cmd::ask(&mut names)
            .with_context(|| format!("could not ask apt for packages named {prefix}…"))?;
        Ok(names.lines().map(ToOwned::to_owned).collect())
    }

    /// Every version of these packages.
    pub fn packages(&self, names: &[&str]) -> Result<Vec<Package>> {
        let mut show = self.apt("apt-cache");
        show.arg("show").args(names);
        let text = cmd::ask(&mut show)
            .with_context(|| format!("could not ask apt about {}", names.join(", ")))?;
        Ok(text.split("\n\n").filter_map(Package::parse).collect())
    }

    /// Whether there is this version of a package.
    pub fn has(&self, name: &str, version: &str) -> bool {
        self.packages(&[name])
            .is_ok_and(|packages| packages.iter().any(|package| package.version == version))
    }

    /// Puts the packages, each as `NAME=VERSION`, into the folder.
    pub fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        let mut download = self.apt("apt-get");
        download
            .current_dir(into)
            .args(["-q", "download"])
            .args(packages);
        cmd::run(&mut download, "fetch Debian packages")
    }

    /// Installs packages on this machine; never removes one.
    pub fn install(&self, packages: &[&str]) -> Result<()> {
        let mut install = self.apt("apt-get");
        install
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-o", "DPkg::Lock::Timeout=120"])
            .args(["install", "-y", "--no-install-recommends", "--no-remove"]);
        if let Some(suite) = &self.preferred {
            install.args(["-t", suite]);
        }
        cmd::run(install.args(packages), "install Debian packages")
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        // Read behind the machine's own configuration.
        apt.arg("--config-file").arg(self.folder.join(CONFIG));
        apt
    }
}

/// In the archive's folder.
const CONFIG: &str = "apt.conf";

/// What differs from the machine's own configuration.
fn config(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "Dir::State::lists \"{folder}/lists\";\n\
         Dir::Cache \"{folder}/cache\";\n\
         // Containers are set up without these, which spare a second a question.\n\
         Dir::Cache::pkgcache \"pkgcache.bin\";\n\
         Dir::Cache::srcpkgcache \"srcpkgcache.bin\";\n\
         Dir::Etc::sourcelist \"{folder}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n\
         Acquire::Languages \"none\";\n\
         // Descriptions of programs with windows.\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         // The user _apt could not write below the checkout.\n\
         APT::Sandbox::User \"\";\n\
         // What the machine does behind an update of its own lists.\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n"
    )
}

fn is_fresh(stamp: &Path) -> bool {
    let age = |file: fs::Metadata| file.modified().ok()?.elapsed().ok();
    stamp
        .metadata()
        .ok()
        .and_then(age)
        .is_some_and(|age| age < FRESH)
}

/// A version of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// Names of the packages it needs.
    pub depends: Vec<String>,
}

impl Package {
    fn parse(stanza: &str) -> Option<Self> {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let depends = field("Depends").unwrap_or_default();
        Some(Self {
            name: field("Package")?.to_owned(),
            version: field("Version")?.to_owned(),
            depends: depends
                .split([',', '|'])
                .filter_map(|one| one.split_whitespace().next())
                .map(ToOwned::to_owned)
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_is_read_from_its_stanza() {
        let package = Package::parse(
            "Package: linux-image-7.2-x\nVersion: 7.2-1\nInstalled-Size: 3\n\
             Depends: dracut | initramfs-tools (>= 0.120), linux-base-7.2-x (= 7.2-1)\n",
        )
        .unwrap();
        assert_eq!(package.version, "7.2-1");
        assert_eq!(
            package.depends,
            ["dracut", "initramfs-tools", "linux-base-7.2-x"]
        );
        assert_eq!(Package::parse("Package: x\n"), None);
    }
}
