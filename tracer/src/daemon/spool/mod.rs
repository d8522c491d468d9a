//! Records on disk until a receiver has them.
//!
//! The stream of all records ever spooled is cut into segments, files that are named by
//! the number of their first record. [`write`] appends, [`read`] takes from the front,
//! and [`state`] remembers how far the receiver has come. What is missing between the
//! receiver's place and the next record on disk, whatever took it (no room, a bad disk),
//! is told to the receiver by a loss record at that place: the places in the frames say
//! how much it was, so that this count cannot be lost with the records.

mod directory;
mod frame;
mod read;
mod state;
#[cfg(test)]
mod tests;
mod write;

use std::{cmp::Reverse, collections::VecDeque, fs::File, io, path::Path};

use bytes::Bytes;
use serde::Deserialize;

use self::{directory::Directory, read::Reader, state::State, write::Active};
pub use self::{directory::SpoolError, frame::MAX_LINE};
use super::line::{Line, Totals};
use crate::event::LossCause;

/// Smaller than this no spool is.
const MIN_SIZE: u64 = 256 << 10;
const MIN_SEGMENT: u64 = 64 << 10;
const MAX_SEGMENT: u64 = 8 << 20;

/// How much waits in memory while the disk takes nothing, in bytes of lines.
const MAX_WAITING: usize = 4 << 20;

/// Makes the record that tells of a loss.
pub type Tell<'a> = &'a mut dyn FnMut(LossCause, Totals) -> String;

/// Records on disk until a receiver has them.
#[derive(Debug)]
pub struct Spool {
    directory: Directory,
    file: File,
    state: State,
    /// Whether the state in memory is on disk too.
    saved: bool,
    size: u64,
    segment_size: u64,
    segments: VecDeque<Segment>,
    active: Option<Active>,
    reader: Option<Reader>,
    /// Lines that are not on disk yet.
    waiting: VecDeque<Line>,
    waiting_bytes: usize,
    /// How the disk last failed, until it works again.
    trouble: Option<String>,
    /// What is being sent.
    hand: VecDeque<Record>,
    from: From,
    /// A loss record was refused: the next one goes after other records have passed.
    told_in_vain: bool,
}

/// A record that is being sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Packets that it stands for.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The JSON object.
    pub text: Bytes,
}

impl Record {
    /// What is lost with it.
    #[must_use]
    pub fn loss(&self) -> Totals {
        Totals {
            records: 1,
            packets: self.packets,
            bytes: self.bytes,
        }
    }
}

/// Where the records that are being sent come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Disk,
    Memory,
    Loss,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    first: u64,
    size: u64,
}

/// How the spool is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Records that the receiver does not have yet.
    pub records: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// How the disk last failed; `None` while it works.
    pub trouble: Option<String>,
}

impl Spool {
    /// Opens the spool in this directory, which is made if there is none.
    ///
    /// # Errors
    ///
    /// If another process has it, or its files cannot be opened. Damage in them is no
    /// error: what it took is told as lost.
    pub fn open(path: &Path, size: u64) -> Result<Self, SpoolError> {
        let size = size.max(MIN_SIZE);
        let directory = Directory::open(path)?;
        let file = directory.state()?;
        let failed = |what| {
            let path = path.join("state");
            move |error| SpoolError::File { what, path, error }
        };
        State::allocate(&file).map_err(failed("allocate"))?;
        let remembered = State::load(&file).map_err(failed("read"))?;
        let segments: VecDeque<Segment> = directory
            .segments()?
            .into_iter()
            .map(|(first, size)| Segment { first, size })
            .collect();
        if remembered.is_none() && !segments.is_empty() {
            log::warn!(
                "the spool's state cannot be read: its records are sent again, and losses not \
                 told yet are forgotten"
            );
        }
        let known = remembered.is_some();
        let mut spool = Self {
            directory,
            file,
            state: remembered.unwrap_or_default(),
            saved: true,
            size,
            segment_size: (size / 16).clamp(MIN_SEGMENT, MAX_SEGMENT),
            segments,
            active: None,
            reader: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            trouble: None,
            hand: VecDeque::new(),
            from: From::Disk,
            told_in_vain: false,
        };
        if !known {
            spool.state.cursor = spool.first_place();
            spool.state.end = spool.state.cursor;
        }
        spool.recover();
        spool.save();
        spool.tidy();
        Ok(spool)
    }

    /// Records that are to be sent, the first ones first; the same ones until
    /// it is said what became of them.
    pub fn front(&mut self, records: usize, bytes: usize, tell: Tell<'_>) -> &VecDeque<Record> {
        if self.hand.is_empty() {
            self.fill(records, bytes, tell);
        }
        &self.hand
    }

