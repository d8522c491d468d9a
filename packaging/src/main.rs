//! Writes man pages and shell completions, made from droptrace's command line, into two
//! folders: `packaging MAN COMPLETIONS`. `cargo xtask package` runs it.

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;
use droptrace::cli::Cli;

/// The program that is completed.
const NAME: &str = "droptrace";

fn main() -> Result<()> {
    let mut folders = env::args_os().skip(1).map(PathBuf::from);
    let (Some(man), Some(completions), None) = (folders.next(), folders.next(), folders.next())
    else {
        anyhow::bail!("call it as: packaging MAN COMPLETIONS");
    };
    for folder in [&man, &completions] {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    clap_mangen::generate_to(Cli::command(), &man)
        .with_context(|| format!("cannot write man pages into {}", man.display()))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), NAME, &completions)
            .with_context(|| format!("cannot write the completions for {shell}"))?;
    }
    Ok(())
}
