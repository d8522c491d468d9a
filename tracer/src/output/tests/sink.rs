//! Files, pipes and terminals.

use std::{
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use super::*;
use crate::output::{FileSink, WriteError, sink::TakeBack};

/// A file on a disk that has room for so many bytes.
struct Disk {
    bytes: Vec<u8>,
    room: usize,
    is_file: bool,
    error: ErrorKind,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.room - self.bytes.len());
        if fits == 0 {
            return Err(self.error.into());
        }
        self.bytes.extend(&bytes[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TakeBack for Disk {
    fn take_back(&mut self, bytes: u64) -> io::Result<bool> {
        if self.is_file {
            let end = self.bytes.len() - usize::try_from(bytes).expect("small");
            self.bytes.truncate(end);
        }
        Ok(self.is_file)
    }
}

fn disk(room: usize, is_file: bool, error: ErrorKind) -> FileSink<Disk> {
    FileSink::over(
        Disk {
            bytes: Vec::new(),
            room,
            is_file,
            error,
        },
        "out.json",
    )
}

/// A folder of this test that goes away with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("droptrace-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_full_disk_keeps_whole_lines_only() {
    let mut sink = disk(20, true, ErrorKind::StorageFull);
    sink.write_all(b"{\"a\":1}\n").expect("room");
    let error = sink
        .write_all(b"{\"b\":2}\n{\"c\":3}\n")
        .expect_err("no room");
    assert_eq!(sink.get().bytes, b"{\"a\":1}\n{\"b\":2}\n");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(
        error.to_string(),
        "cannot write out.json: no storage space; every line in it is whole; \
         make room there, or choose another place with --output"
    );
    assert!(error.downcast::<WriteError>().is_ok());
}

#[test]
fn what_cannot_be_taken_back_is_said() {
    let mut sink = disk(5, false, ErrorKind::FileTooLarge);
    let error = sink.write_all(b"{\"a\":1}\n").expect_err("no room");
    assert!(
        error
            .to_string()
            .contains("; the last line in it is cut; raise the limit"),
        "{error}"
    );
}

#[test]
fn a_reader_that_went_away_is_told_apart() {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let file = std::fs::File::from(std::os::fd::OwnedFd::from(writer));
    let mut output = Output::new(FileSink::over(file, "standard output"), options(None));
    let error = output.events(&samples()).expect_err("nobody reads");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_pipe_gets_no_colors_and_all_lines() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let file = std::fs::File::from(std::os::fd::OwnedFd::from(writer));
    let mut output = Output::new(FileSink::over(file, "standard output"), options(None));
    output.events(&samples()).expect("room in the pipe");
    output.finish(&totals()).expect("nothing to synchronise");
    drop(output);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    assert!(text.starts_with(include_str!("expected/pipe.txt")));
}

#[test]
fn a_device_without_room_says_so() {
    let mut output = Output::new(
        FileSink::create(Path::new("/dev/full")).expect("there"),
        options(None),
    );
    let error = output.events(&samples()).expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(
        error
            .to_string()
            .starts_with("cannot write /dev/full: No space left"),
        "{error}"
    );
}

#[test]
fn a_file_is_written_anew_and_its_end_can_be_taken_back() {
    let folder = Folder::new("take-back");
    let path = folder.0.join("out");
    std::fs::write(&path, "from an earlier run, and longer").expect("written");
    let mut sink = FileSink::create(&path).expect("created");
    sink.write_all(b"whole\npart").expect("written");
    assert!(sink.get().take_back(4).expect("taken back"));
    sink.write_all(b"next\n").expect("written");
    sink.close().expect("kept");
    assert_eq!(
        std::fs::read_to_string(&path).expect("read"),
        "whole\nnext\n"
    );
}

#[test]
fn what_others_added_to_a_file_is_not_taken_back() {
    let folder = Folder::new("others");
    let path = folder.0.join("out");
    let mut sink = FileSink::create(&path).expect("created");
    sink.write_all(b"part").expect("written");
    let mut other = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .expect("opened");
    other.write_all(b"theirs").expect("written");
    assert!(!sink.get().take_back(4).expect("asked"));
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "parttheirs");
}

#[test]
fn a_file_that_cannot_be_made_says_what_to_do() {
    let error = FileSink::create(Path::new("/nonexistent/\u{1b}out")).expect_err("no folder");
    assert_eq!(
        error.to_string(),
        "cannot create /nonexistent/\\u{1b}out: No such file or directory (os error 2); \
         make its folder first, or choose another place with --output"
    );
}
