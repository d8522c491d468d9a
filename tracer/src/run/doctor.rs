//! `droptrace doctor`: what this kernel and this user can have.

use std::io::{self, Write as _};

use super::Failure;
use crate::{
    doctor::{self, Report},
    output::{self, FileSink, Format, Options},
};

/// Prints the abilities, as a table or as one JSON object.
///
/// # Errors
///
/// If tracing cannot work here, or the answer cannot be written.
pub fn doctor(json: bool) -> Result<(), Failure> {
    let report = doctor::examine();
    match write(&report, json) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(anyhow::Error::new(error)
            .context("cannot write what was found")
            .into()),
        _ if report.can_trace => Ok(()),
        _ => Err(Failure::Unable(
            "tracing cannot work here; the report says what would change that".to_owned(),
        )),
    }
}

fn write(report: &Report, json: bool) -> io::Result<()> {
    let mut sink = FileSink::stdout()?;
    if json {
        let mut text = serde_json::to_string_pretty(report)?;
        text.push('\n');
        sink.write_all(text.as_bytes())?;
        return sink.flush();
    }
    output::show_abilities(&mut sink, &Options::from_env(Format::Human), report)
}
