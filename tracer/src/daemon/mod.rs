//! Tracing for months, for the machine's monitoring agent.
//!
//! ```text
//!                             ┌─▶ metrics (Prometheus over HTTP)
//! run::capture ─▶ records ─▶ numbered ─┬─▶ journal ─▶ socket (NDJSON, many readers)
//!                   lines   ├─▶ file (NDJSON, rotated)
//!                           └─▶ spool on disk ─▶ otlp (gRPC or HTTP)
//! ```

pub mod budget;
pub mod config;
pub mod gap;
pub mod line;
pub mod meter;
pub mod notify;
pub mod privileges;
pub mod sequence;
pub mod status;
