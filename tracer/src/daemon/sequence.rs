//! The numbers of records: each is given once, however the daemon ends.
//!
//! A file says up to which number they may have been given. It is written ahead, so
//! that a daemon that is killed leaves a gap and never gives a number twice.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Numbers that are set aside at a time.
const BLOCK: u64 = 1 << 16;
/// Where those of records are kept.
const RECORDS: &str = "sequence";
/// First number of records about losses; so many others there never are. JSON's readers
/// take numbers up to 2⁵³.
const LOSSES: u64 = 1 << 52;

/// Gives numbers.
#[derive(Debug)]
pub struct Sequence {
    path: PathBuf,
    /// Of the next record.
    next: u64,
    /// Behind the last one that may be given.
    end: u64,
}

impl Sequence {
    /// Of records, as they are handed to all exporters. Goes on where the last one in
    /// this directory ended.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written, or has no number in it.
    pub fn of_records(dir: &Path) -> io::Result<Self> {
        Self::open(dir.join(RECORDS), 1)
    }

    /// Of records that an exporter makes about what it has lost.
    ///
    /// # Errors
    ///
    /// As [`Sequence::of_records`].
    pub fn of_losses(dir: &Path) -> io::Result<Self> {
        Self::open(dir.join("sequence-of-losses"), LOSSES)
    }

    /// Whether a daemon has given numbers in this directory before.
    #[must_use]
    pub fn is_there(dir: &Path) -> bool {
        dir.join(RECORDS).exists()
    }

    fn open(path: PathBuf, first: u64) -> io::Result<Self> {
        let next = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} has no number in it", path.display()),
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => first,
            Err(error) => return Err(error),
        };
        write(&path, next + BLOCK)?;
        Ok(Self {
            path,
            next,
            end: next + BLOCK,
        })
    }

    /// The number that comes next.
    #[must_use]
    pub const fn peek(&self) -> u64 {
        self.next
    }

    /// Gives the next number. Where no more can be set aside, numbers go on, and may be
    /// given again after a restart; the log says so.
    pub fn give(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        if self.next >= self.end {
            self.end = self.next + BLOCK;
            if let Err(error) = write(&self.path, self.end) {
                log::warn!(
                    "cannot set numbers of records aside in {}: {error}; after a restart some may \
                     be given twice",
                    self.path.display()
                );
            }
        }
        number
    }

    /// At an orderly end: the next daemon goes on without a gap.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; then there will be a gap.
    pub fn close(self) -> io::Result<()> {
        write(&self.path, self.next)
    }
}

/// Writes the number so that it is there whole or not at all.
fn write(path: &Path, number: u64) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{number}")?;
    file.sync_data()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice() {
        let dir = std::env::temp_dir().join(format!("droptrace-sequence-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut first = Sequence::of_records(&dir).unwrap();
        let given: Vec<u64> = (0..BLOCK + 10).map(|_| first.give()).collect();
        assert!(given.iter().copied().eq(1..=BLOCK + 10));
        // As if it were killed.
        drop(first);
        let mut second = Sequence::of_records(&dir).unwrap();
        let after = second.give();
        assert!(after > BLOCK + 10, "{after}");
        second.close().unwrap();
        assert_eq!(Sequence::of_records(&dir).unwrap().give(), after + 1);
        fs::write(dir.join("sequence"), "x").unwrap();
        assert!(Sequence::of_records(&dir).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
