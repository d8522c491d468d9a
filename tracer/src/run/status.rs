//! `droptrace status`: how the running daemon is.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;

use super::Failure;
use crate::{
    cli,
    daemon::{
        config,
        status::{self, Status},
    },
    output,
};

/// Asks it, and says what it answers: 0 if it is well, 1 if not.
///
/// # Errors
///
/// If no daemon answers, or the answer cannot be written.
pub fn status(args: &cli::Status) -> Result<u8, Failure> {
    let path = match &args.socket {
        Some(path) => path.clone(),
        None => socket(&args.configuration)?,
    };
    let status = status::ask(&path).map_err(anyhow::Error::new)?;
    let text = if args.json {
        serde_json::to_string(&status).context("cannot write the status")? + "\n"
    } else {
        lines(&status)
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Running(error.into()))
        }
        _ => Ok(u8::from(!status.healthy)),
    }
}

/// Where the configured daemon has its socket.
pub(super) fn socket(from: &cli::Configuration) -> Result<PathBuf, Failure> {
    let config = config::read(from.config.as_deref(), &from.set).map_err(Failure::usage)?;
    if config.socket.path.as_os_str().is_empty() {
        return Err(Failure::Usage(
            "the configuration gives the daemon no socket, at which it could be asked; set \
             socket.path"
                .to_owned(),
        ));
    }
    Ok(config.socket.path)
}

fn lines(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // What it says may come from elsewhere, such as the answer of a receiver.
        let _ = writeln!(text, "{name:<9} {}", output::safe(value, true));
    };
    line("health", if status.healthy { "well" } else { "not well" });
    for problem in &status.problems {
        line("problem", problem);
    }
    line(
        "daemon",
        &format!(
            "version {}, process {}, up {}",
            status.version,
            status.pid,
            humantime::format_duration(Duration::from_secs(status.uptime_seconds)),
        ),
    );
    line(
        "records",
        &format!("the latest has the number {}", status.seq),
    );
    line(
        "cost",
        &format!(
            "{:.1}% of a CPU, {} of memory",
            status.cost.cpu_percent,
            mebibytes(status.cost.memory_bytes),
        ),
    );
    if !status.cost.left_out.is_empty() {
        line("left out", &status.cost.left_out.join(", "));
    }
    if let Some(socket) = &status.socket {
        line(
            "socket",
            &format!("{} of {} readers", socket.readers, socket.max_readers),
        );
    }
    if let Some(address) = &status.metrics {
        line("metrics", &format!("http://{address}/metrics"));
    }
    if let Some(file) = &status.file {
        line("file", &file.display().to_string());
    }
    if let Some(otlp) = &status.otlp {
        line(
            "otlp",
            &format!("{}, {} records taken", otlp.endpoint, otlp.sent_records),
        );
        line(
            "spool",
            &format!(
                "{} records wait, {}, the oldest for {}; {} lost",
                otlp.waiting_records,
                mebibytes(otlp.waiting_bytes),
                humantime::format_duration(Duration::from_secs(otlp.oldest_seconds)),
                otlp.lost_records,
            ),
        );
        if let Some(error) = &otlp.error {
            line("otlp", error);
        }
    }
    text
}

#[allow(
    clippy::cast_precision_loss,
    reason = "one digit behind the point is shown"
)]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_lines_without_what_could_steer_a_terminal() {
        let status = Status {
            problems: vec!["the receiver says \u{1b}[2J\nno".to_owned()],
            version: "1.2.3".to_owned(),
            pid: 7,
            uptime_seconds: 3661,
            seq: 99,
            cost: status::Cost {
                cpu_percent: 0.04,
                memory_bytes: 19 << 20,
                left_out: vec!["details".to_owned(), "flows".to_owned()],
            },
            socket: Some(status::Socket {
                readers: 1,
                max_readers: 16,
            }),
            ..Status::default()
        };
        assert_eq!(
            lines(&status),
            "health    not well\n\
             problem   the receiver says \\u{1b}[2J\\nno\n\
             daemon    version 1.2.3, process 7, up 1h 1m 1s\n\
             records   the latest has the number 99\n\
             cost      0.0% of a CPU, 19.0 MiB of memory\n\
             left out  details, flows\n\
             socket    1 of 16 readers\n"
        );
    }
}
