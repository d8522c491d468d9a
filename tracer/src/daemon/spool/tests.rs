use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{MIN_SIZE, Spool, SpoolError};
use crate::{
    daemon::line::{Line, Totals},
    event::{Event, EventKind, LossCause},
};

/// A record that stands for twice as many packets as its number says, and one more.
fn line(seq: u64) -> Line {
    let mut event = Event::bare(EventKind::Drop, "2026-01-01T00:00:00.000000000Z".into());
    event.packets = packets(seq);
    event.bytes = 100 * event.packets;
    Line::new(event, seq, "00000000-0000-0000-0000-000000000000").unwrap()
}

fn packets(seq: u64) -> u64 {
    2 * seq + 1
}

fn lines(range: std::ops::Range<u64>) -> impl Iterator<Item = Line> {
    range.map(line)
}

/// What a receiver got.
#[derive(Default)]
struct Got {
    seqs: Vec<u64>,
    lost: BTreeMap<String, Totals>,
    /// Numbers of loss records.
    told: Vec<u64>,
}

impl Got {
    fn lost(&self) -> Totals {
        self.lost.values().copied().collect()
    }

    /// Records and packets that came or were told as lost.
    fn sum(&self) -> (u64, u64) {
        let mut seqs = self.seqs.clone();
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), self.seqs.len(), "a record came twice");
        let lost = self.lost();
        assert_eq!(lost.bytes, 100 * lost.packets);
        (
            seqs.len() as u64 + lost.records,
            seqs.iter().map(|seq| packets(*seq)).sum::<u64>() + lost.packets,
        )
    }

    fn take(&mut self, text: &[u8]) {
        let event: Event = serde_json::from_slice(text).unwrap();
        match event.loss {
            None => self.seqs.push(event.seq.unwrap()),
            Some(loss) => {
                self.told.push(event.seq.unwrap());
                let why = serde_json::to_value(loss.why).unwrap();
                let told = self.lost.entry(why.as_str().unwrap().to_owned());
                *told.or_default() += Totals {
                    records: loss.count,
                    packets: event.packets,
                    bytes: event.bytes,
                };
            }
        }
    }
}

/// Makes loss records, numbered from a million on.
fn teller() -> impl FnMut(LossCause, Totals) -> String {
    let mut next = 1_000_000;
    move |why, lost| {
        next += 1;
        crate::daemon::spool::loss_line(why, lost, next, "boot").unwrap()
    }
}

/// Takes everything as a receiver that never fails.
fn drain(spool: &mut Spool) -> Got {
    let mut got = Got::default();
    let mut tell = teller();
    loop {
        let hand = spool.front(100, 64 << 10, &mut tell).clone();
        if hand.is_empty() {
            return got;
        }
        for record in &hand {
            got.take(&record.text);
        }
        spool.done(hand.len());
    }
}

fn expected(range: std::ops::Range<u64>) -> (u64, u64) {
    let records = range.end - range.start;
    (records, range.map(packets).sum())
}

fn open(dir: &TempDir) -> Spool {
    Spool::open(&dir.path().join("spool"), MIN_SIZE).unwrap()
}

/// For tests that open many spools: a disk takes its time for each.
fn in_memory() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap()
}

fn segments(dir: &TempDir) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir.path().join("spool"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "seg"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn what_goes_in_comes_out_in_order() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    for batch in 0..20 {
        assert_eq!(
            spool.append(lines(batch * 10..batch * 10 + 10)),
            Some(batch * 10 + 9)
        );
    }
    let got = drain(&mut spool);
    assert_eq!(got.seqs, (0..200).collect::<Vec<_>>());
    assert!(got.lost.is_empty());
    spool.append(lines(200..201));
    assert_eq!(drain(&mut spool).seqs, [200]);
    assert!(drain(&mut spool).seqs.is_empty());
}

#[test]
fn what_was_not_done_with_comes_again_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    spool.append(lines(0..100));
    assert_eq!(spool.front(30, 1 << 20, &mut teller()).len(), 30);
    spool.done(10);
    drop(spool);
    let mut spool = open(&dir);
    assert_eq!(spool.condition().records, 90);
    spool.append(lines(100..120));
    assert_eq!(drain(&mut spool).seqs, (10..120).collect::<Vec<_>>());
    assert_eq!(spool.condition().records, 0);
}

