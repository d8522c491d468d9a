//! The latest lines in memory, for consumers that each have their own pace.
//!
//! Who writes never waits: when the room is used up, the oldest line goes. Every consumer
//! has a place in the journal. When a line goes that it has not come to yet and wants, that
//! is counted for it there and then, so that a loss record can say exactly how many records
//! it misses, and how many dropped packets they stood for.
//!
//! Of lines that have gone before a consumer came, running totals are kept for longer than
//! the lines themselves.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{
    line::{Line, Totals},
    request::{Request, Subject, Wanted},
};
use crate::event::{Event, LossCause};

/// Of the room, the part that running totals of lines that have gone may take.
const PAST_SHARE: u64 = 8;

/// What the journal tells of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Lines in it.
    pub lines: usize,
    /// Memory that they take, about.
    pub bytes: u64,
    /// Records that consumers missed, each counted for each that missed it.
    pub missed: u64,
}

/// The latest lines. All copies are the same journal.
#[derive(Clone, Debug)]
pub struct Journal {
    book: Arc<Mutex<Book>>,
    news: watch::Sender<News>,
}

/// What wakes up consumers.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    closed: bool,
}

impl Journal {
    /// An empty journal with room for `keep` bytes, in which the next number is `first`.
    #[must_use]
    pub fn new(keep: u64, boot_id: String, first: u64) -> Self {
        let past = keep / PAST_SHARE / size_of::<Past>() as u64;
        let book = Book {
            boot_id,
            keep,
            keep_past: usize::try_from(past).unwrap_or(usize::MAX),
            first,
            next: first,
            lines: VecDeque::new(),
            size: 0,
            past: VecDeque::new(),
            total: Totals::default(),
            places: BTreeMap::new(),
            opened: 0,
            missed: 0,
        };
        Self {
            book: Arc::new(Mutex::new(book)),
            news: watch::Sender::new(News::default()),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing is left half-done where a panic could come from.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a line at the end. Its number has to be the next one.
    pub fn push(&self, line: Line, subject: Subject) {
        self.book().push(line, subject);
        self.news.send_modify(|_| {});
    }

    /// The number that the next line will have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.book().next
    }

    /// A consumer of everything from this number on.
    #[must_use]
    pub fn cursor(&self, from: u64) -> Cursor {
        self.open(Begin::Number(from), Wanted::default())
    }

    /// The consumer that a reader asks for; it begins at `from` if it says nothing else.
    #[must_use]
    pub fn reader(&self, from: u64, request: Request) -> Cursor {
        let from = match request.after {
            Some(after) => Begin::After {
                after,
                boot_id: request.boot_id,
            },
            None => Begin::Number(from),
        };
        self.open(from, request.wanted)
    }

    fn open(&self, from: Begin, wanted: Wanted) -> Cursor {
        let id = self.book().open(from, wanted);
        Cursor {
            journal: self.clone(),
            id,
            news: self.news.subscribe(),
        }
    }

    /// Nothing more comes: consumers end when they have read what there is.
    pub fn close(&self) {
        self.news.send_modify(|news| news.closed = true);
    }

    /// Comes back when the journal is closed.
    pub async fn closed(&self) {
        let mut news = self.news.subscribe();
        // The sender is `self`.
        let _ = news.wait_for(|news| news.closed).await;
    }

    /// How large it is.
    #[must_use]
    pub fn size(&self) -> Size {
        let book = self.book();
        Size {
            lines: book.lines.len(),
            bytes: book.size,
            missed: book.missed,
        }
    }
}

/// Where a consumer begins.
#[derive(Debug)]
enum Begin {
    /// At a number of this run.
    Number(u64),
    /// Behind the last number that it has, maybe of another run.
    After { after: u64, boot_id: Option<String> },
}

/// What a consumer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// Something.
    Lines,
    /// Nothing for now.
    Nothing,
    /// Nothing any more.
    End,
}

/// A consumer's place in the journal, given up when it is dropped.
#[derive(Debug)]
pub struct Cursor {
    journal: Journal,
    id: u64,
    news: watch::Receiver<News>,
}

impl Cursor {
    /// Appends the next whole lines to `to` until it has `most` bytes or more. Where lines
    /// are missing, a loss record stands for them, which gives `why` as the cause.
    pub fn read(&mut self, most: usize, why: LossCause, to: &mut Vec<u8>) -> Got {
        // What comes from here on wakes up `changed`.
        let closed = self.news.borrow_and_update().closed;
        let before = to.len();
        self.journal.book().read(self.id, most, why, to);
        if to.len() > before {
            Got::Lines
        } else if closed {
            Got::End
        } else {
            Got::Nothing
        }
    }

    /// The number that it comes to next.
    #[must_use]
    pub fn next(&self) -> u64 {
        let book = self.journal.book();
        book.places.get(&self.id).map_or(0, |place| place.next)
    }

    /// Comes back when there is something new since the last [`Cursor::read`].
    pub async fn changed(&mut self) {
        // The sender is in `self.journal`.
        let _ = self.news.changed().await;
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.journal.book().places.remove(&self.id);
    }
}

#[derive(Debug)]
struct Kept {
    line: Line,
    subject: Subject,
    /// All lines of this run before it.
    before: Totals,
}

impl Kept {
    /// About what it takes in memory.
    fn weight(&self) -> u64 {
        (self.line.text.len() + size_of::<Self>()) as u64
    }
}

/// What stays of a line that has gone.
#[derive(Debug)]
struct Past {
    seq: u64,
    before: Totals,
}

