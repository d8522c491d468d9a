//! How does a guest run one command?

use std::{
    fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

use super::{
    end::Limits,
    image, initramfs,
    kernel::Kernel,
    machine::{self, Outputs, Ran},
    qemu,
};
use crate::{cmd, workspace::Workspace};

/// Runs a shell command as root in a guest with this machine's files, which it
/// may change for itself alone.
pub fn run(
    ws: &Workspace,
    kernel: &Kernel,
    command: &str,
    limits: Limits,
    outputs: &mut Outputs<'_>,
) -> Result<Ran> {
    let vmlinux = image::prepare(kernel)?;
    let busybox = cmd::find("busybox").context("there is no busybox on this machine")?;
    let folder = Folder::new(ws)?;
    let archive = initramfs::build(kernel, &busybox, command)?;
    let initramfs = folder.0.join(qemu::INITRAMFS);
    fs::write(&initramfs, archive)
        .with_context(|| format!("could not write {}", initramfs.display()))?;
    let qemu = || qemu::command(&vmlinux, &folder.0);
    machine::run(qemu, &folder.0, limits, outputs)
}

/// The folder of one run, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(ws: &Workspace) -> Result<Self> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let path = ws
            .kernels()
            .join("run")
            .join(format!("{}-{run}", process::id()));
        fs::create_dir_all(&path)
            .with_context(|| format!("could not make the folder {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is below target/ and harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