    /// Whether there may be something to send.
    #[must_use]
    pub fn has_front(&self) -> bool {
        !self.hand.is_empty()
            || self.state.cursor.index < self.state.end.index
            || !self.waiting.is_empty()
            || self.state.telling.is_some()
            || (!self.told_in_vain && !self.state.untold.is_empty())
    }

    /// When the record at the front was last seen, if one is being sent.
    #[must_use]
    pub fn oldest(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Seen {
            time: String,
        }
        let record = self.hand.front()?;
        serde_json::from_slice(&record.text)
            .ok()
            .map(|seen: Seen| seen.time)
    }

    /// The receiver has the first so many of [`Self::front`].
    pub fn done(&mut self, records: usize) {
        self.finish(records, Totals::default());
    }

    /// The receiver has the first so many of [`Self::front`] but for some, and does not
    /// say which: the largest, so that what is told is not too little.
    pub fn partly_refused(&mut self, records: usize, refused: u64) {
        let mut losses: Vec<Totals> = self.hand.iter().take(records).map(Record::loss).collect();
        losses.sort_unstable_by_key(|loss| Reverse(loss.packets));
        losses.truncate(usize::try_from(refused).unwrap_or(usize::MAX));
        self.finish(records, losses.into_iter().collect());
    }

    /// The receiver refused the first so many of [`Self::front`] for good.
    pub fn refused(&mut self, records: usize) {
        if self.from == From::Loss {
            if let Some(telling) = &self.state.telling {
                let untold = telling.untold;
                self.state.lose(untold.why, untold.lost);
            }
            self.finish(records, Totals::default());
            self.told_in_vain = true;
        } else {
            let lost = self.hand.iter().take(records).map(Record::loss).collect();
            self.finish(records, lost);
        }
    }

    fn finish(&mut self, records: usize, refused: Totals) {
        for record in self.hand.drain(..records.min(self.hand.len())) {
            match self.from {
                From::Disk => {
                    self.state.cursor = self.state.cursor.behind(record.packets, record.bytes);
                }
                From::Memory => {}
                From::Loss => {
                    if let Some(to) = self.state.telling.take().and_then(|telling| telling.to) {
                        self.state.cursor = to;
                    }
                }
            }
        }
        self.told_in_vain &= self.from == From::Loss;
        self.state.lose(LossCause::Refused, refused);
        self.save();
        self.tidy();
    }

    /// Counts records that were lost on their way here.
    pub fn lose(&mut self, why: LossCause, lost: Totals) {
        self.state.lose(why, lost);
        self.save();
    }

    /// How it is.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let on_disk = self.state.end.since(self.state.cursor).records;
        let in_hand = match self.from {
            From::Memory => self.hand.len(),
            From::Disk | From::Loss => 0,
        };
        Condition {
            records: on_disk + (self.waiting.len() + in_hand) as u64,
            bytes: self.total(),
            trouble: self.trouble.clone(),
        }
    }

    fn total(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Writes the state; if that fails, the next change tries again.
    fn save(&mut self) {
        self.saved = match self.state.save(&self.file) {
            Ok(()) => true,
            Err(error) => {
                self.troubled("write the spool's state", &error);
                false
            }
        };
    }

    /// Removes the segments that the receiver has.
    fn tidy(&mut self) {
        // Without the receiver's place on disk, what is removed would look like a loss.
        while self.saved
            && let Some(next) = self.segments.get(1)
            && next.first <= self.state.cursor.index
        {
            if !self.remove_first() {
                break;
            }
        }
    }

    fn remove_first(&mut self) -> bool {
        let Some(segment) = self.segments.front() else {
            return false;
        };
        let first = segment.first;
        if let Err(error) = self.directory.remove(first) {
            self.troubled("remove a segment of the spool", &error);
            return false;
        }
        self.segments.pop_front();
        if self.active.as_ref().is_some_and(|it| it.first == first) {
            self.active = None;
        }
        if self.reader.as_ref().is_some_and(|it| it.first == first) {
            self.reader = None;
        }
        true
    }

    fn troubled(&mut self, what: &str, error: &io::Error) {
        let text = format!("cannot {what}: {error}");
        if self.trouble.as_ref() != Some(&text) {
            log::warn!("{text}");
            self.trouble = Some(text);
        }
    }
}

/// The record that tells of records lost on their way to a receiver.
///
/// # Errors
///
/// If it cannot be written as JSON, which it gives no reason for.
pub fn loss_line(
    why: LossCause,
    lost: Totals,
    seq: u64,
    boot_id: &str,
) -> serde_json::Result<String> {
    serde_json::to_string(&lost.lost(why, seq, boot_id))
}
