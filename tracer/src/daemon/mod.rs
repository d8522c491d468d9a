//! Tracing for months, for the machine's monitoring agent.
//!
//! ```text
//!                    ┌─▶ counters ─▶ metrics (Prometheus over HTTP)
//! run::capture ─▶ records
//!                    └─▶ numbered lines ─┬─▶ journal ─┬─▶ socket (NDJSON, many readers)
//!                                        │            └─▶ file (NDJSON, rotated)
//!                                        └─▶ spool on disk ─▶ otlp (gRPC or HTTP)
//! ```

pub mod config;
pub mod counters;
pub mod exposition;
pub mod file;
pub mod health;
pub mod journal;
pub mod line;
pub mod metrics;
pub mod request;
pub mod socket;
pub mod top;
