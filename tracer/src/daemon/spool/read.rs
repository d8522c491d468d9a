//! Taking from the front of the spool.

use std::{fs::File, io, ops::Range};

use super::{
    From, Record, Segment, Spool, Tell,
    directory::{MAX_INDEX, read_at},
    frame::{self, Found, Frame, HEADER, MAX_LINE, Place},
    state::{Telling, Untold},
};
use crate::{daemon::line::Totals, event::LossCause};

/// Where the next record of the receiver is expected.
#[derive(Debug)]
pub(super) struct Reader {
    pub first: u64,
    file: File,
    offset: u64,
}

/// What comes next on disk.
enum Next {
    Records,
    /// Nothing up to this place.
    Gap(Place),
    Nothing,
}

impl Spool {
    /// Takes into the hand what is to be sent next.
    pub(super) fn fill(&mut self, records: usize, bytes: usize, tell: Tell<'_>) {
        if self.state.telling.is_none() && !self.told_in_vain {
            self.state
                .untold
                .retain(|untold| untold.lost != Totals::default());
            if !self.state.untold.is_empty() {
                let untold = self.state.untold.remove(0);
                self.tell(untold, None, tell);
            }
        }
        if self.state.telling.is_none() {
            match self.read(records, bytes) {
                Next::Records => return,
                Next::Gap(to) => {
                    let why = if to.index <= self.state.dropped {
                        LossCause::SpoolFull
                    } else {
                        LossCause::SpoolDamaged
                    };
                    let lost = to.since(self.state.cursor);
                    self.tell(Untold { why, lost }, Some(to), tell);
                }
                Next::Nothing => {
                    // What the disk does not take goes to the receiver all the same.
                    self.from = From::Memory;
                    let mut size = 0;
                    while self.hand.len() < records
                        && size < bytes
                        && let Some(line) = self.waiting.pop_front()
                    {
                        self.waiting_bytes -= line.text.len();
                        size += line.text.len();
                        self.hand.push_back(Record {
                            packets: line.packets,
                            bytes: line.bytes,
                            text: line.text,
                        });
                    }
                    return;
                }
            }
        }
        if let Some(telling) = &self.state.telling {
            self.from = From::Loss;
            self.hand.push_back(Record {
                packets: telling.untold.lost.packets,
                bytes: telling.untold.lost.bytes,
                text: telling.line.clone().into(),
            });
        }
    }

    fn tell(&mut self, untold: Untold, to: Option<Place>, tell: Tell<'_>) {
        self.state.telling = Some(Telling {
            untold,
            line: tell(untold.why, untold.lost),
            to,
        });
        self.save();
    }

    fn read(&mut self, records: usize, bytes: usize) -> Next {
        let cursor = self.state.cursor;
        if cursor.index >= self.state.end.index {
            return Next::Nothing;
        }
        // The segment that the receiver's place is in, or the first one behind it.
        let mut at = self
            .segments
            .partition_point(|segment| segment.first <= cursor.index)
            .saturating_sub(1);
        while let Some(segment) = self.segments.get(at).copied() {
            let before = self
                .segments
                .get(at + 1)
                .map_or(self.state.end.index, |next| next.first);
            match self.seek(segment, cursor.index..before) {
                Ok(Some((frame, _))) if frame.place.index > cursor.index => {
                    return Next::Gap(frame.place);
                }
                Ok(Some((frame, buffer))) => {
                    self.from = From::Disk;
                    let (taken, length) = take(&frame, &buffer, records, bytes, before);
                    if let Some(reader) = &mut self.reader {
                        reader.offset += length;
                    }
                    self.hand = taken.into();
                    return Next::Records;
                }
                Ok(None) => {}
                Err(error) => {
                    self.troubled("read the spool", &error);
                    if passes(&error) {
                        return Next::Nothing;
                    }
                }
            }
            self.reader = None;
            at += 1;
        }
        Next::Gap(self.state.end)
    }

    /// The first frame of a segment whose index is one of these, and what was read there.
    fn seek(
        &mut self,
        segment: Segment,
        indices: Range<u64>,
    ) -> io::Result<Option<(Frame, Vec<u8>)>> {
        let reader = match &mut self.reader {
            Some(reader) if reader.first == segment.first => reader,
            reader => reader.insert(Reader {
                first: segment.first,
                file: self.directory.segment(segment.first)?,
                offset: 0,
            }),
        };
        reader.seek(segment.size, indices)
    }
}

impl Reader {
    /// Moves to the first frame whose index is one of these; gives it and what was read
    /// there.
    fn seek(&mut self, size: u64, indices: Range<u64>) -> io::Result<Option<(Frame, Vec<u8>)>> {
        const READ: usize = 256 << 10;
        let mut most = READ;
        while self.offset < size {
            let left = usize::try_from(size - self.offset).unwrap_or(usize::MAX);
            let buffer = read_at(&self.file, self.offset, most.min(left))?;
            let mut skipped = 0;
            // What was read before, or belongs to no place that is looked for.
            while let Found::Whole(frame) = frame::decode(&buffer, skipped) {
                if indices.contains(&frame.place.index) {
                    self.offset += skipped as u64;
                    let rest = frame.line.start - HEADER;
                    let frame = Frame {
                        line: frame.line.start - rest..frame.line.end - rest,
                        ..frame
                    };
                    return Ok(Some((frame, buffer[skipped..].to_vec())));
                }
                skipped = frame.line.end;
            }
            let whole = buffer.len() == left;
            match frame::decode(&buffer, skipped) {
                // The rest of it is further on.
                Found::Part(_) | Found::Short if !whole && skipped > 0 => {
                    self.offset += skipped as u64;
                }
                Found::Part(_) if !whole && most < MAX_LINE + HEADER => most = MAX_LINE + HEADER,
                _ => {
                    // Damage: on to the next frame that is whole.
                    let all = read_at(&self.file, self.offset, left)?;
                    let Some(found) = frame::search(&all, skipped, &(0..MAX_INDEX)) else {
                        return Ok(None);
                    };
                    self.offset += (found.line.start - HEADER) as u64;
                    most = READ;
                }
            }
        }
        Ok(None)
    }
}

/// Whether it says nothing about what is on disk.
fn passes(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN | libc::EINTR)
    )
}

/// As many frames as follow each other and are wanted, and the bytes that they took.
fn take(
    first: &Frame,
    buffer: &[u8],
    records: usize,
    bytes: usize,
    before: u64,
) -> (Vec<Record>, u64) {
    let mut taken = Vec::new();
    let mut length = 0;
    let mut next = Some(first.clone());
    let mut expected = first.place.index;
    while let Some(frame) = next.filter(|frame| frame.place.index == expected) {
        if !taken.is_empty() && (taken.len() >= records || frame.line.end > bytes) {
            break;
        }
        expected += 1;
        length = frame.line.end;
        taken.push(Record {
            packets: frame.packets,
            bytes: frame.bytes,
            text: bytes::Bytes::copy_from_slice(&buffer[frame.line.clone()]),
        });
        next = match frame::decode(buffer, frame.line.end) {
            Found::Whole(frame) if expected < before => Some(frame),
            _ => None,
        };
    }
    (taken, length as u64)
}
