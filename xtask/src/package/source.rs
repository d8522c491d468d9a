//! What the package is made of: version, time and author, as git and cargo tell them.
//! Nothing of the machine or the moment gets in, so that the same commit gives the same
//! package.

use std::{env, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{cmd, workspace::Workspace};

#[derive(Debug)]
pub struct Source {
    /// Of the workspace.
    pub version: String,
    /// Seconds since 1970; `SOURCE_DATE_EPOCH` where it is set, else the commit's time.
    pub epoch: String,
    /// The same as in an e-mail.
    pub date: String,
    /// The day alone.
    pub day: String,
    /// Who made the commit: name and address.
    pub author: String,
}

impl Source {
    pub fn of(ws: &Workspace) -> Result<Self> {
        let epoch = match env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => git(ws, "%ct")?,
        };
        Ok(Self {
            version: version(ws)?,
            date: date(&epoch, "-R")?,
            day: date(&epoch, "+%Y-%m-%d")?,
            epoch,
            author: git(ws, "%an <%ae>")?,
        })
    }
}

/// About the latest commit.
fn git(ws: &Workspace, format: &str) -> Result<String> {
    let mut git = Command::new("git");
    git.current_dir(ws.root())
        .args(["log", "-1", &format!("--format={format}")]);
    cmd::ask(&mut git).context(
        "could not ask git about the latest commit; build the package in a git checkout with git \
         installed",
    )
}

fn date(epoch: &str, format: &str) -> Result<String> {
    cmd::ask(Command::new("date").args(["-u", format, "-d", &format!("@{epoch}")]))
        .with_context(|| format!("could not write {epoch} as a date"))
}

fn version(ws: &Workspace) -> Result<String> {
    let mut cargo = cmd::cargo(ws);
    cargo.args(["metadata", "--no-deps", "--format-version=1"]);
    let metadata = cmd::ask(&mut cargo).context("could not ask cargo for the version")?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo's answer is no JSON")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter(|package| package["name"] == "droptrace")
        .find_map(|package| package["version"].as_str())
        .map(ToOwned::to_owned)
        .context("cargo knows no package droptrace")
}
