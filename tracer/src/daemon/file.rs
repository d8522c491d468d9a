//! Records in a file, one JSON object a line, with a new file at a size or an age.
//!
//! The file is a consumer of the [`Journal`] as a reader of the socket is one. While it
//! cannot be written (a full disk, a directory that is not there yet), lines wait in the
//! journal; those that have gone when it can be written again are told of at their place
//! in the file. Writing is done where it may block: a disk that hangs holds up nothing but
//! the file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinError, spawn_blocking},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    config,
    journal::{Cursor, Got, Journal},
};
use crate::event::LossCause;

/// How often it is looked whether the file is still in its place; and how long is waited
/// after a failure.
const LOOK: Duration = Duration::from_secs(1);
/// What is written at a time, about.
const BATCH: usize = 64 << 10;
/// How far back the end of the last whole line is looked for.
const TAIL: u64 = 1 << 20;
/// How a record begins.
const RECORD: &[u8] = b"{\"schema\":\"";
/// Permissions of a new file.
const MODE: u32 = 0o640;
/// How long the last records may take when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// How far the file has come.
#[derive(Clone, Debug, Default)]
pub struct Written(Arc<AtomicU64>);

impl Written {
    /// Whether no record up to this number is still to be written. While the file cannot be
    /// written nothing is: what it misses then, is told in it or known to the log.
    #[must_use]
    pub fn has(&self, seq: u64) -> bool {
        self.0.load(Ordering::Relaxed) > seq
    }

    fn up_to(&self, next: u64) {
        self.0.store(next, Ordering::Relaxed);
    }
}

/// Writes records from number `from` on until the journal is closed, and says how far it
/// has come. That it cannot write goes to the log when it begins and when it ends.
pub async fn run(config: config::File, journal: Journal, from: u64, written: Written) {
    let path = config.path.clone();
    let mut work = pin!(write(Writer::new(config), journal.cursor(from), &written));
    let ended = tokio::select! {
        ended = &mut work => Ok(ended),
        () = journal.closed() => timeout(FAREWELL, work).await,
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            log::error!("{}: no more records are written: {error}", path.display());
        }
        Err(_) => log::error!("{}: the last records could not be written", path.display()),
    }
}

async fn write(mut writer: Writer, mut cursor: Cursor, written: &Written) -> Result<(), JoinError> {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut why = LossCause::ReaderSlow;
    loop {
        let mut rest = Vec::new();
        match cursor.read(BATCH, why, &mut rest) {
            Got::Lines => {
                why = LossCause::ReaderSlow;
                loop {
                    (writer, rest) = spawn_blocking(move || {
                        let written = writer.write(&rest);
                        rest.drain(..written);
                        (writer, rest)
                    })
                    .await?;
                    if rest.is_empty() {
                        written.up_to(cursor.next());
                        break;
                    }
                    written.up_to(u64::MAX);
                    // What goes from the journal meanwhile, goes for this.
                    why = LossCause::FileFailed;
                    sleep(LOOK).await;
                }
            }
            Got::Nothing => tokio::select! {
                () = cursor.changed() => {}
                _ = tick.tick() => {
                    writer = spawn_blocking(move || {
                        writer.look();
                        writer
                    })
                    .await?;
                }
            },
            Got::End => return Ok(()),
        }
    }
}

/// The file, and where it goes.
#[derive(Debug)]
struct Writer {
    path: PathBuf,
    max_size: u64,
    max_age: Duration,
    keep: usize,
    open: Option<Open>,
    has_failed: bool,
}

/// The file while it is open.
#[derive(Debug)]
struct Open {
    file: File,
    identity: (u64, u64),
    size: u64,
    begun: Instant,
    looked: Instant,
}

/// What was attempted, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {error}")]
struct Failure {
    what: &'static str,
    path: PathBuf,
    error: io::Error,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |error| Failure { what, path, error }
}

impl Writer {
    fn new(config: config::File) -> Self {
        Self {
            path: config.path,
            max_size: config.max_size.0,
            max_age: config.max_age.0,
            keep: config.keep,
            open: None,
            has_failed: false,
        }
    }

    /// Writes whole lines, and says how many bytes of them are in the file now: fewer than
    /// all after a failure.
    fn write(&mut self, lines: &[u8]) -> usize {
        let mut written = 0;
        while let Some(rest) = lines.get(written..)
            && !rest.is_empty()
        {
            match self.write_some(rest) {
                Ok(count) => written += count,
                Err(failure) => {
                    self.fail(&failure);
                    return written;
                }
            }
        }
        if self.has_failed {
            self.has_failed = false;
            log::info!("{}: records are written again", self.path.display());
        }
        written
    }

    /// Sees to it that the file is in its place.
    fn look(&mut self) {
        if let Err(failure) = self.place() {
            self.fail(&failure);
        }
    }

    fn fail(&mut self, failure: &Failure) {
        if !self.has_failed {
            log::error!(
                "{failure}; records wait in memory, and those that find no room there are \
                 counted; make that possible, or choose another file.path"
            );
        }
        self.has_failed = true;
        // Whatever it is, it may be another file next time.
        self.open = None;
    }

