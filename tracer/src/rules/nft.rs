//! What `nft` is asked.

use std::time::Duration;

use super::program::{self, ProgramError};

/// What it may take.
const MAX_TIME: Duration = Duration::from_secs(5);

/// Elements of sets are left out (`-t`), handles are not (`-a`). The rules are
/// printed as without `-t`.
const LIST: [&str; 4] = ["-t", "-a", "list", "ruleset"];

/// The rule set of the calling thread's network namespace, as `nft` prints it.
///
/// # Errors
///
/// If there is no `nft`, or it fails, or takes or prints too much.
pub fn list() -> Result<String, ProgramError> {
    list_within(MAX_TIME)
}

/// As [`list`], for a rule set of any size.
///
/// # Errors
///
/// As [`list`].
pub fn list_within(time: Duration) -> Result<String, ProgramError> {
    nft(&LIST, time)
}

/// A map with its elements.
///
/// # Errors
///
/// As [`list`].
pub fn list_map(family: &str, table: &str, name: &str) -> Result<String, ProgramError> {
    nft(&["list", "map", family, table, name], MAX_TIME)
}

/// Adds rules of our own making to the calling thread's network namespace.
///
/// # Errors
///
/// As [`list`].
pub fn add(rules: &str) -> Result<(), ProgramError> {
    nft(&[rules], MAX_TIME).map(|_| ())
}

/// Whether there is an `nft` that runs.
#[must_use]
pub fn is_installed() -> bool {
    nft(&["--version"], MAX_TIME).is_ok()
}

fn nft(arguments: &[&str], time: Duration) -> Result<String, ProgramError> {
    program::output("nft", "nftables", arguments, time)
}
