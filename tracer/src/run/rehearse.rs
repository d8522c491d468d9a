//! `droptrace daemon --dry-run`: whether the daemon would run.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use super::Failure;
use crate::{
    daemon::{config::Config, rehearsal},
    doctor,
};

/// Says whether it would run.
///
/// # Errors
///
/// If it would not, or the answer cannot be written.
pub(super) fn rehearse(config: &Config) -> Result<(), Failure> {
    let mut text = "configuration: ok\n".to_owned();
    let report = doctor::examine();
    let said = if report.can_trace {
        "ok"
    } else {
        "cannot trace; `droptrace doctor` says why"
    };
    let _ = writeln!(text, "kernel and privileges: {said}");
    let mut problems = 0;
    for place in rehearsal::places(config) {
        let _ = match place.outcome {
            Ok(()) => writeln!(text, "{} {}: ok", place.key, place.place),
            Err(error) => {
                problems += 1;
                writeln!(text, "{} {}: {error}", place.key, place.place)
            }
        };
    }
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::Running(error.into()));
        }
        _ => {}
    }
    if !report.can_trace {
        return Err(Failure::Unable("the daemon would not run".to_owned()));
    }
    if problems > 0 {
        return Err(Failure::Running(anyhow::anyhow!(
            "the daemon would not run: {problems} of its places cannot be had"
        )));
    }
    Ok(())
}
