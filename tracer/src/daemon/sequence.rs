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
    /// Goes on where the last one in this directory ended.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written, or has no number in it.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("sequence");
        let next = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} has no number in it", path.display()),
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(error),
        };
        let mut sequence = Self {
            path,
            next,
            end: next,
        };
        sequence.set_aside()?;
        Ok(sequence)
    }

    /// The next number.
    ///
    /// # Errors
    ///
    /// If no more can be set aside. Numbers go on nevertheless, and may be given again
    /// after a restart.
    pub fn next(&mut self) -> (u64, io::Result<()>) {
        let number = self.next;
        self.next += 1;
        let set_aside = if self.next >= self.end {
            self.set_aside()
        } else {
            Ok(())
        };
        (number, set_aside)
    }

    /// At an orderly end: the next daemon goes on without a gap.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; then there will be a gap.
    pub fn close(self) -> io::Result<()> {
        write(&self.path, self.next)
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.end = self.next + BLOCK;
        write(&self.path, self.end)
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
        let mut first = Sequence::open(&dir).unwrap();
        let given: Vec<u64> = (0..BLOCK + 10).map(|_| first.next().0).collect();
        assert!(given.iter().copied().eq(1..=BLOCK + 10));
        // As if it were killed.
        drop(first);
        let mut second = Sequence::open(&dir).unwrap();
        let (after, _) = second.next();
        assert!(after > BLOCK + 10, "{after}");
        second.close().unwrap();
        assert_eq!(Sequence::open(&dir).unwrap().next().0, after + 1);
        fs::write(dir.join("sequence"), "x").unwrap();
        assert!(Sequence::open(&dir).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