#[test]
fn segments_that_are_done_with_go() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    for seq in 0..400 {
        spool.append(lines(seq..seq + 1));
    }
    assert!(segments(&dir).len() > 2);
    drain(&mut spool);
    assert_eq!(segments(&dir).len(), 1);
}

#[test]
fn over_its_size_the_oldest_go_and_are_told_exactly() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    spool.append(lines(0..3000));
    assert!(spool.condition().bytes <= MIN_SIZE);
    let got = drain(&mut spool);
    assert_eq!(got.sum(), expected(0..3000));
    assert_eq!(got.lost.keys().collect::<Vec<_>>(), ["spool_full"]);
    assert_eq!(got.told.len(), 1);
    assert_eq!(got.seqs.last(), Some(&2999));
}

#[test]
fn what_was_dropped_for_room_is_told_after_a_restart_too() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    spool.append(lines(0..1000));
    drop(spool);
    let mut spool = open(&dir);
    spool.append(lines(1000..2000));
    drop(spool);
    let mut spool = open(&dir);
    let got = drain(&mut spool);
    assert_eq!(got.sum(), expected(0..2000));
    assert_eq!(got.lost.keys().collect::<Vec<_>>(), ["spool_full"]);
}

#[test]
fn what_is_being_sent_while_it_is_dropped_is_not_told_as_lost() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    spool.append(lines(0..100));
    let hand = spool.front(50, 1 << 20, &mut teller()).clone();
    spool.append(lines(100..3000));
    let mut got = Got::default();
    for record in &hand {
        got.take(&record.text);
    }
    spool.done(hand.len());
    let rest = drain(&mut spool);
    got.seqs.extend(rest.seqs);
    got.lost = rest.lost;
    assert_eq!(got.sum(), expected(0..3000));
    assert!(got.lost().records > 0);
}

#[test]
fn a_loss_record_keeps_its_number_until_it_is_done_with() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    spool.append(lines(0..3000));
    let first = spool.front(10, 1 << 20, &mut teller()).clone();
    drop(spool);
    let mut spool = open(&dir);
    let mut another = |_, _| panic!("it is told already");
    let again = spool.front(10, 1 << 20, &mut another).clone();
    assert_eq!(first, again);
    let got = drain(&mut spool);
    assert_eq!(got.sum(), expected(0..3000));
}

#[test]
fn refused_records_are_told_and_so_is_a_refused_loss_record_later() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    spool.append(lines(0..10));
    let mut tell = teller();
    assert_eq!(spool.front(4, 1 << 20, &mut tell).len(), 4);
    spool.refused(2);
    // One of these, and record 3 stands for more.
    spool.partly_refused(2, 1);
    // The loss record goes first; it is refused.
    assert_eq!(spool.front(4, 1 << 20, &mut tell).len(), 1);
    spool.refused(1);
    let got = drain(&mut spool);
    assert_eq!(got.seqs, (4..10).collect::<Vec<_>>());
    assert_eq!(got.lost["refused"].records, 3);
    assert_eq!(
        got.lost["refused"].packets,
        packets(0) + packets(1) + packets(3)
    );
}

#[test]
fn a_spool_that_was_cut_at_any_byte_gives_what_lies_before() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    spool.append(lines(0..4));
    drop(spool);
    let [segment] = segments(&dir).try_into().unwrap();
    let whole = fs::read(&segment).unwrap();
    let frame = whole.len() / 4;
    for cut in 0..=whole.len() {
        let dir = in_memory();
        let path = dir.path().join("spool");
        fs::create_dir(&path).unwrap();
        fs::write(path.join(segment.file_name().unwrap()), &whole[..cut]).unwrap();
        let mut spool = open(&dir);
        spool.append(lines(4..6));
        let got = drain(&mut spool);
        let kept = (cut / frame) as u64;
        let want: Vec<u64> = (0..kept).chain(4..6).collect();
        assert_eq!(got.seqs, want, "{cut}");
        // What is torn is one record at least; its header may still say how many packets.
        assert_eq!(got.lost().records, u64::from(cut % frame != 0), "{cut}");
        let told = got.lost().packets;
        assert!(told == 0 || told == packets(kept), "{cut}");
    }
}

