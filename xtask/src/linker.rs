//! Where is bpf-linker, and which LLVM does it load?

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{cmd, compiler::Compiler, ui, workspace::Workspace};

pub const VERSION: &str = "0.10.3";

/// The major version of LLVM whose bitcode this bpf-linker reads.
pub const LLVM: &str = "22";

/// What the build of the kernel programs needs to link.
#[derive(Debug)]
pub struct Linker {
    pub program: PathBuf,
    /// A folder with nothing but the compiler's LLVM in it. bpf-linker takes the
    /// first file called `libLLVM*` in any folder of `LD_LIBRARY_PATH`, of
    /// whatever version; a folder like Debian's `/usr/lib/<machine>` has several.
    pub library_path: PathBuf,
}

/// Finds or installs bpf-linker, and gives it the compiler's LLVM.
pub fn ensure(ws: &Workspace, compiler: &Compiler) -> Result<Linker> {
    let program = ws.tools().join("bin/bpf-linker");
    let what = format!("bpf-linker {VERSION}");
    if cmd::ask(Command::new(&program).arg("--version")).as_deref() == Some(what.as_str()) {
        ui::found(&what);
    } else {
        ui::work(&what, "installing", "installed", || install(ws))?;
    }
    Ok(Linker {
        program,
        library_path: offer(&find_llvm(compiler)?, &ws.tools().join("llvm"))?,
    })
}

fn install(ws: &Workspace) -> Result<()> {
    let build = ws.tools().join("build");
    let mut cargo = cmd::cargo(ws);
    cargo
        .args(["install", "bpf-linker", "--version", VERSION, "--locked"])
        .args(["--force", "--root"])
        .arg(ws.tools())
        .env("CARGO_TARGET_DIR", &build)
        // Compiles in a fraction of the time. It links as fast and gives the same
        // bytes: the work is done in LLVM.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    cmd::run(&mut cargo, &format!("install bpf-linker {VERSION}"))?;
    // Only an interrupted install has a use for it.
    let _ = fs::remove_dir_all(build);
    Ok(())
}

/// The compiler's own LLVM as a shared library: below its `lib`, or one folder
/// deeper where the distribution keeps libraries by machine.
fn find_llvm(compiler: &Compiler) -> Result<PathBuf> {
    let lib = compiler.sysroot.join("lib");
    llvm_in(&lib)
        .or_else(|| {
            let machines = entries(&lib).into_iter();
            machines
                .filter(|path| path.to_string_lossy().ends_with("-linux-gnu"))
                .find_map(|machine| llvm_in(&machine))
        })
        .with_context(|| {
            format!(
                "could not find a shared library of LLVM {LLVM} below {}, and bpf-linker loads \
                 the compiler's own; use a compiler that is not linked statically to LLVM",
                lib.display()
            )
        })
}

/// `libLLVM.so.22.1`, `libLLVM.so.22.1-rust-…`, `libLLVM-22.so`; not the linker
/// scripts of the same names.
fn llvm_in(folder: &Path) -> Option<PathBuf> {
    entries(folder).into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_llvm = [format!("libLLVM.so.{LLVM}."), format!("libLLVM-{LLVM}")]
            .iter()
            .any(|start| name.starts_with(start.as_str()));
        is_llvm && is_elf(path)
    })
}

/// In a fixed order, so that each run takes the same library.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && magic == *b"\x7fELF"
}

/// Makes `folder` hold one link to the library and nothing else.
fn offer(library: &Path, folder: &Path) -> Result<PathBuf> {
    let link = folder.join(format!("libLLVM-{LLVM}.so"));
    if fs::read_link(&link).is_ok_and(|target| target == library) {
        return Ok(folder.to_path_buf());
    }
    fs::create_dir_all(folder)
        .and_then(|()| match fs::remove_file(&link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => symlink(library, &link),
        })
        .with_context(|| {
            format!(
                "could not link {} to {}; check who owns the folder",
                link.display(),
                library.display()
            )
        })?;
    Ok(folder.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn llvm_is_a_shared_library_of_the_right_version() {
        let lib = folder("llvm");
        for (name, content) in [
            ("libLLVM-14.so.1", "\x7fELF"),
            (
                "libLLVM-22-rust-1.95.0-stable.so",
                "INPUT(libLLVM.so.22.1-rust)",
            ),
            ("libLLVM.so.15.0", "\x7fELF"),
        ] {
            fs::write(lib.join(name), content).unwrap();
        }
        assert_eq!(llvm_in(&lib), None);
        let right = lib.join("libLLVM.so.22.1-rust-1.95.0-stable");
        fs::write(&right, "\x7fELF and more").unwrap();
        assert_eq!(llvm_in(&lib), Some(right));
        fs::remove_dir_all(lib).unwrap();
    }

    #[test]
    fn offered_library_replaces_the_one_before() {
        let place = folder("offer");
        let offered = place.join("llvm");
        for library in ["/one", "/two", "/two"] {
            offer(Path::new(library), &offered).unwrap();
            let links = entries(&offered);
            assert_eq!(links, [offered.join("libLLVM-22.so")]);
            assert_eq!(fs::read_link(&links[0]).unwrap(), Path::new(library));
        }
        fs::remove_dir_all(place).unwrap();
    }
}
