//! Tracing for months, for the machine's monitoring agent.
//!
//! ```text
//!                             ┌─▶ metrics (Prometheus over HTTP)
//! run::capture ─▶ records ─▶ numbered ─┬─▶ journal ─▶ socket (NDJSON, many readers)
//!                   lines   ├─▶ file (NDJSON, rotated)
//!                           └─▶ spool on disk ─▶ otlp (gRPC or HTTP)
//! ```

pub mod config;
pub mod line;
pub mod listener;
pub mod notify;
pub mod privileges;
pub mod rehearsal;
pub mod status;
