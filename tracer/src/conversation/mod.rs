//! What became of the conversations that the filter selects, and who is to blame.
//!
//! Records (drops, resets, retransmits) and [`Sighting`]s of packets that pass go in;
//! `verdict` records come out. Nothing here asks the kernel anything.

mod input;

use std::net::IpAddr;

use jiff::Timestamp;

pub use self::input::{
    Content, Endpoints, IcmpError, Packet, Passed, Seen, Segment, Sighting, State, TcpState, Way,
};
use crate::event::Event;

/// What else is known to whoever makes an attempt itself (`droptrace probe`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub began: Timestamp,
    /// When its end was known to the application.
    pub ended: Timestamp,
    /// Own end, if the kernel gave one.
    pub flow: Option<Endpoints>,
    /// Where it was to go.
    pub to: std::net::SocketAddr,
    /// Protocol number: 6 or 17.
    pub proto: u8,
    /// Error number that the application got; 0 for none.
    pub error: i32,
    /// Of UDP: an answer came.
    pub answered: bool,
}

/// The conversations under way.
#[derive(Debug, Default)]
pub struct Conversations {}

impl Conversations {
    /// Learns from records of the tracer; each only once. To be called before
    /// [`Conversations::see`] with what was drained at the same time.
    pub fn record(&mut self, _records: &[Event]) {}

    /// Learns from what was seen.
    pub fn see(&mut self, _sightings: &[Sighting]) {}

    /// Sightings that were lost: conclusions from what is missing are not certain.
    pub fn lost(&mut self, _count: u64) {}

    /// Learns from an attempt of the tracer's own.
    pub fn attempted(&mut self, _attempt: &Attempt) {}

    /// `verdict` records about conversations that have come to an end, of which nothing
    /// more is to be expected at `now`. Each conversation once.
    pub fn settled(&mut self, _now: Timestamp) -> Vec<Event> {
        Vec::new()
    }

    /// At the end of a run: `verdict` records about those that have not, and one about
    /// each destination as a whole. The last one is about what most needs attention.
    /// `watched` are destinations that the filter names, about which something is to
    /// be said even if nothing was seen.
    pub fn conclude(&mut self, _now: Timestamp, _watched: &[(IpAddr, Option<u16>)]) -> Vec<Event> {
        Vec::new()
    }
}
