//! What the running kernel is like.

pub mod btf;
pub mod clock;
pub mod interface;
pub mod layout;
pub mod modules;
pub mod preflight;
pub mod reasons;
pub mod symbols;
