//! Appending to the spool, and what happens when there is no room.

use std::{fs::File, io, os::unix::fs::FileExt};

use super::{
    MAX_LINE, MAX_WAITING, Segment, Spool,
    directory::{MAX_INDEX, read_at},
    frame::{self, Found, HEADER, Place},
};
use crate::{
    daemon::line::{Line, Totals},
    event::LossCause,
};

/// Written at a time.
const CHUNK: usize = 1 << 20;

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Active {
    pub first: u64,
    file: File,
    /// A write failed: what lies behind the segment's size must go first.
    torn: bool,
}

impl Spool {
    /// Takes these lines. They are safe on disk when this returns, unless the disk does
    /// not take them: then they wait in memory, and the oldest of too many are lost.
    /// Gives the last number that is safe.
    pub fn append(&mut self, lines: impl IntoIterator<Item = Line>) -> Option<u64> {
        for line in lines {
            if line.text.len() > MAX_LINE {
                self.state.lose(LossCause::SpoolFull, Totals::of(&line));
                continue;
            }
            self.waiting_bytes += line.text.len();
            self.waiting.push_back(line);
        }
        let mut safe = None;
        while !self.waiting.is_empty() {
            match self.write() {
                Ok(seq) => {
                    safe = Some(seq);
                    if self.trouble.take().is_some() {
                        log::info!("the spool is written again");
                    }
                }
                Err(error) => {
                    self.troubled("write to the spool", &error);
                    // Of the receiver's own records none is removed for room.
                    if !self.remove_all_done() {
                        break;
                    }
                }
            }
        }
        while self.waiting_bytes > MAX_WAITING
            && let Some(line) = self.waiting.pop_front()
        {
            self.waiting_bytes -= line.text.len();
            self.state.lose(LossCause::SpoolFull, Totals::of(&line));
            self.saved = false;
        }
        if !self.saved {
            self.save();
        }
        safe
    }

    /// Whether lines wait for the disk.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// One write: as many lines as go into a segment.
    fn write(&mut self) -> io::Result<u64> {
        let next = self.waiting.front().map_or(0, |line| line.text.len()) + HEADER;
        let size = self.segments.back().map_or(0, |segment| segment.size);
        if self.active.is_none() || (size > 0 && size + next as u64 > self.segment_size) {
            self.begin_segment()?;
        }
        let offset = self.segments.back().map_or(0, |segment| segment.size);
        let mut chunk = Vec::new();
        let mut end = self.state.end;
        let mut count = 0;
        let mut seq = 0;
        for line in &self.waiting {
            let length = chunk.len() + HEADER + line.text.len();
            if count > 0 && (length > CHUNK || offset + length as u64 > self.segment_size) {
                break;
            }
            frame::encode(&mut chunk, end, line.packets, line.bytes, &line.text);
            end = end.behind(line.packets, line.bytes);
            count += 1;
            seq = line.seq;
        }
        self.make_room(chunk.len() as u64);
        let Some(active) = &mut self.active else {
            return Err(io::ErrorKind::NotFound.into());
        };
        active.append(offset, &chunk)?;
        if let Some(segment) = self.segments.back_mut() {
            segment.size += chunk.len() as u64;
        }
        self.state.end = end;
        for line in self.waiting.drain(..count) {
            self.waiting_bytes -= line.text.len();
        }
        Ok(seq)
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let first = self.state.end.index;
        let file = self.directory.create(first)?;
        // One of that name may be there: it has no record that is safe.
        file.set_len(0)?;
        if self.segments.back().is_none_or(|last| last.first != first) {
            self.segments.push_back(Segment { first, size: 0 });
        }
        self.active = Some(Active {
            first,
            file,
            torn: false,
        });
        Ok(())
    }

    /// The oldest segments go while there are too many.
    fn make_room(&mut self, more: u64) {
        while self.total() + more > self.size
            && let Some(next) = self.segments.get(1)
        {
            if next.first > self.state.cursor.index {
                self.state.dropped = self.state.dropped.max(next.first);
                self.save();
            }
            if !self.remove_first() {
                break;
            }
        }
    }

