//! Whose packet it was: process, control group, network namespace.

pub mod cgroup;
pub mod home;
pub mod listen;
pub mod netns;
pub mod sockets;
