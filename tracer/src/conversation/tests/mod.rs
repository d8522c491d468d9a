//! Conversations written by hand, and what TCP and the documents say of them.

mod attempts;
mod documented;
mod elsewhere;
mod established;
mod handshake;
mod hostile;
mod idle;
mod losses;
mod opening;
mod origin;
mod overflow;
mod rejected;
mod stuck;
mod troubles;
mod unlisted;
mod world;