    /// On a full disk also the last segment goes, if the receiver has all of it.
    fn remove_all_done(&mut self) -> bool {
        if self.segments.iter().all(|segment| segment.size == 0)
            || self.state.cursor.index < self.state.end.index
        {
            return false;
        }
        self.save();
        let mut some = false;
        while self.saved && self.remove_first() {
            some = true;
        }
        some
    }

    /// The first place that is known; for a spool whose state is gone.
    pub(super) fn first_place(&self) -> Place {
        for (at, segment) in self.segments.iter().enumerate() {
            let before = self
                .segments
                .get(at + 1)
                .map_or(MAX_INDEX, |next| next.first);
            if let Ok(bytes) = self.whole(*segment)
                && let Some(frame) = frame::search(&bytes, 0, &(segment.first..before))
            {
                return frame.place;
            }
        }
        Place {
            index: self.segments.back().map_or(0, |last| last.first),
            ..Place::default()
        }
    }

    /// Finds the end of what is safe, and cuts off what lies behind it.
    pub(super) fn recover(&mut self) {
        let Some(last) = self.segments.back().copied() else {
            return;
        };
        let known = self.state.end;
        let (end, at) = self.last_frame();
        if let Some(end) = end.filter(|end| end.index > known.index) {
            self.state.end = end;
        }
        self.state.end.index = self.state.end.index.max(last.first);
        let Some((at, torn)) = at else {
            // It cannot be read, and is left as it is: what follows goes into another one.
            self.state.end.index = self.state.end.index.max(last.first + 1);
            return;
        };
        if let Some(torn) = torn {
            log::warn!("the spool's last segment ends in what is no record; it is cut off");
            // If it had been safe, the known end tells how much it was.
            if end.is_none_or(|end| end.index >= known.index) {
                self.state.lose(LossCause::SpoolDamaged, torn);
            }
        }
        match self.directory.segment(last.first) {
            Ok(file) => {
                self.active = Some(Active {
                    first: last.first,
                    file,
                    torn: torn.is_some(),
                });
                if let Some(segment) = self.segments.back_mut() {
                    segment.size = at;
                }
            }
            Err(error) => self.troubled("open the spool's last segment", &error),
        }
    }

    /// The place behind the last frame of all. And of the last segment, if it can be read,
    /// the length of what is good, and what is torn behind that: one record at least.
    fn last_frame(&self) -> (Option<Place>, Option<(u64, Option<Totals>)>) {
        let mut tail = None;
        for (from_end, segment) in self.segments.iter().rev().enumerate() {
            let bytes = match self.whole(*segment) {
                Ok(bytes) => bytes,
                Err(error) => {
                    log::warn!("cannot read a segment of the spool: {error}");
                    continue;
                }
            };
            let mut end: Option<Place> = None;
            let mut at = 0;
            while let Some(frame) = frame::search(&bytes, at, &(segment.first..MAX_INDEX)) {
                at = frame.line.end;
                if end.is_none_or(|end| end.index <= frame.place.index) {
                    end = Some(frame.behind());
                }
            }
            if from_end == 0 {
                let torn = (at < bytes.len()).then(|| match frame::decode(&bytes, at) {
                    Found::Part(frame) => frame.behind().since(frame.place),
                    _ => Totals {
                        records: 1,
                        ..Totals::default()
                    },
                });
                tail = Some((at as u64, torn));
            }
            if end.is_some() {
                return (end, tail);
            }
        }
        (None, tail)
    }

    fn whole(&self, segment: Segment) -> io::Result<Vec<u8>> {
        let file = self.directory.segment(segment.first)?;
        let most = segment.size.min(2 * super::MAX_SEGMENT);
        read_at(&file, 0, usize::try_from(most).unwrap_or(0))
    }
}

impl Active {
    /// Appends so that it is safe; if not all of it, then nothing.
    fn append(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(at)?;
            self.torn = false;
        }
        let done = self
            .file
            .write_all_at(bytes, at)
            .and_then(|()| self.file.sync_data());
        if done.is_err() {
            self.torn = self.file.set_len(at).is_err();
        }
        done
    }
}
