//! How do the sources become `droptrace`?
//!
//! The kernel programs come first: droptrace's own build embeds their object.

use std::{fs, io, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{check, cmd, compiler, setup, ui::Step, workspace::Workspace};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Build the user side in the debug profile, into target/debug
    #[arg(long)]
    debug: bool,
}

pub fn verb(ws: &Workspace, args: &Args) -> Result<ExitCode> {
    kernel_object(ws)?;
    eprint!("{}", check::read(&ws.kernel_object())?);
    user_side(ws, &["droptrace"], args.debug)?;
    Ok(ExitCode::SUCCESS)
}

/// All of droptrace, in the release profile.
pub fn droptrace(ws: &Workspace) -> Result<()> {
    kernel_object(ws)?;
    user_side(ws, &["droptrace"], false)
}

/// All of droptrace, and the runner of the scenarios and the demo.
pub fn with_runner(ws: &Workspace) -> Result<()> {
    kernel_object(ws)?;
    user_side(ws, &["droptrace", "scenarios"], false)
}

/// Builds and checks the kernel object.
///
/// `aya-ebpf` reads registers of the machine that runs the programs; its build
/// script takes the building machine's architecture for that, or what
/// `AYA_BPF_TARGET_ARCH` names.
fn kernel_object(ws: &Workspace) -> Result<()> {
    let toolchain = setup::toolchain(ws)?;
    let step = Step::start("build the kernel programs");
    let linker = toolchain.linker.program.to_string_lossy().into_owned();
    // bpf-linker makes the object's BTF out of debug information.
    let flags = [
        "-Cdebuginfo=2",
        &format!("-Clinker={linker}"),
        "-Clink-arg=--btf",
    ];
    let mut cargo = toolchain.compiler.cargo_build(ws);
    cargo
        .args(["--release", "--package", "tracer-ebpf"])
        // Not RUSTFLAGS, which cannot carry a path with a space in it.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("LD_LIBRARY_PATH", &toolchain.linker.library_path);
    cmd::run(&mut cargo, "build the kernel programs")?;

    let built = ws
        .bpf_target()
        .join(compiler::TARGET)
        .join("release/droptrace-ebpf");
    check::read(&built)?.complete()?;
    copy_if_changed(&built, &ws.kernel_object())?;
    step.end();
    Ok(())
}

fn user_side(ws: &Workspace, programs: &[&str], debug: bool) -> Result<()> {
    let what = format!("build {}", programs.join(" and "));
    let step = Step::start(&what);
    let mut cargo = cmd::cargo(ws);
    cargo.arg("build").args(cmd::USER_SIDE);
    for program in programs {
        cargo.args(["--bin", program]);
    }
    if !debug {
        cargo.arg("--release");
    }
    cmd::run(&mut cargo, &what)?;
    step.end();
    Ok(())
}

/// Leaves the file alone when it would not change, so that cargo does not build
/// droptrace again for its new date.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let copy = || -> io::Result<()> {
        let content = fs::read(from)?;
        if fs::read(to).is_ok_and(|old| old == content) {
            return Ok(());
        }
        // In one go: a build that is interrupted here leaves no half an object.
        let half = to.with_extension("new");
        fs::write(&half, content)?;
        fs::rename(half, to)
    };
    copy().with_context(|| format!("could not copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_keeps_the_date_of_an_equal_file() {
        let folder = std::env::temp_dir().join(format!("xtask-copy-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("from"), folder.join("to.bpf.o"));
        fs::write(&from, "one").unwrap();
        copy_if_changed(&from, &to).unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        let file = fs::File::options().write(true).open(&to).unwrap();
        file.set_modified(long_ago).unwrap();

        copy_if_changed(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), long_ago);

        fs::write(&from, "two").unwrap();
        copy_if_changed(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "two");
        assert_ne!(fs::metadata(&to).unwrap().modified().unwrap(), long_ago);
        fs::remove_dir_all(folder).unwrap();
    }
}
