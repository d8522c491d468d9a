//! The file on real file systems: rotation, accidents, a full tmpfs.

use std::{
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
    thread,
};

use super::*;
use crate::{
    daemon::{
        config::{Size, Span},
        line::Line,
        request::Subject,
    },
    event::{Event, EventKind, LossOf},
};

/// A folder of this test that goes away with it.
struct Folder {
    path: PathBuf,
    is_mounted: bool,
}

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("droptrace-file-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self {
            path,
            is_mounted: false,
        }
    }

    /// With a tmpfs of this size; `None` where none may be mounted.
    fn with_tmpfs(test: &str, size: &str) -> Option<Self> {
        let mut folder = Self::new(test);
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "droptrace-test"])
            .arg(&folder.path)
            .status();
        folder.is_mounted = mounted.is_ok_and(|status| status.success());
        folder.is_mounted.then_some(folder)
    }

    fn file(&self) -> PathBuf {
        self.path.join("events.json")
    }

    fn config(&self) -> config::File {
        config::File {
            path: self.file(),
            max_size: Size(1 << 30),
            max_age: Span(Duration::from_secs(3600)),
            keep: 3,
        }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// What a write that has to succeed leaves.
fn write_all(writer: &mut Writer, lines: &str) {
    assert_eq!(writer.write(lines.as_bytes()), lines.len());
}

#[test]
fn a_new_file_begins_at_a_size_and_the_oldest_goes() {
    let folder = Folder::new("size");
    let mut writer = Writer::new(config::File {
        max_size: Size(10),
        keep: 2,
        ..folder.config()
    });
    write_all(&mut writer, "aaaa\nbbbb\ncccc\n");
    assert_eq!(folder.text("events.json.1"), "aaaa\nbbbb\n");
    assert_eq!(folder.text("events.json"), "cccc\n");
    write_all(&mut writer, "longer than a file may be\n");
    write_all(&mut writer, "dddd\n");
    assert_eq!(folder.text("events.json"), "dddd\n");
    assert_eq!(folder.text("events.json.1"), "longer than a file may be\n");
    assert_eq!(folder.text("events.json.2"), "cccc\n");
    assert!(!folder.path.join("events.json.3").exists());
    let mode = fs::metadata(folder.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
}

#[test]
fn without_old_ones_to_keep_there_is_one_file() {
    let folder = Folder::new("none");
    let mut writer = Writer::new(config::File {
        max_size: Size(10),
        keep: 0,
        ..folder.config()
    });
    write_all(&mut writer, "aaaa\nbbbb\ncccc\n");
    assert_eq!(folder.text("events.json"), "cccc\n");
    assert_eq!(fs::read_dir(&folder.path).unwrap().count(), 1);
}

#[test]
fn a_new_file_begins_at_an_age() {
    let folder = Folder::new("age");
    let config = config::File {
        max_age: Span(Duration::from_millis(300)),
        ..folder.config()
    };
    let mut writer = Writer::new(config.clone());
    write_all(&mut writer, "a\n");
    write_all(&mut writer, "b\n");
    thread::sleep(Duration::from_millis(350));
    write_all(&mut writer, "c\n");
    assert_eq!(folder.text("events.json.1"), "a\nb\n");
    assert_eq!(folder.text("events.json"), "c\n");
    // The age goes on while nobody has it open.
    drop(writer);
    thread::sleep(Duration::from_millis(350));
    write_all(&mut Writer::new(config), "d\n");
    assert_eq!(folder.text("events.json"), "d\n");
    assert_eq!(folder.text("events.json.1"), "c\n");
}

#[test]
fn half_a_record_of_a_crash_is_cut_off() {
    let record = "{\"schema\":\"droptrace.event/1\"}\n";
    for half in 1..record.len() - 1 {
        let folder = Folder::new(&format!("half-{half}"));
        fs::write(folder.file(), format!("{record}{}", &record[..half])).unwrap();
        write_all(&mut Writer::new(folder.config()), "next\n");
        assert_eq!(folder.text("events.json"), format!("{record}next\n"));
    }
}

#[test]
fn what_ends_in_something_else_is_moved_away() {
    for end in ["a half line of somebody", "\0\0\0\0"] {
        let folder = Folder::new("foreign");
        fs::write(folder.file(), end).unwrap();
        write_all(&mut Writer::new(folder.config()), "next\n");
        assert_eq!(folder.text("events.json"), "next\n");
        assert_eq!(folder.text("events.json.1"), end);
    }
}

#[test]
fn a_file_that_was_moved_or_removed_or_cut_is_made_anew() {
    let folder = Folder::new("moved");
    let mut writer = Writer::new(folder.config());
    write_all(&mut writer, "a\n");
    fs::rename(folder.file(), folder.path.join("moved")).unwrap();
    thread::sleep(LOOK);
    write_all(&mut writer, "b\n");
    fs::remove_file(folder.file()).unwrap();
    thread::sleep(LOOK);
    writer.look();
    assert_eq!(folder.text("events.json"), "");
    write_all(&mut writer, "c\n");
    assert_eq!(folder.text("moved"), "a\n");
    assert_eq!(folder.text("events.json"), "c\n");
    fs::write(folder.file(), "").unwrap();
    thread::sleep(LOOK);
    write_all(&mut writer, "d\n");
    assert_eq!(folder.text("events.json"), "d\n");
}

#[test]
fn no_link_is_followed_and_no_pipe_waited_for() {
    let folder = Folder::new("link");
    symlink(folder.path.join("elsewhere"), folder.file()).unwrap();
    let mut writer = Writer::new(folder.config());
    assert_eq!(writer.write(b"a\n"), 0);
    assert!(writer.has_failed);
    assert!(!folder.path.join("elsewhere").exists());
    fs::remove_file(folder.file()).unwrap();
    let made = Command::new("mkfifo").arg(folder.file()).status().unwrap();
    assert!(made.success());
    assert_eq!(writer.write(b"a\n"), 0);
    fs::remove_file(folder.file()).unwrap();
    write_all(&mut writer, "a\n");
    assert!(!writer.has_failed);
}

/// Whether nothing may be mounted here, which is said.
fn cannot_mount(folder: Option<&Folder>) -> bool {
    if folder.is_none() {
        println!("nothing may be mounted here: not tested");
    }
    folder.is_none()
}

#[test]
fn a_full_disk_has_whole_lines_only() {
    let folder = Folder::with_tmpfs("full", "64k");
    if cannot_mount(folder.as_ref()) {
        return;
    }
    let folder = folder.unwrap();
    let mut writer = Writer::new(folder.config());
    let lines = format!("{}\n", "x".repeat(998)).repeat(100);
    let written = writer.write(lines.as_bytes());
    assert!(written > 0 && written < lines.len());
    assert_eq!(written % 999, 0);
    assert_eq!(folder.text("events.json"), lines[..written]);
    assert_eq!(writer.write(&lines.as_bytes()[written..]), 0);
    assert_eq!(folder.text("events.json"), lines[..written]);
}

/// The `packets` of number `seq`.
fn packets(seq: u64) -> u64 {
    seq % 7
}

fn push(journal: &Journal) {
    let mut event = Event::bare(EventKind::Drop, "2026-01-01T00:00:00.000000000Z".to_owned());
    let seq = journal.next();
    event.packets = packets(seq);
    let subject = Subject::of(&event);
    journal.push(Line::new(event, seq, "boot").unwrap(), subject);
}

#[test]
fn what_a_full_disk_loses_is_told_when_there_is_room_again() {
    const LINES: u64 = 3000;
    let folder = Folder::with_tmpfs("told", "256k");
    if cannot_mount(folder.as_ref()) {
        return;
    }
    let folder = folder.unwrap();
    let ballast = folder.path.join("ballast");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let journal = Journal::new(128 << 10, "boot".to_owned(), 1);
        let written = Written::default();
        let task = tokio::spawn(run(folder.config(), journal.clone(), 1, written.clone()));
        push(&journal);
        assert!(!written.has(1));
        sleep(Duration::from_millis(300)).await;
        assert!(written.has(1) && !written.has(2));
        assert_eq!(folder.text("events.json").lines().count(), 1);
        // What is left of the disk.
        let mut rest = File::create(&ballast).unwrap();
        while rest.write(&[0; 4096]).is_ok_and(|count| count > 0) {}
        for _ in 1..LINES {
            push(&journal);
            if journal.next().is_multiple_of(100) {
                sleep(Duration::from_millis(1)).await;
            }
        }
        sleep(Duration::from_millis(500)).await;
        assert!(
            written.has(LINES),
            "nobody waits for a file that cannot be written"
        );
        fs::remove_file(&ballast).unwrap();
        drop(rest);
        sleep(Duration::from_secs(2)).await;
        assert!(written.has(LINES) && !written.has(LINES + 1));
        journal.close();
        task.await.unwrap();
    });
    let text = folder.text("events.json");
    assert!(text.ends_with('\n'));
    let events: Vec<Event> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (mut next, mut missing) = (1, 0);
    let mut sum = 0;
    for event in &events {
        sum += event.packets;
        if let Some(loss) = &event.loss {
            let cause = (loss.what, loss.why);
            assert_eq!(cause, (LossOf::Records, LossCause::FileFailed));
            missing += loss.count;
            next += loss.count;
            assert_eq!(event.seq, Some(next - 1));
        } else {
            assert_eq!(event.seq, Some(next));
            next += 1;
        }
    }
    assert_eq!(next, LINES + 1);
    assert!(missing > 1000, "{missing} missing");
    assert_eq!(sum, (1..=LINES).map(packets).sum::<u64>());
}
