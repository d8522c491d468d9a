//! What the spool must remember beside its segments: how far the receiver has come, and
//! losses that it has not been told yet.
//!
//! Two slots of fixed places in one file are written in turn, each with a checksum and a
//! growing number: a write that is cut off leaves the other slot. Nothing is allocated
//! for a write, so that it works on a full disk too.

use std::{fs::File, io, os::unix::fs::FileExt};

use serde::{Deserialize, Serialize};

use super::frame::Place;
use crate::daemon::line::Totals;
use crate::event::LossCause;

const MAGIC: [u8; 4] = *b"DTS1";
const SLOT: usize = 8192;
const HEADER: usize = 12;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Grows with every write.
    generation: u64,
    /// What lies before it is done with: taken by the receiver, or told as lost.
    pub cursor: Place,
    /// What lies before it was safe on disk when this was written.
    pub end: Place,
    /// Segments with lower indices were removed for want of room.
    pub dropped: u64,
    /// Losses that no record tells yet.
    pub untold: Vec<Untold>,
    /// The loss record that is being sent.
    pub telling: Option<Telling>,
}

/// Losses that no record tells yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    /// Why.
    pub why: LossCause,
    /// How much.
    pub lost: Totals,
}

/// A loss record that is being sent. It stays the same, its number too, until the
/// receiver has it, so that a copy of it is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telling {
    /// What it tells.
    pub untold: Untold,
    /// The record.
    pub line: String,
    /// For records that are missing in the spool: the place behind them.
    pub to: Option<Place>,
}

impl State {
    /// Adds to what is to be told.
    pub fn lose(&mut self, why: LossCause, lost: Totals) {
        if lost == Totals::default() {
            return;
        }
        match self.untold.iter_mut().find(|untold| untold.why == why) {
            Some(untold) => untold.lost += lost,
            None => self.untold.push(Untold { why, lost }),
        }
    }

    /// The younger of the slots that can be read; `None` if neither can.
    pub fn load(file: &File) -> io::Result<Option<Self>> {
        let mut newest: Option<Self> = None;
        for slot in 0..2 {
            let mut bytes = vec![0; SLOT];
            let mut length = 0;
            while length < SLOT {
                match file.read_at(&mut bytes[length..], (slot * SLOT + length) as u64)? {
                    0 => break,
                    read => length += read,
                }
            }
            if let Some(state) = Self::decode(&bytes)
                && newest
                    .as_ref()
                    .is_none_or(|newest| state.generation > newest.generation)
            {
                newest = Some(state);
            }
        }
        Ok(newest)
    }

    /// Writes it so that it is there after a power cut.
    pub fn save(&mut self, file: &File) -> io::Result<()> {
        // After a failure the same slot is written again, never the one that is good.
        let next = Self {
            generation: self.generation.wrapping_add(1),
            ..self.clone()
        };
        file.write_all_at(&next.encode()?, (next.generation % 2) * SLOT as u64)?;
        file.sync_data()?;
        self.generation = next.generation;
        Ok(())
    }

    /// Takes the room for both slots, where that has not been done yet.
    pub fn allocate(file: &File) -> io::Result<()> {
        let length = file.metadata()?.len();
        if length < 2 * SLOT as u64 {
            file.write_all_at(
                &vec![0; 2 * SLOT - usize::try_from(length).unwrap_or(0)],
                length,
            )?;
            file.sync_all()?;
        }
        Ok(())
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(slot.get(at..at + 4)?.try_into().ok()?));
        let length = usize::try_from(word(4)?).ok()?;
        let text = slot.get(HEADER..HEADER.checked_add(length)?)?;
        if slot[..4] != MAGIC || word(8)? != crc32fast::hash(text) {
            return None;
        }
        serde_json::from_slice(text).ok()
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let text = serde_json::to_vec(self)?;
        let mut slot = Vec::with_capacity(SLOT);
        slot.extend_from_slice(&MAGIC);
        slot.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        slot.extend_from_slice(&crc32fast::hash(&text).to_le_bytes());
        slot.extend_from_slice(&text);
        if slot.len() > SLOT {
            return Err(io::Error::other("the loss record is too long"));
        }
        slot.resize(SLOT, 0);
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_is_cut_off_leaves_what_was_there_before() {
        let file = tempfile::tempfile().unwrap();
        State::allocate(&file).unwrap();
        assert_eq!(State::load(&file).unwrap(), None);
        let mut state = State::default();
        state.cursor.index = 7;
        state.save(&file).unwrap();
        let before = state.clone();
        let slot_before = State::load(&file).unwrap();
        assert_eq!(slot_before.as_ref(), Some(&before));
        state.cursor.index = 8;
        state.generation += 1;
        let next = state.encode().unwrap();
        for cut in 0..next.iter().rposition(|byte| *byte != 0).unwrap() {
            file.write_all_at(&next[..cut], (state.generation % 2) * SLOT as u64)
                .unwrap();
            assert_eq!(State::load(&file).unwrap().as_ref(), Some(&before), "{cut}");
        }
        file.write_all_at(&next, (state.generation % 2) * SLOT as u64)
            .unwrap();
        assert_eq!(State::load(&file).unwrap(), Some(state));
    }
}
