//! Which Rust compiler builds the kernel programs?
//!
//! The BPF target has no standard library to download, so `core` has to come
//! from somewhere. Two ways, the first that is complete is taken:
//!
//! 1. a nightly toolchain of rustup's with the component `rust-src`, from which
//!    cargo builds `core` (`-Z build-std`);
//! 2. Debian's compiler for web engines with its ready-made `core`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, anyhow};

use crate::{apt, cmd, linker, ui, workspace::Workspace};

pub const TARGET: &str = "bpfel-unknown-none";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// A nightly whose LLVM is the one that `linker::VERSION` is made for.
const KNOWN_NIGHTLY: &str = "nightly-2026-05-20";

/// A compiler that has all it takes.
#[derive(Debug)]
pub struct Compiler {
    way: Way,
    /// Where its libraries lie; bpf-linker uses one of them.
    pub sysroot: PathBuf,
    version: String,
}

#[derive(Debug)]
enum Way {
    /// Name of a rustup toolchain.
    Nightly(String),
    Debian,
}

impl Compiler {
    /// `cargo build` for the BPF target; packages and profile are the caller's.
    pub fn cargo_build(&self, ws: &Workspace) -> Command {
        let mut build = match &self.way {
            Way::Nightly(toolchain) => {
                let mut build = rustup_run(toolchain, "cargo");
                build.args(["build", "-Z", "build-std=core"]);
                build.current_dir(ws.root());
                build
            }
            Way::Debian => {
                let mut build = cmd::cargo(ws);
                // aya-ebpf uses assembler for BPF, which is unstable (E0554).
                build.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", DEBIAN_RUSTC);
                build.arg("build");
                build
            }
        };
        build
            .args(["--target", TARGET, "--target-dir"])
            .arg(ws.bpf_target())
            // Flags and wrappers meant for the user side.
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .env_remove("CARGO_BUILD_TARGET");
        build
    }
}

/// Finds a compiler, or installs Debian's.
pub fn ensure() -> Result<Compiler> {
    let mut unfit = match find() {
        Ok(compiler) => {
            ui::found(&compiler.version);
            return Ok(compiler);
        }
        Err(unfit) => unfit,
    };
    let what = DEBIAN_PACKAGES.join(", ");
    let installed = ui::work(&what, "installing", "installed", || {
        apt::install(&DEBIAN_PACKAGES)
    });
    if let Err(reason) = installed {
        unfit.push(format!("{what}: {reason:#}"));
        return Err(none(&unfit));
    }
    debian().map_err(|reason| none(&[reason]))
}

fn none(unfit: &[String]) -> anyhow::Error {
    anyhow!(
        "no compiler for the kernel programs:\n  {}\n\
         have either of these, then try again:\n  \
         rustup toolchain install {KNOWN_NIGHTLY} --profile minimal --component rust-src\n  \
         {}",
        unfit.join("\n  "),
        apt::command_line(&DEBIAN_PACKAGES)
    )
}

/// The first complete compiler, or why each of them is not.
fn find() -> Result<Compiler, Vec<String>> {
    let mut unfit = Vec::new();
    for toolchain in nightlies() {
        match nightly(&toolchain) {
            Ok(compiler) => return Ok(compiler),
            Err(reason) => unfit.push(reason),
        }
    }
    debian().map_err(|reason| {
        unfit.push(reason);
        unfit
    })
}

fn nightlies() -> Vec<String> {
    let list = cmd::ask(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    // Each line is a name, then perhaps `(default)`.
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with("nightly"))
        .map(str::to_owned)
        .collect()
}

fn nightly(toolchain: &str) -> Result<Compiler, String> {
    let rustc = || rustup_run(toolchain, "rustc");
    let sysroot = sysroot(&mut rustc()).ok_or(format!("{toolchain}: its rustc does not run"))?;
    if !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
        return Err(format!("{toolchain}: has no component rust-src"));
    }
    Ok(Compiler {
        version: version(&mut rustc(), toolchain)?,
        way: Way::Nightly(toolchain.to_owned()),
        sysroot,
    })
}

fn debian() -> Result<Compiler, String> {
    let rustc = || clean(Command::new(DEBIAN_RUSTC));
    let sysroot = sysroot(&mut rustc()).ok_or(format!("{DEBIAN_RUSTC}: is not there"))?;
    if !has_core(&sysroot.join("lib/rustlib").join(TARGET).join("lib")) {
        return Err(format!("{DEBIAN_RUSTC}: has no core for {TARGET}"));
    }
    Ok(Compiler {
        version: version(&mut rustc(), DEBIAN_RUSTC)?,
        way: Way::Debian,
        sysroot,
    })
}

/// The library is `libcore-<hash>.rlib`.
fn has_core(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| {
                let name = entry.file_name();
                let name = Path::new(&name);
                name.extension()
                    .is_some_and(|extension| extension == "rlib")
                    && name.to_string_lossy().starts_with("libcore-")
            })
        })
    })
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    cmd::ask(rustc.args(["--print", "sysroot"])).map(PathBuf::from)
}

/// The first line of `rustc -vV`, if its LLVM is one the linker understands.
fn version(rustc: &mut Command, name: &str) -> Result<String, String> {
    let verbose = cmd::ask(rustc.arg("-vV")).ok_or(format!("{name}: does not tell its version"))?;
    fitting_version(&verbose).map_err(|reason| format!("{name}: {reason}"))
}

fn fitting_version(verbose: &str) -> Result<String, String> {
    let llvm = verbose
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .unwrap_or("unknown");
    if llvm.split('.').next() != Some(linker::LLVM) {
        return Err(format!(
            "is made with LLVM {llvm}; bpf-linker {} reads LLVM {}",
            linker::VERSION,
            linker::LLVM
        ));
    }
    Ok(verbose.lines().next().unwrap_or_default().to_owned())
}

fn rustup_run(toolchain: &str, program: &str) -> Command {
    let mut rustup = clean(Command::new("rustup"));
    rustup.args(["run", toolchain, program]);
    rustup
}

/// Without what the cargo that started this xtask left in the environment:
/// it would lead another toolchain back to the first one's programs.
fn clean(mut command: Command) -> Command {
    for variable in [
        "CARGO",
        "CARGO_TARGET_DIR",
        "LD_LIBRARY_PATH",
        "RUSTC",
        "RUSTC_BOOTSTRAP",
        "RUSTDOC",
        "RUSTUP_TOOLCHAIN",
        "RUSTUP_TOOLCHAIN_SOURCE",
        "RUST_RECURSION_COUNT",
    ] {
        command.env_remove(variable);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiler_is_taken_only_with_the_llvm_that_the_linker_reads() {
        let verbose = |llvm| format!("rustc 1.96.0 (abc)\nhost: x\nLLVM version: {llvm}\n");
        assert_eq!(
            fitting_version(&verbose("22.1.8")),
            Ok("rustc 1.96.0 (abc)".to_owned())
        );
        let reason = fitting_version(&verbose("23.0.1")).unwrap_err();
        assert!(reason.contains("LLVM 23.0.1"), "{reason}");
        assert!(fitting_version("rustc 1.0.0").is_err());
    }
}
