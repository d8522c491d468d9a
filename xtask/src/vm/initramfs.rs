//! What does a guest start with? busybox, the modules that reach the host's
//! file system, and a script that makes it the root.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result, bail};
use cpio::newc;

use super::{image, kernel::Kernel};
use crate::cmd;

/// Becomes the guest's first process.
const INIT: &str = include_str!("init.sh");
/// Runs the command once the root is in place.
const GO: &str = include_str!("go.sh");

/// The buses, the ports and the file systems that the script uses.
const MODULES: [&str; 6] = [
    "virtio_pci",
    "virtio_console",
    "virtio_rng",
    "9pnet_virtio",
    "9p",
    "overlay",
];

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// Packs everything; `command` is what a shell shall do.
pub fn build(kernel: &Kernel, busybox: &Path, command: &str) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for folder in ["bin", "dev", "proc", "sys", "mod", "host", "over", "new"] {
        add(&mut archive, folder, DIRECTORY, &[])?;
    }
    let busybox =
        fs::read(busybox).with_context(|| format!("could not read {}", busybox.display()))?;
    add(&mut archive, "bin/busybox", EXECUTABLE, &busybox)?;
    add(&mut archive, "init", EXECUTABLE, INIT.as_bytes())?;
    add(&mut archive, "go", EXECUTABLE, GO.as_bytes())?;
    add(&mut archive, "command", EXECUTABLE, command.as_bytes())?;
    let places = format!(
        "release={}\nmodules={}\n",
        quote(&kernel.release),
        quote(&kernel.modules.to_string_lossy())
    );
    add(&mut archive, "places", EXECUTABLE, places.as_bytes())?;
    let mut order = String::new();
    for path in modules(kernel)? {
        let file = Path::new(&path);
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_end_matches(".xz").trim_end_matches(".zst");
        add(
            &mut archive,
            &format!("mod/{name}"),
            EXECUTABLE,
            &image::module(file)?,
        )?;
        order.push_str(name);
        order.push('\n');
    }
    add(&mut archive, "mod/order", EXECUTABLE, order.as_bytes())?;
    newc::trailer(&mut archive).context("could not pack the guest's first files")?;
    Ok(archive)
}

/// Paths of the modules, each behind what it needs.
fn modules(kernel: &Kernel) -> Result<Vec<String>> {
    let base = kernel.modules.ancestors().nth(3).unwrap_or(Path::new("/"));
    let mut show = cmd::tool("modprobe");
    show.arg("-d").arg(base).args(["-S", &kernel.release]);
    show.args(["-a", "--show-depends"]).args(MODULES);
    let shown = cmd::ask(&mut show).with_context(|| {
        format!(
            "kernel {} lacks one of the modules {}",
            kernel.release,
            MODULES.join(", ")
        )
    })?;
    let modules = in_order(&shown);
    if modules.is_empty() {
        bail!("kernel {} says nothing about its modules", kernel.release);
    }
    Ok(modules)
}

/// From lines `insmod PATH` and `builtin NAME`, each path once.
fn in_order(shown: &str) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for path in shown
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "))
    {
        let path = path.trim();
        if !paths.iter().any(|known| known == path) {
            paths.push(path.to_owned());
        }
    }
    paths
}

fn add(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let pack = || -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let mut file = newc::Builder::new(name).mode(mode).write(archive, size);
        io::Write::write_all(&mut file, content)?;
        file.finish()?;
        Ok(())
    };
    pack().with_context(|| format!("could not pack {name} for the guest"))
}

/// As one word of a shell.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_once_and_in_order() {
        assert_eq!(
            in_order("insmod /a/one.ko \nbuiltin two\ninsmod /a/three.ko.xz \ninsmod /a/one.ko \n"),
            ["/a/one.ko", "/a/three.ko.xz"]
        );
    }

    #[test]
    fn archive_holds_what_was_added() {
        let mut archive = Vec::new();
        add(&mut archive, "bin", DIRECTORY, &[]).unwrap();
        add(&mut archive, "bin/x", EXECUTABLE, b"content").unwrap();
        newc::trailer(&mut archive).unwrap();
        let mut names = Vec::new();
        let mut rest = &archive[..];
        loop {
            let reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push((reader.entry().name().to_owned(), reader.entry().file_size()));
            rest = reader.finish().unwrap();
        }
        assert_eq!(names, [("bin".to_owned(), 0), ("bin/x".to_owned(), 7)]);
    }

    #[test]
    fn quoted_word_stays_one_word() {
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
    }
}
