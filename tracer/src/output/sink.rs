//! Where lines go, and how a file keeps only whole ones.

use std::{
    fs::File,
    io::{self, ErrorKind, IsTerminal, Seek, Write},
    os::fd::AsFd,
    path::Path,
    thread,
    time::Duration,
};

use anstream::{AutoStream, ColorChoice};
use thiserror::Error;

/// Where output goes.
pub trait Sink: Write {
    /// Columns of the terminal; 0 for a terminal that does not tell, `None`
    /// for anything else.
    fn columns(&self) -> Option<usize> {
        None
    }

    /// Whether colours are welcome.
    fn takes_color(&self) -> bool {
        false
    }

    /// Ends the output: what was written has to be safe now.
    ///
    /// # Errors
    ///
    /// Where what was written could not be kept.
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Vec<u8> {}

/// A file, pipe or terminal that gets whole lines.
///
/// A line is either there or not: where a regular file takes only part of one,
/// because its disk is full or a limit is reached, that part is taken back.
#[derive(Debug)]
pub struct FileSink<F = File> {
    file: F,
    name: String,
}

/// A sink that could not be written.
#[derive(Debug, Error)]
#[error("cannot {attempt} {name}: {cause}{state}; {remedy}")]
pub struct WriteError {
    attempt: &'static str,
    name: String,
    // In the message, and so not its source too.
    cause: io::Error,
    state: &'static str,
    remedy: &'static str,
}

impl FileSink {
    /// A new file; one that is there is written anew.
    ///
    /// # Errors
    ///
    /// [`WriteError`], as an [`io::Error`] of the same kind as its cause.
    pub fn create(path: &Path) -> io::Result<Self> {
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Ok(Self { file, name }),
            Err(cause) => Err(error("create", &name, cause, "")),
        }
    }

    /// Standard output.
    ///
    /// # Errors
    ///
    /// As [`FileSink::create`].
    pub fn stdout() -> io::Result<Self> {
        let name = "standard output".to_owned();
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(descriptor) => Ok(Self {
                file: descriptor.into(),
                name,
            }),
            Err(cause) => Err(error("open", &name, cause, "")),
        }
    }
}

impl Sink for FileSink {
    fn columns(&self) -> Option<usize> {
        if !self.file.is_terminal() {
            return None;
        }
        let size = terminal_size::terminal_size_of(&self.file);
        Some(size.map_or(0, |(width, _)| width.0.into()))
    }

    fn takes_color(&self) -> bool {
        self.file.is_terminal() && AutoStream::choice(&self.file) != ColorChoice::Never
    }

    fn close(&mut self) -> io::Result<()> {
        if !self.file.metadata()?.is_file() {
            return Ok(());
        }
        // Some file systems tell only here that there was no room.
        let synced = self.file.sync_data();
        synced.map_err(|cause| error("keep", &self.name, cause, ""))
    }
}

#[cfg(test)]
impl<F> FileSink<F> {
    /// A sink over any file.
    pub(super) fn over(file: F, name: &str) -> Self {
        Self {
            file,
            name: name.into(),
        }
    }

    /// The file.
    pub(super) fn get(&mut self) -> &mut F {
        &mut self.file
    }
}

/// What can take back the last bytes that were written to it.
pub(super) trait TakeBack: Write {
    /// Takes back so many bytes; false where that is not possible.
    fn take_back(&mut self, bytes: u64) -> io::Result<bool>;
}

impl TakeBack for File {
    fn take_back(&mut self, bytes: u64) -> io::Result<bool> {
        let facts = self.metadata()?;
        if !facts.is_file() {
            return Ok(false);
        }
        let end = self.stream_position()?;
        // Somebody else may write to the same file: take back only what
        // stands at its end.
        if facts.len() != end || end < bytes {
            return Ok(false);
        }
        self.set_len(end - bytes)?;
        self.seek(io::SeekFrom::Start(end - bytes))?;
        Ok(true)
    }
}

impl<F: TakeBack> Write for FileSink<F> {
    /// Takes all of `lines` or fails; afterwards the sink ends with a whole
    /// line, provided that `lines` starts with one.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < lines.len() {
            match self.file.write(&lines[written..]) {
                Ok(0) => return Err(fail(self, ErrorKind::WriteZero.into(), &lines[..written])),
                Ok(more) => written += more,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Standard output may be shared with a program that made it
                // non-blocking.
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(e) => return Err(fail(self, e, &lines[..written])),
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Takes back the part of a line at the end of `written`, and says what went
/// wrong. A reader that went away is told as it is.
fn fail<F: TakeBack>(sink: &mut FileSink<F>, cause: io::Error, written: &[u8]) -> io::Error {
    if cause.kind() == ErrorKind::BrokenPipe {
        return cause;
    }
    let whole = written
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let part = (written.len() - whole) as u64;
    let is_whole = part == 0 || sink.file.take_back(part).unwrap_or(false);
    let state = if is_whole {
        "; every line in it is whole"
    } else {
        "; the last line in it is cut"
    };
    error("write", &sink.name, cause, state)
}

fn error(attempt: &'static str, name: &str, cause: io::Error, state: &'static str) -> io::Error {
    let kind = cause.kind();
    let remedy = match kind {
        ErrorKind::StorageFull => "make room there, or choose another place with --output",
        ErrorKind::QuotaExceeded => "make room in the quota, or choose another place with --output",
        ErrorKind::FileTooLarge => "raise the limit (ulimit -f), or use --duration or a filter",
        ErrorKind::NotFound => "make its folder first, or choose another place with --output",
        ErrorKind::PermissionDenied => "choose a place with --output that you may write to",
        _ => "choose another place with --output",
    };
    let name = name.escape_debug().to_string();
    io::Error::new(
        kind,
        WriteError {
            attempt,
            name,
            cause,
            state,
            remedy,
        },
    )
}