#[test]
fn what_had_been_safe_and_is_cut_off_is_told_exactly() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    spool.append(lines(0..10));
    spool.front(1, 1, &mut teller());
    // This also remembers how much is safe.
    spool.done(1);
    drop(spool);
    let [segment] = segments(&dir).try_into().unwrap();
    let file = OpenOptions::new().write(true).open(&segment).unwrap();
    file.set_len(file.metadata().unwrap().len() * 55 / 100)
        .unwrap();
    let mut spool = open(&dir);
    spool.append(lines(10..12));
    let got = drain(&mut spool);
    assert_eq!(got.seqs, [1, 2, 3, 4, 10, 11]);
    assert_eq!(got.sum(), expected(1..12));
    assert_eq!(got.lost.keys().collect::<Vec<_>>(), ["spool_damaged"]);
}

#[test]
fn damage_in_the_middle_is_told_exactly_and_the_rest_comes() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    for seq in 0..300 {
        spool.append(lines(seq..seq + 1));
    }
    drop(spool);
    let paths = segments(&dir);
    assert!(paths.len() >= 2);
    for path in &paths[..paths.len() - 1] {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        file.write_all_at(&[0xff; 700], length / 2).unwrap();
    }
    let mut spool = open(&dir);
    let got = drain(&mut spool);
    assert_eq!(got.sum(), expected(0..300));
    assert_eq!(got.lost.keys().collect::<Vec<_>>(), ["spool_damaged"]);
    assert!((2..=10).contains(&got.lost().records));
}

#[test]
fn a_segment_that_is_gone_is_told_exactly() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    for seq in 0..400 {
        spool.append(lines(seq..seq + 1));
    }
    drop(spool);
    let paths = segments(&dir);
    assert!(paths.len() >= 3);
    fs::remove_file(&paths[1]).unwrap();
    let mut spool = open(&dir);
    let got = drain(&mut spool);
    assert_eq!(got.sum(), expected(0..400));
    assert!(got.lost().records > 50);
}

/// Numbers without a pattern, the same ones in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit.max(1)
    }
}

#[test]
fn no_content_of_the_files_is_too_strange() {
    let mut random = Random(0x5eed_cafe_f00d);
    for round in 0..300 {
        let dir = in_memory();
        let mut spool = open(&dir);
        spool.append(lines(0..150));
        spool.front(20, 1 << 20, &mut teller());
        spool.done(random.below(20));
        drop(spool);
        let mut paths = segments(&dir);
        paths.push(dir.path().join("spool/state"));
        for _ in 0..=random.below(6) {
            let path = &paths[random.below(paths.len())];
            let mut content = fs::read(path).unwrap();
            match random.below(4) {
                0 => content.truncate(random.below(content.len())),
                1 => {
                    let at = random.below(content.len());
                    if let Some(byte) = content.get_mut(at) {
                        *byte ^= 1 << random.below(8);
                    }
                }
                2 => {
                    let noise: Vec<u8> = (0..random.below(5000))
                        .map(|_| u8::try_from(random.below(256)).unwrap())
                        .collect();
                    content.extend(noise);
                }
                _ => {
                    // Whole frames in the wrong place.
                    let from = random.below(content.len());
                    let piece = content[from..].to_vec();
                    let to = random.below(content.len());
                    content.splice(to..to, piece);
                }
            }
            fs::write(path, content).unwrap();
        }
        let mut spool = open(&dir);
        drain(&mut spool);
        spool.append(lines(150..160));
        let got = drain(&mut spool);
        assert_eq!(got.seqs, (150..160).collect::<Vec<_>>(), "round {round}");
        drop(spool);
        let mut spool = open(&dir);
        assert!(drain(&mut spool).seqs.is_empty(), "round {round}");
    }
}

