//! What is handed to who installs droptrace: man pages, completions, a Debian package.

mod deb;
mod depends;
mod files;
mod proof;
mod source;

use std::{
    fs, io,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{build, cmd, ui::Step, workspace::Workspace};

use self::{files::Files, source::Source};

/// Builds all of it into `target/package`.
pub fn verb(ws: &Workspace) -> Result<ExitCode> {
    build::with_packaging(ws)?;
    let step = Step::start("make man pages and completions");
    let folder = ws.target().join("package");
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("could not empty {}", folder.display()));
        }
        _ => {}
    }
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    let source = Source::of(ws)?;
    let mut pages = Command::new(ws.release("packaging"));
    pages.args([&man, &completions]).arg(&source.day);
    cmd::run(&mut pages, "make man pages and completions")?;
    step.end();

    let step = Step::start("make the Debian package");
    let files = Files::lay(ws, &folder, &source)?;
    let package = deb::build(ws, &files, &folder, &source)?;
    step.end();

    let step = Step::start("prove what was made");
    proof::all(&ws.root().join("packaging"), &folder, &package)?;
    step.end();
    println!("{}", shown(ws, &package));
    Ok(ExitCode::SUCCESS)
}

/// As one would type it.
fn shown(ws: &Workspace, path: &Path) -> String {
    let path = path.strip_prefix(ws.root()).unwrap_or(path);
    path.display().to_string()
}
