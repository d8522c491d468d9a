//! How does one run a command on another kernel?

mod archive;
mod base;
pub mod end;
pub mod guest;
mod image;
mod initramfs;
pub mod kernel;
pub mod machine;
mod qemu;
mod tools;

use std::{
    env, io,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use self::{
    archive::Archive,
    end::{End, Limits},
    initramfs::quote,
    kernel::{Kernel, Wanted},
    machine::Outputs,
};
use crate::{
    ui::{self, Step},
    workspace::Workspace,
};

/// As `timeout` says it.
const EXIT_TIMED_OUT: u8 = 124;
/// As `timeout` says that it failed itself.
const EXIT_DIED: u8 = 125;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Series of the kernel, such as 6.12, or `newest`
    #[arg(long, value_name = "SERIES")]
    kernel: Wanted,

    /// Seconds until the guest is stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,

    /// Command for the guest, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub fn verb(ws: &Workspace, args: &Args) -> Result<ExitCode> {
    let kernel = fetch(ws, &ready(ws)?, &args.kernel)?;
    let here = env::current_dir().context("could not ask for the current folder")?;
    let command = shell_line(&here.to_string_lossy(), &args.command);
    let start = Instant::now();
    let ran = guest::run(
        ws,
        &kernel,
        &command,
        Limits {
            whole: Duration::from_secs(args.timeout),
            silence: None,
        },
        &mut Outputs {
            out: &mut io::stdout(),
            err: &mut io::stderr(),
        },
    )?;
    let code = match ran.end {
        End::Exited(0) => return Ok(ExitCode::SUCCESS),
        End::Exited(status) => status,
        End::Died(_) => EXIT_DIED,
        End::TimedOut(_) | End::Silent(_) => EXIT_TIMED_OUT,
    };
    if !ran.console.is_empty() {
        eprintln!("console of kernel {}:\n{}", kernel.release, ran.console);
    }
    let took = ui::elapsed(start.elapsed());
    eprintln!("error: kernel {}: {} ({took})", kernel.release, ran.end);
    Ok(ExitCode::from(code))
}

/// Finds or installs what starts guests, and finds where their kernels come from.
pub fn ready(ws: &Workspace) -> Result<Archive> {
    let step = Step::start("set up guests");
    tools::ensure(ws)?;
    let archive = Archive::of_kernels(ws)?;
    step.end();
    Ok(archive)
}

/// Finds or fetches the kernel.
pub fn fetch(ws: &Workspace, archive: &Archive, wanted: &Wanted) -> Result<Kernel> {
    let step = Step::start(format!("set up kernel {wanted}"));
    let kernel = kernel::ensure(ws, archive, wanted)?;
    step.end();
    Ok(kernel)
}

/// What a shell in the guest shall do.
pub fn shell_line(folder: &str, command: &[String]) -> String {
    let words: Vec<_> = command.iter().map(|word| quote(word)).collect();
    format!(
        "cd {} || exit 126\nexec {}\n",
        quote(folder),
        words.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_reaches_the_shell_word_by_word() {
        let command = ["echo", "a b", "$x"].map(str::to_owned);
        assert_eq!(
            shell_line("/a b", &command),
            "cd '/a b' || exit 126\nexec 'echo' 'a b' '$x'\n"
        );
    }
}