#[test]
fn only_one_has_it_and_only_its_user_may_read_it() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    spool.append(lines(0..1));
    let path = dir.path().join("spool");
    assert!(matches!(
        Spool::open(&path, MIN_SIZE),
        Err(SpoolError::Busy(_))
    ));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    drop(spool);
    Spool::open(&path, MIN_SIZE).unwrap();
}

#[test]
fn no_symbolic_link_is_followed() {
    let dir = TempDir::new().unwrap();
    let outside = dir.path().join("outside");
    fs::write(&outside, "precious").unwrap();
    let mut spool = open(&dir);
    spool.append(lines(0..3));
    drop(spool);
    let [segment] = segments(&dir).try_into().unwrap();
    fs::remove_file(&segment).unwrap();
    symlink(&outside, &segment).unwrap();
    let mut spool = open(&dir);
    spool.append(lines(3..5));
    assert_eq!(drain(&mut spool).seqs, [3, 4]);
    drop(spool);
    let path = dir.path().join("spool");
    for name in ["state", "lock"] {
        fs::remove_file(path.join(name)).unwrap();
        symlink(&outside, path.join(name)).unwrap();
        assert!(Spool::open(&path, MIN_SIZE).is_err(), "{name}");
        fs::remove_file(path.join(name)).unwrap();
    }
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(Spool::open(&link, MIN_SIZE).is_err());
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
}

/// Runs it with a small disk of its own, mounted where only this thread sees it.
fn on_a_small_disk(size: &str, test: impl FnOnce(&Path) + Send + 'static) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().to_owned();
    let size = size.to_owned();
    std::thread::spawn(move || {
        // SAFETY: only this thread gets another view of the mounts.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNS) };
        assert_eq!(unshared, 0, "{}", std::io::Error::last_os_error());
        let mount = |args: &[&str]| {
            assert!(Command::new("mount").args(args).status().unwrap().success());
        };
        mount(&["--make-rprivate", "/"]);
        let at = path.to_str().unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", at]);
        test(&path);
    })
    .join()
    .unwrap();
}

#[test]
fn on_a_full_disk_nothing_spooled_is_lost_and_lines_wait() {
    on_a_small_disk("400k", |path| {
        let mut spool = Spool::open(&path.join("spool"), 64 << 20).unwrap();
        spool.append(lines(0..100));
        let ballast = File::create(path.join("ballast")).unwrap();
        while ballast
            .metadata()
            .and_then(|it| ballast.write_all_at(&[1; 4096], it.len()))
            .is_ok()
        {}
        for seq in 100..300 {
            spool.append(lines(seq..seq + 1));
        }
        assert!(spool.waits());
        assert!(spool.condition().trouble.is_some());
        assert_eq!(spool.condition().records, 300);
        // The receiver gets what waits, too.
        let mut tell = teller();
        let mut got = Got::default();
        for _ in 0..12 {
            let hand = spool.front(20, 1 << 20, &mut tell).clone();
            for record in &hand {
                got.take(&record.text);
            }
            spool.done(hand.len());
        }
        ballast.set_len(0).unwrap();
        spool.append(lines(300..400));
        assert!(!spool.waits());
        assert_eq!(spool.condition().trouble, None);
        drop(spool);
        let mut spool = Spool::open(&path.join("spool"), 64 << 20).unwrap();
        got.seqs.extend(drain(&mut spool).seqs);
        assert_eq!(got.seqs, (0..400).collect::<Vec<_>>());
        assert!(got.lost.is_empty());
    });
}

#[test]
fn what_waits_too_long_for_a_full_disk_is_told_exactly() {
    on_a_small_disk("300k", |path| {
        let mut spool = Spool::open(&path.join("spool"), 64 << 20).unwrap();
        spool.append(lines(0..20_000));
        assert!(spool.waits());
        // Less than 4 MiB of lines, and of the disk.
        let kept = spool.condition().records;
        let length = line(10_000).text.len() as u64;
        assert!(kept < ((4 << 20) + (300 << 10)) / length + 100, "{kept}");
        let got = drain(&mut spool);
        assert_eq!(got.sum(), expected(0..20_000));
        assert_eq!(got.lost.keys().collect::<Vec<_>>(), ["spool_full"]);
    });
}
