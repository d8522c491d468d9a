//! How is another program started, and what is said when it fails?

use std::{
    env,
    ffi::OsString,
    io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Error, Result, bail};

use crate::workspace::Workspace;

/// Everything but the kernel programs, which compile for the BPF target only.
///
/// Each call of cargo has to select the same packages, even if it builds one
/// program of them: the selection decides the features of the dependencies, and
/// with other features they are compiled once more.
pub const USER_SIDE: [&str; 3] = ["--workspace", "--exclude", "tracer-ebpf"];

/// The cargo that started this xtask, for the checkout and its target folder.
pub fn cargo(ws: &Workspace) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo
        .current_dir(ws.root())
        .env("CARGO_TARGET_DIR", ws.target());
    cargo
}

/// Runs to the end, its messages straight to standard error; `what` completes
/// "could not …".
pub fn run(command: &mut Command, what: &str) -> Result<()> {
    // Standard output belongs to the verb's own result, e.g. `scenarios --json`.
    let stderr = io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .context("could not duplicate standard error")?;
    let status = command
        .stdin(Stdio::null())
        .stdout(stderr)
        .status()
        .with_context(|| format!("could not {what}: could not start `{}`", line(command)))?;
    if !status.success() {
        bail!(
            "could not {what}: `{}` ended with {status}; it says above why",
            line(command)
        );
    }
    Ok(())
}

/// What a program prints when it is asked something; `None` when it is not
/// there or does not know.
pub fn ask(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Becomes the program, so that signals and the exit code go straight through.
/// Returns only if that failed.
pub fn exec(command: &mut Command) -> Error {
    let error = command.exec();
    Error::new(error).context(format!("could not start `{}`", line(command)))
}

/// Where a program lies: in `PATH`, or in the folders for administrators' tools,
/// which are not in the `PATH` of ordinary users.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Whether [`find`] finds it.
pub fn which(program: &str) -> bool {
    find(program).is_some()
}

/// A program that may be an administrator's tool.
pub fn tool(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| program.into()))
}

/// Whether this process runs as root: the owner of its `/proc` entry.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|process| process.uid() == 0)
}

/// The command line, as one could type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    // Cargo's own path is long and of no use to the reader.
    let shown = match program.file_name() {
        Some(name) if name == "cargo" => Path::new(name),
        _ => program,
    };
    let mut line = shown.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_the_attempt_the_command_and_its_end() {
        let error = run(Command::new("sh").args(["-c", "exit 3"]), "try").unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not try: `sh -c exit 3` ended with exit status: 3; it says above why"
        );
    }

    #[test]
    fn program_that_is_not_there_is_an_error_not_a_panic() {
        let error = run(&mut Command::new("no-such-program"), "try").unwrap_err();
        assert!(
            format!("{error:#}").starts_with("could not try: could not start `no-such-program`: ")
        );
        assert_eq!(ask(&mut Command::new("no-such-program")), None);
        assert!(!which("no-such-program"));
        assert!(which("sh"));
    }
}
