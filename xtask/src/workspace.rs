//! Where do things lie: the checkout, what is built, what is installed?

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::build::Form;

/// The checkout that this xtask was built from.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Cargo says where; a binary started without cargo remembers where it was built.
    pub fn find() -> Result<Self> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir
            .parent()
            .filter(|root| root.join("tracer-ebpf/Cargo.toml").is_file())
            .with_context(|| {
                format!(
                    "no droptrace checkout around {}; start xtask as `cargo xtask` inside one",
                    manifest_dir.display()
                )
            })?;
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Always below the checkout, whatever `CARGO_TARGET_DIR` says: droptrace's
    /// build script looks for the kernel object at a fixed place.
    pub fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Tools of the project's own, so that nobody's cargo home changes.
    pub fn tools(&self) -> PathBuf {
        self.target().join("tools")
    }

    /// The kernel programs have a target folder of their own: two compilers
    /// that share one throw away each other's work.
    pub fn bpf_target(&self) -> PathBuf {
        self.target().join("bpf")
    }

    /// A kernel object that droptrace's build script embeds.
    pub fn kernel_object(&self, form: Form) -> PathBuf {
        self.bpf_target().join(form.file)
    }

    /// A program of the user side, in the release profile.
    pub fn release(&self, program: &str) -> PathBuf {
        self.target().join("release").join(program)
    }

    /// Kernels to test on, and what they were fetched with.
    pub fn kernels(&self) -> PathBuf {
        self.target().join("kernels")
    }

    pub fn scenarios(&self) -> PathBuf {
        self.root.join("tests/scenarios")
    }
}