/// Where a consumer is.
#[derive(Debug)]
struct Place {
    /// The number that it comes to next.
    next: u64,
    wanted: Wanted,
    /// What it has to be told of, before the line `next`.
    missed: Totals,
    unknown: Unknown,
}

/// What is not known of what a consumer missed before it came.
#[derive(Clone, Copy, Debug, Default)]
struct Unknown {
    /// The number that it named is none of this run.
    foreign: Option<u64>,
    /// Which of them it wanted.
    wanted: bool,
    /// How many packets they stood for.
    packets: bool,
}

#[derive(Debug)]
struct Book {
    boot_id: String,
    /// Bytes that lines may take.
    keep: u64,
    /// Entries that `past` may have.
    keep_past: usize,
    /// The first number of this run.
    first: u64,
    /// The number to be given next.
    next: u64,
    lines: VecDeque<Kept>,
    size: u64,
    past: VecDeque<Past>,
    /// All lines of this run.
    total: Totals,
    places: BTreeMap<u64, Place>,
    opened: u64,
    missed: u64,
}

impl Book {
    fn push(&mut self, line: Line, subject: Subject) {
        let kept = Kept {
            before: self.total,
            line,
            subject,
        };
        self.total += Totals::of(&kept.line);
        self.next = kept.line.seq.saturating_add(1);
        self.size += kept.weight();
        self.lines.push_back(kept);
        while self.size > self.keep && self.lines.len() > 1 {
            self.let_go();
        }
    }

    /// The oldest line makes room.
    fn let_go(&mut self) {
        let Some(kept) = self.lines.pop_front() else {
            return;
        };
        self.size -= kept.weight();
        for place in self.places.values_mut() {
            if place.next > kept.line.seq {
                continue;
            }
            place.next = kept.line.seq + 1;
            if place.wanted.takes(&kept.subject) {
                place.missed += Totals::of(&kept.line);
                self.missed += 1;
            }
        }
        self.past.push_back(Past {
            seq: kept.line.seq,
            before: kept.before,
        });
        while self.past.len() > self.keep_past {
            self.past.pop_front();
        }
    }

    fn open(&mut self, from: Begin, wanted: Wanted) -> u64 {
        let mut unknown = Unknown::default();
        let next = match from {
            Begin::Number(next) => next,
            Begin::After { after, boot_id } => {
                let next = after.saturating_add(1);
                let other_boot = boot_id.is_some_and(|boot_id| boot_id != self.boot_id);
                if other_boot || next < self.first || next > self.next {
                    unknown.foreign = Some(after);
                    self.first
                } else {
                    next
                }
            }
        };
        let mut place = Place {
            next,
            wanted,
            missed: Totals::default(),
            unknown,
        };
        if let Some(oldest) = self.lines.front()
            && place.next < oldest.line.seq
        {
            let until = (oldest.line.seq, oldest.before);
            self.behind(&mut place, until);
        }
        self.opened += 1;
        self.places.insert(self.opened, place);
        self.opened
    }

    /// For a consumer that begins at lines that have gone.
    fn behind(&mut self, place: &mut Place, (oldest, until): (u64, Totals)) {
        let index = self.past.partition_point(|past| past.seq < place.next);
        let from = match self.past.get(index) {
            _ if place.next <= self.first => Some(Totals::default()),
            // The totals at its number may have gone too.
            Some(past) if index > 0 || past.seq == place.next => Some(past.before),
            _ => None,
        };
        place.missed = match from {
            Some(from) => until - from,
            None => Totals {
                records: oldest - place.next,
                ..Totals::default()
            },
        };
        place.unknown.packets = from.is_none();
        place.unknown.wanted = !place.wanted.is_all();
        place.next = oldest;
        self.missed += place.missed.records;
    }

    fn read(&mut self, id: u64, most: usize, why: LossCause, to: &mut Vec<u8>) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        if let Some(after) = place.unknown.foreign.take() {
            let last = place.next.saturating_sub(1);
            let mut loss = Totals::default().lost(LossCause::NotRunning, last, &self.boot_id);
            loss.advice = Some(format!(
                "number {after} is of another run of the daemon; what came after it there is \
                 not known, this run began with number {}",
                self.first
            ));
            append(&loss, to);
        }
        if place.missed.records > 0 {
            // It has the last number that it stands for: who resumes behind it is not told
            // again.
            let last = place.next.saturating_sub(1);
            let mut loss = place.missed.lost(why, last, &self.boot_id);
            let mut advice = vec!["read faster, or raise socket.keep"];
            if place.unknown.wanted {
                advice.push("the count is of all records, whatever the filter");
            }
            if place.unknown.packets {
                advice.push("how many packets they stood for is not known any more");
            }
            loss.advice = Some(advice.join("; "));
            append(&loss, to);
            place.missed = Totals::default();
            place.unknown = Unknown::default();
        }
        let index = self
            .lines
            .partition_point(|kept| kept.line.seq < place.next);
        for kept in self.lines.range(index..) {
            if to.len() >= most {
                break;
            }
            place.next = kept.line.seq + 1;
            if place.wanted.takes(&kept.subject) {
                to.extend_from_slice(&kept.line.text);
            }
        }
    }
}

fn append(event: &Event, to: &mut Vec<u8>) {
    match serde_json::to_vec(event) {
        Ok(text) => {
            to.extend_from_slice(&text);
            to.push(b'\n');
        }
        // A record is made of texts and numbers.
        Err(error) => log::error!("cannot write a loss record as JSON: {error}"),
    }
}

#[cfg(test)]
mod tests;
