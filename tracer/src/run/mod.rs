//! What happens between command line and exit code.

mod capture;
mod clean;
mod config;
mod conversations;
mod daemon;
mod doctor;
mod follow;
mod memory;
mod probe;
mod reasons;
mod rehearse;
mod rules;
mod select;
mod status;
mod trace;
mod traces;
mod verdicts;

pub use clean::clean;
pub use config::config;
pub use daemon::daemon;
pub use doctor::doctor;
pub use probe::probe;
pub use reasons::reasons;
pub use status::status;
pub use trace::trace;

/// Why a run did not come to its end. The kind decides the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line asks for something that is not there.
    #[error("{0}")]
    Usage(String),
    /// This kernel or this user cannot do it.
    #[error("{0}")]
    Unable(String),
    /// It went wrong on the way.
    #[error("{0:#}")]
    Running(#[from] anyhow::Error),
}

impl Failure {
    /// As documented in `--help` and `docs/architecture.md`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Running(_) => 1,
            Self::Usage(_) => 2,
            Self::Unable(_) => 3,
        }
    }

    fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    fn unable(error: impl std::fmt::Display) -> Self {
        Self::Unable(error.to_string())
    }
}
