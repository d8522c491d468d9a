//! What starts a guest, and how does it get here?

use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use object::Object as _;

use super::{archive::Archive, qemu};
use crate::{apt, cmd, tools, workspace::Workspace};

/// Each program, and Debian's package of it.
const TOOLS: [tools::Tool; 8] = [
    (qemu::PROGRAM, "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("modprobe", "kmod"),
    ("setpriv", "util-linux"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("lz4", "lz4"),
];

/// Finds or installs all of them; the error names what is missing.
pub fn ensure(ws: &Workspace) -> Result<()> {
    if env::consts::ARCH != "x86_64" {
        bail!("guests are started on x86-64 only");
    }
    tools::ensure_all(&TOOLS, "guests", |packages| install(ws, packages))?;
    let busybox = cmd::find("busybox").context("there is no busybox on this machine")?;
    let program =
        fs::read(&busybox).with_context(|| format!("could not read {}", busybox.display()))?;
    if object::File::parse(&*program)?
        .section_by_name(".interp")
        .is_some()
    {
        bail!(
            "{} needs libraries, which a guest does not have when it starts; \
             install Debian's package busybox-static in its place",
            busybox.display()
        );
    }
    Ok(())
}

/// From the backports of the machine's release where there are any: an older
/// QEMU emulates some instructions wrongly, and guests die of that.
fn install(ws: &Workspace, packages: &[&str]) -> Result<()> {
    if cmd::is_root()
        && let Ok(backports) = Archive::of_backports(ws)
        && backports.stale().is_none()
        && backports.install(packages).is_ok()
    {
        return Ok(());
    }
    apt::install(packages)
}
