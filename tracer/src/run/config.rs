//! `droptrace config`: whether the daemon's configuration is right, and what it comes to.

use std::io::{self, Write as _};

use anyhow::Context as _;

use super::{Failure, select};
use crate::{
    cli::{ConfigCommand, Configuration},
    daemon::config::{self, Config},
};

/// Checks or shows it.
///
/// # Errors
///
/// If it is wrong, or the answer cannot be written.
pub fn config(what: &ConfigCommand) -> Result<(), Failure> {
    let text = match what {
        ConfigCommand::Check(from) => {
            read(from)?;
            format!("{}: ok\n", name(from))
        }
        ConfigCommand::Show(from) => {
            toml::to_string(&read(from)?).context("cannot show the configuration")?
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Running(error.into()))
        }
        _ => Ok(()),
    }
}

/// The configuration, with filters that can be resolved.
pub(super) fn read(from: &Configuration) -> Result<Config, Failure> {
    let config = config::read(from.config.as_deref(), &from.set).map_err(Failure::usage)?;
    select::filter(&config.trace.select())
        .map_err(|error| Failure::Usage(format!("{}: section [trace]: {error}", name(from))))?;
    Ok(config)
}

fn name(from: &Configuration) -> String {
    config::place(from.config.as_deref()).map_or_else(
        || format!("{} is not there, so the defaults", config::FILE),
        |path| path.display().to_string(),
    )
}
