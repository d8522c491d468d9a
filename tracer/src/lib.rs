//! droptrace says why Linux dropped or reset a packet: which flow, what
//! reason, where in the kernel, whose socket.
//!
//! Data flows one way through the modules: [`tracer`] takes counts and details
//! from the kernel programs, [`record`] joins them into [`event`]s with the
//! help of [`kernel`] (what the running kernel is like), [`reason`] (what a
//! cause means), [`owner`] (whose socket), and [`rules`], [`nftrace`] and [`xtables`]
//! (which rule), and [`output`] shows them.
//! `docs/architecture.md` has the map.

pub mod cli;
pub mod conntrack;
pub mod conversation;
pub mod daemon;
pub mod doctor;
pub mod event;
pub mod filter;
pub mod kernel;
pub mod nftrace;
pub mod output;
pub mod owner;
pub mod reason;
pub mod record;
pub mod rules;
pub mod run;
pub mod tracer;
pub mod xtables;
