//! Tracing for months, for the machine's monitoring agent.
//!
//! ```text
//!                    ┌─▶ counters ─▶ metrics (Prometheus over HTTP)
//! run::capture ─▶ records
//!                    └─▶ numbered lines ─┬─▶ journal ─┬─▶ socket (NDJSON, many readers)
//!                                        │            └─▶ file (NDJSON, rotated)
//!                                        └─▶ spool on disk ─▶ otlp (gRPC or HTTP)
//! ```

pub mod budget;
pub mod config;
pub mod counters;
pub mod exporters;
pub mod exposition;
pub mod file;
pub mod gap;
pub mod health;
pub mod journal;
pub mod line;
pub mod listener;
pub mod meter;
pub mod metrics;
pub mod notify;
pub mod otlp;
pub mod pace;
pub mod privileges;
pub mod rehearsal;
pub mod request;
pub mod sequence;
pub mod socket;
pub mod spool;
pub mod status;
pub mod top;
