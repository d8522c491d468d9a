//! Where each file of the package lies.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::source::Source;
use crate::{cmd, workspace::Workspace};

/// Completions, as they are made and as they are installed.
const COMPLETIONS: [(&str, &str); 3] = [
    (
        "droptrace.bash",
        "usr/share/bash-completion/completions/droptrace",
    ),
    ("_droptrace", "usr/share/zsh/vendor-completions/_droptrace"),
    (
        "droptrace.fish",
        "usr/share/fish/vendor_completions.d/droptrace.fish",
    ),
];

const DOC: &str = "usr/share/doc/droptrace";

/// The files of the package, below a folder as they will lie below `/`.
pub struct Files {
    pub root: PathBuf,
}

impl Files {
    pub fn lay(ws: &Workspace, folder: &Path, source: &Source) -> Result<Self> {
        let files = Self {
            root: folder.join("files"),
        };
        let program = files.copy(&ws.release("droptrace"), "usr/bin/droptrace", 0o755)?;
        let mut strip = Command::new("strip");
        strip.args(["--remove-section=.comment", "--remove-section=.note"]);
        cmd::run(strip.arg(&program), "strip droptrace (package binutils)")?;
        let packaging = ws.root().join("packaging");
        for (from, to) in [
            (
                "droptrace.service",
                "usr/lib/systemd/system/droptrace.service",
            ),
            ("droptrace.sysusers", "usr/lib/sysusers.d/droptrace.conf"),
            ("droptrace.toml", "etc/droptrace/droptrace.toml"),
        ] {
            files.copy(&packaging.join(from), to, 0o644)?;
        }
        for (from, to) in COMPLETIONS {
            files.copy(&folder.join("completions").join(from), to, 0o644)?;
        }
        for page in list(&folder.join("man"))? {
            files.packed(&page, "usr/share/man/man1", &fs::read(&page)?)?;
        }
        files.documentation(ws, source)?;
        Ok(files)
    }

    fn documentation(&self, ws: &Workspace, source: &Source) -> Result<()> {
        self.copy(
            &ws.root().join("README.md"),
            &format!("{DOC}/README.md"),
            0o644,
        )?;
        for page in list(&ws.root().join("docs"))? {
            let name = page.file_name().unwrap_or_default().to_string_lossy();
            self.copy(&page, &format!("{DOC}/docs/{name}"), 0o644)?;
        }
        let changelog = ws.root().join("CHANGELOG.md");
        self.packed(&changelog, DOC, &fs::read(&changelog)?)?;
        let debian = format!(
            "droptrace ({}) unstable; urgency=medium\n\n  * What users see change is in \
             CHANGELOG.md.\n\n -- {}  {}\n",
            source.version, source.author, source.date
        );
        self.packed(Path::new("changelog"), DOC, debian.as_bytes())?;
        self.copy(
            &ws.root().join("packaging/debian/copyright"),
            &format!("{DOC}/copyright"),
            0o644,
        )?;
        Ok(())
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<PathBuf> {
        let content =
            fs::read(from).with_context(|| format!("could not read {}", from.display()))?;
        self.write(to, &content, mode)
    }

    /// Compressed, with nothing in it but the content.
    fn packed(&self, name: &Path, folder: &str, content: &[u8]) -> Result<PathBuf> {
        let name = name.file_name().unwrap_or_default().to_string_lossy();
        self.write(&format!("{folder}/{name}.gz"), &gzip(content)?, 0o644)
    }

    fn write(&self, to: &str, content: &[u8], mode: u32) -> Result<PathBuf> {
        let to = self.root.join(to);
        let write = || -> std::io::Result<()> {
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&to, content)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(mode))
        };
        write().with_context(|| format!("could not write {}", to.display()))?;
        Ok(to)
    }
}

/// Files of a folder, in order.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("could not list {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(what)? {
        files.push(entry.with_context(what)?.path());
    }
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

/// By the program, which every Debian has; as large as a pipe takes or larger.
fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("gzip")
        .args(["-9", "-n", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start gzip")?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(content)));
        child.wait_with_output()
    })
    .context("could not read what gzip makes")?;
    if !output.status.success() {
        bail!("gzip ended with {}", output.status);
    }
    Ok(output.stdout)
}
