//! `droptrace daemon`: tracing for months, for the machine's monitoring agent.

use super::Failure;
use crate::cli::Daemon;

/// Runs until a signal, or for one interval.
///
/// # Errors
///
/// Always: it is not built yet.
pub fn daemon(_args: &Daemon) -> Result<(), Failure> {
    Err(Failure::Unable("the daemon is not built yet".to_owned()))
}
