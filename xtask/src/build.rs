//! How do the sources become `droptrace`?
//!
//! The kernel programs come first: droptrace's own build embeds their object.

use std::{env, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    check, cmd, compiler,
    setup::{self, Toolchain},
    strip,
    ui::Step,
    workspace::Workspace,
};

/// Architectures that there is a kernel object for.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// A form of the kernel programs.
#[derive(Clone, Copy)]
pub struct Form {
    /// The file that droptrace's build script looks for.
    pub file: &'static str,
    /// Features of `tracer-ebpf`.
    features: &'static str,
}

/// All forms; of which one a kernel gets, droptrace decides when it starts.
pub const FORMS: [Form; 2] = [
    Form {
        file: "droptrace.bpf.o",
        features: "",
    },
    Form {
        file: "droptrace-loads.bpf.o",
        features: "loads",
    },
];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Build the user side in the debug profile, into target/debug
    #[arg(long)]
    debug: bool,
}

pub fn verb(ws: &Workspace, args: &Args) -> Result<ExitCode> {
    kernel_objects(ws)?;
    for form in FORMS {
        eprint!("{}\n{}\n", form.file, check::read(&ws.kernel_object(form))?);
    }
    user_side(ws, &["droptrace"], args.debug)?;
    Ok(ExitCode::SUCCESS)
}

/// All of droptrace, in the release profile.
pub fn droptrace(ws: &Workspace) -> Result<()> {
    kernel_objects(ws)?;
    user_side(ws, &["droptrace"], false)
}

/// All of droptrace, and the runner of the scenarios and the demo.
pub fn with_runner(ws: &Workspace) -> Result<()> {
    kernel_objects(ws)?;
    user_side(ws, &["droptrace", "scenarios"], false)
}

/// All of droptrace, and what makes its man pages.
pub fn with_packaging(ws: &Workspace) -> Result<()> {
    kernel_objects(ws)?;
    user_side(ws, &["droptrace", "packaging"], false)
}

/// Builds and checks the kernel objects of the architectures that are not this
/// machine's; nothing embeds them here.
pub fn other_objects(ws: &Workspace) -> Result<()> {
    let toolchain = setup::toolchain(ws)?;
    let others = ARCHITECTURES
        .iter()
        .filter(|&&one| one != env::consts::ARCH);
    for architecture in others {
        for form in FORMS {
            object_for(ws, &toolchain, architecture, form)?;
        }
    }
    Ok(())
}

/// This machine's, where droptrace's build script looks for them.
fn kernel_objects(ws: &Workspace) -> Result<()> {
    let toolchain = setup::toolchain(ws)?;
    for form in FORMS {
        let built = object_for(ws, &toolchain, env::consts::ARCH, form)?;
        write_if_changed(&built, &ws.kernel_object(form))?;
    }
    Ok(())
}

/// Builds and checks a kernel object for an architecture: `aya-ebpf` reads the
/// registers of the machine that runs the programs.
fn object_for(
    ws: &Workspace,
    toolchain: &Toolchain,
    architecture: &str,
    form: Form,
) -> Result<Vec<u8>> {
    let what = format!("build {} for {architecture}", form.file);
    let step = Step::start(&what);
    let linker = toolchain.linker.program.to_string_lossy().into_owned();
    // bpf-linker makes the object's BTF out of debug information.
    let flags = [
        "-Cdebuginfo=2",
        &format!("-Clinker={linker}"),
        "-Clink-arg=--btf",
        &format!("--cfg=bpf_target_arch=\"{architecture}\""),
    ];
    let mut cargo = toolchain.compiler.cargo_build(ws);
    cargo
        .args(["--release", "--package", "tracer-ebpf"])
        .args(["--features", form.features])
        // Not RUSTFLAGS, which cannot carry a path with a space in it.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("LD_LIBRARY_PATH", &toolchain.linker.library_path);
    cmd::run(&mut cargo, &what)?;

    let built = ws
        .bpf_target()
        .join(compiler::TARGET)
        .join("release/droptrace-ebpf");
    let built = fs::read(&built).with_context(|| format!("could not read {}", built.display()))?;
    let object = strip::debug_information(&built)
        .with_context(|| format!("could not strip {} for {architecture}", form.file))?;
    check::parse(&object)
        .and_then(|contents| contents.complete())
        .with_context(|| format!("{} for {architecture} is no good", form.file))?;
    step.end();
    Ok(object)
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
fn write_if_changed(content: &[u8], to: &Path) -> Result<()> {
    if fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    // In one go: a build that is interrupted here leaves no half an object.
    let half = to.with_extension("new");
    fs::write(&half, content)
        .and_then(|()| fs::rename(half, to))
        .with_context(|| format!("could not write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_file_keeps_its_date() {
        let folder = env::temp_dir().join(format!("xtask-write-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let to = folder.join("to.bpf.o");
        write_if_changed(b"one", &to).unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        let file = fs::File::options().write(true).open(&to).unwrap();
        file.set_modified(long_ago).unwrap();

        write_if_changed(b"one", &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), long_ago);

        write_if_changed(b"two", &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "two");
        assert_ne!(fs::metadata(&to).unwrap().modified().unwrap(), long_ago);
        fs::remove_dir_all(folder).unwrap();
    }
}
