//! Does what was made hold? Other people's programs say so, as far as they are here.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::files::list;
use crate::{cmd, ui};

/// How far open the service may be by systemd's reckoning: 0 is best, 100 worst.
const EXPOSURE: &str = "--threshold=35";

pub fn all(packaging: &Path, folder: &Path, package: &Path) -> Result<()> {
    let completions = folder.join("completions");
    let script = |name| vec![completions.join(name)];
    let unit = packaging.join("droptrace.service");
    let proofs: [(&str, &[&str], Vec<PathBuf>); 7] = [
        ("bash", &["-n"], script("droptrace.bash")),
        ("zsh", &["-n"], script("_droptrace")),
        ("fish", &["-n"], script("droptrace.fish")),
        (
            "mandoc",
            &["-T", "lint", "-W", "error"],
            list(&folder.join("man"))?,
        ),
        (
            "systemd-analyze",
            &["security", "--offline=true", "--no-pager", EXPOSURE],
            vec![unit],
        ),
        ("dpkg-deb", &["--info"], vec![package.to_owned()]),
        (
            "lintian",
            &["--fail-on", "error,warning"],
            vec![package.to_owned()],
        ),
    ];
    for (program, arguments, files) in proofs {
        if !cmd::which(program) {
            eprintln!("  {program} … not here, so not asked");
            continue;
        }
        let mut proof = Command::new(program);
        proof.args(arguments).args(files);
        quietly(&mut proof, program)?;
        ui::found(&format!("{program}: no fault"));
    }
    Ok(())
}

/// What it prints is only of interest where it finds a fault.
fn quietly(proof: &mut Command, program: &str) -> Result<()> {
    let output = proof
        .output()
        .with_context(|| format!("could not start {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    anyhow::bail!(
        "{program} finds a fault ({}); it says above which",
        output.status
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_an_error() {
        let proof = |script| quietly(Command::new("bash").args(["-n", "-c", script]), "bash");
        assert!(proof("complete -W a b").is_ok());
        let error = proof("if then").unwrap_err().to_string();
        assert!(error.starts_with("bash finds a fault"), "{error}");
    }
}
