//! What `nft` is asked.

use super::program::{self, ProgramError};

/// Elements of sets are left out (`-t`), handles are not (`-a`). The rules are
/// printed as without `-t`.
const LIST: [&str; 4] = ["-t", "-a", "list", "ruleset"];

/// The rule set of the calling thread's network namespace, as `nft` prints it.
///
/// # Errors
///
/// If there is no `nft`, or it fails, or takes or prints too much.
pub fn list() -> Result<String, ProgramError> {
    nft(&LIST)
}

/// A map with its elements.
///
/// # Errors
///
/// As [`list`].
pub fn list_map(family: &str, table: &str, name: &str) -> Result<String, ProgramError> {
    nft(&["list", "map", family, table, name])
}

/// Adds rules of our own making to the calling thread's network namespace.
///
/// # Errors
///
/// As [`list`].
pub fn add(rules: &str) -> Result<(), ProgramError> {
    nft(&[rules]).map(|_| ())
}

/// Whether there is an `nft` that runs.
#[must_use]
pub fn is_installed() -> bool {
    nft(&["--version"]).is_ok()
}

fn nft(arguments: &[&str]) -> Result<String, ProgramError> {
    program::output("nft", "nftables", arguments)
}
