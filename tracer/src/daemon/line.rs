//! A record on its way out of the daemon: numbered, and written once for all exporters.

use bytes::Bytes;

use crate::event::Event;

/// A record as a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// [`Event::seq`].
    pub seq: u64,
    /// Packets that it stands for.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The JSON object, with the line's end.
    pub text: Bytes,
}

impl Line {
    /// The record under this number.
    ///
    /// # Errors
    ///
    /// If it cannot be written as JSON, which no record gives reason for.
    pub fn new(mut event: Event, seq: u64, boot_id: &str) -> serde_json::Result<Self> {
        event.seq = Some(seq);
        event.boot_id = Some(boot_id.to_owned());
        let mut text = serde_json::to_vec(&event)?;
        text.push(b'\n');
        Ok(Self {
            seq,
            packets: event.packets,
            bytes: event.bytes,
            text: text.into(),
        })
    }
}
