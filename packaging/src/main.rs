//! Writes man pages and shell completions, made from droptrace's command line, into two
//! folders: `packaging MAN COMPLETIONS DATE`. `cargo xtask package` runs it.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use droptrace::cli::Cli;

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let (Some(man), Some(completions), Some(date), None) = (
        arguments.next().map(PathBuf::from),
        arguments.next().map(PathBuf::from),
        arguments.next(),
        arguments.next(),
    ) else {
        anyhow::bail!("call it as: packaging MAN COMPLETIONS DATE");
    };
    for folder in [&man, &completions] {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let mut command = Cli::command().disable_help_subcommand(true);
    let version = command.render_version().trim().to_owned();
    command.build();
    pages(&command, &version, &date.to_string_lossy(), &man)
        .with_context(|| format!("cannot write man pages into {}", man.display()))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "droptrace", &completions)
            .with_context(|| format!("cannot write the completions for {shell}"))?;
    }
    Ok(())
}

/// A page for a command, and one for each that is below it.
fn pages(command: &Command, version: &str, date: &str, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands() {
        pages(below, version, date, folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .date(date)
        .source(version)
        .manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = command.get_after_help() {
        write_notes(&mut page, &notes.to_string())?;
    }
    fs::write(folder.join(format!("{name}.1")), page)
}

/// Lines as they are; columns stand below each other.
fn write_notes(page: &mut impl Write, notes: &str) -> io::Result<()> {
    writeln!(page, ".SH NOTES\n.nf")?;
    for line in notes.lines() {
        // With \& in front, a line is no request.
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        writeln!(page, "\\&{line}")?;
    }
    writeln!(page, ".fi")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_stay_as_they_are() {
        let mut page = Vec::new();
        write_notes(&mut page, ".SH no\n  a -b \\c").unwrap();
        assert_eq!(
            String::from_utf8(page).unwrap(),
            ".SH NOTES\n.nf\n\\&.SH no\n\\&  a \\-b \\ec\n.fi\n"
        );
    }
}