    /// Writes some of the lines: those for which there is room in this file.
    fn write_some(&mut self, lines: &[u8]) -> Result<usize, Failure> {
        let max_size = self.max_size;
        let mut open = self.place()?;
        let mut count = fitting(lines, max_size.saturating_sub(open.size));
        if count == 0 {
            if open.size > 0 {
                open = self.rotate()?;
            }
            count = fitting(lines, max_size);
            if count == 0 {
                // A file is never without a line.
                count = first(lines);
            }
        }
        if open.size == 0 {
            open.begun = Instant::now();
        }
        let lines = lines.get(..count).unwrap_or(lines);
        let mut written = 0;
        let failure = loop {
            match open.file.write(lines.get(written..).unwrap_or_default()) {
                Ok(0) => break io::Error::from(io::ErrorKind::WriteZero),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
            if written == lines.len() {
                open.size += count as u64;
                return Ok(count);
            }
        };
        // Half a line is taken back: now, or when the file is opened again.
        let whole = whole(lines.get(..written).unwrap_or(lines));
        let half = (written - whole) as u64;
        let size = open.file.metadata().map(|found| found.len());
        match size.and_then(|size| open.file.set_len(size.saturating_sub(half))) {
            Ok(()) => open.size += whole as u64,
            Err(_) => self.open = None,
        }
        if whole > 0 {
            return Ok(whole);
        }
        Err(failed("write", &self.path)(failure))
    }

    /// The file in its place, of the age that it may have.
    fn place(&mut self) -> Result<&mut Open, Failure> {
        if let Some(open) = &mut self.open
            && open.looked.elapsed() >= LOOK
        {
            open.looked = Instant::now();
            // It may have been cut (`copytruncate`).
            let size = open.file.metadata().map(|found| found.len());
            open.size = size.unwrap_or(open.size);
            let there = fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
            if !there.is_ok_and(|there| there == open.identity) {
                self.open = None;
            }
        }
        if self.open.is_none() {
            let mut open = self.open()?;
            if open.is_none() {
                self.move_on()?;
                open = self.open()?;
            }
            self.open = open;
        }
        let old = self
            .open
            .as_ref()
            .is_some_and(|open| open.size > 0 && open.begun.elapsed() >= self.max_age);
        if old {
            return self.rotate();
        }
        self.opened()
    }

    /// Begins a new file.
    fn rotate(&mut self) -> Result<&mut Open, Failure> {
        self.open = None;
        self.move_on()?;
        self.open = self.open()?;
        self.opened()
    }

    fn opened(&mut self) -> Result<&mut Open, Failure> {
        let path = &self.path;
        self.open
            .as_mut()
            .ok_or_else(|| failed("write", path)(io::Error::other("it is no file of records")))
    }

    /// Opens the file, or makes it; `None` if its end is none of a file of records.
    fn open(&self) -> Result<Option<Open>, Failure> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(MODE)
            // Not to wait for somebody at the other end of a pipe.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.path)
            .map_err(failed("open", &self.path))?;
        let found = file.metadata().map_err(failed("look at", &self.path))?;
        if !found.is_file() {
            let error = io::Error::other("it is no regular file");
            return Err(failed("write", &self.path)(error));
        }
        let Some(size) = mend(&mut file, found.len()).map_err(failed("mend", &self.path))? else {
            return Ok(None);
        };
        let since = found.created().or_else(|_| found.modified());
        let age = since.ok().and_then(|since| since.elapsed().ok());
        let now = Instant::now();
        Ok(Some(Open {
            file,
            identity: (found.dev(), found.ino()),
            size,
            begun: age.and_then(|age| now.checked_sub(age)).unwrap_or(now),
            looked: now,
        }))
    }

    /// The file becomes `path.1`, that becomes `path.2`, and so on.
    fn move_on(&self) -> Result<(), Failure> {
        let mut last = 0;
        while last < self.keep && fs::symlink_metadata(self.old(last + 1)).is_ok() {
            last += 1;
        }
        for number in (1..=last).rev() {
            if number < self.keep {
                let from = self.old(number);
                fs::rename(&from, self.old(number + 1)).map_err(failed("rename", &from))?;
            }
        }
        let moved = if self.keep == 0 {
            fs::remove_file(&self.path)
        } else {
            fs::rename(&self.path, self.old(1))
        };
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("rename", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    fn old(&self, number: usize) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

/// How many bytes whole lines have.
fn whole(bytes: &[u8]) -> usize {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    end.map_or(0, |end| end + 1)
}

/// How many bytes the first line has.
fn first(lines: &[u8]) -> usize {
    let end = lines.iter().position(|byte| *byte == b'\n');
    end.map_or(lines.len(), |end| end + 1)
}

/// How many bytes the whole lines have that find room.
fn fitting(lines: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    whole(lines.get(..room).unwrap_or(lines))
}

/// Cuts off half a record, as a crash leaves one, and says how long the file is then;
/// `None` if its end is something else.
fn mend(file: &mut File, size: u64) -> io::Result<Option<u64>> {
    let from = size.saturating_sub(TAIL);
    let mut end = vec![0; 1];
    if size > 0 {
        file.seek(SeekFrom::Start(size - 1))?;
        file.read_exact(&mut end)?;
    }
    if size == 0 || end == b"\n" {
        return Ok(Some(size));
    }
    end.clear();
    file.seek(SeekFrom::Start(from))?;
    file.take(TAIL).read_to_end(&mut end)?;
    let whole = whole(&end);
    let half = end.get(whole..).unwrap_or_default();
    let is_record = half.starts_with(RECORD) || RECORD.starts_with(half);
    if !is_record || (whole == 0 && from > 0) {
        return Ok(None);
    }
    let size = from + whole as u64;
    file.set_len(size)?;
    Ok(Some(size))
}

#[cfg(test)]
mod tests;
