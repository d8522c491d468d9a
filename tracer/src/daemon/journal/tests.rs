//! What each consumer gets, and is told that it missed.

use jiff::Timestamp;

use super::*;
use crate::event::{EventKind, LossOf, utc};

const BOOT: &str = "11111111-2222-3333-4444-555555555555";
const SLOW: LossCause = LossCause::ReaderSlow;

fn push(journal: &Journal, kind: EventKind, packets: u64) {
    let mut event = Event::bare(kind, utc(Timestamp::UNIX_EPOCH));
    event.packets = packets;
    event.bytes = packets * 100;
    let subject = Subject::of(&event);
    let line = Line::new(event, journal.next(), BOOT).unwrap();
    journal.push(line, subject);
}

/// A journal with room for about this many lines.
fn journal(lines: u64, first: u64) -> Journal {
    let probe = Journal::new(u64::MAX, BOOT.to_owned(), first);
    push(&probe, EventKind::Drop, 1);
    let keep = probe.size().bytes * lines + 100;
    Journal::new(keep, BOOT.to_owned(), first)
}

fn read(cursor: &mut Cursor) -> Vec<Event> {
    let mut text = Vec::new();
    while cursor.read(usize::MAX, SLOW, &mut text) == Got::Lines {}
    let lines = text.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().filter_map(|event| event.seq).collect()
}

fn after(number: u64) -> Request {
    Request {
        after: Some(number),
        ..Request::default()
    }
}

#[test]
fn a_consumer_gets_each_line_once() {
    let journal = journal(100, 5);
    let mut cursor = journal.cursor(5);
    for packets in 1..=3 {
        push(&journal, EventKind::Drop, packets);
    }
    assert_eq!(numbers(&read(&mut cursor)), [5, 6, 7]);
    push(&journal, EventKind::Drop, 1);
    assert_eq!(numbers(&read(&mut cursor)), [8]);
    assert!(read(&mut cursor).is_empty());
    let late = &mut journal.cursor(journal.next());
    assert!(read(late).is_empty());
}

#[test]
fn who_is_overtaken_is_told_exactly() {
    let journal = journal(10, 1);
    let mut cursor = journal.cursor(1);
    let kinds = [EventKind::Drop, EventKind::Retransmit];
    for n in 1..=100 {
        push(&journal, kinds[usize::from(n % 2 == 0)], n);
    }
    let events = read(&mut cursor);
    let kept = events.len() as u64 - 1;
    assert_eq!(kept, journal.size().lines as u64);
    let gone = 100 - kept;
    assert_eq!(events[0].seq, Some(gone));
    let loss = events[0].loss.as_ref().unwrap();
    assert_eq!((loss.what, loss.why), (LossOf::Records, SLOW));
    assert_eq!(loss.count, gone);
    // What was sent again is no drop.
    let dropped: u64 = (1..=gone).filter(|n| n % 2 == 1).sum();
    assert_eq!(
        (events[0].packets, events[0].bytes),
        (dropped, dropped * 100)
    );
    assert_eq!(events[1].seq, Some(gone + 1));
    assert_eq!(journal.size().missed, gone);
    // Told once.
    push(&journal, EventKind::Drop, 1);
    assert_eq!(numbers(&read(&mut cursor)), [101]);
}

#[test]
fn who_is_overtaken_misses_only_what_it_wanted() {
    let journal = journal(10, 1);
    let request = Request::parse(br#"{"filter": {"kind": "drop"}}"#).unwrap();
    let mut cursor = journal.reader(1, request);
    let request = Request::parse(br#"{"filter": {"kind": "icmp_sent"}}"#).unwrap();
    let mut other = journal.reader(1, request);
    for n in 1..=100 {
        let drop = n % 10 == 0;
        push(
            &journal,
            if drop {
                EventKind::Drop
            } else {
                EventKind::Verdict
            },
            n,
        );
    }
    let events = read(&mut cursor);
    let (loss, drops) = events.split_first().unwrap();
    let count = loss.loss.as_ref().unwrap().count;
    assert_eq!(count + drops.len() as u64, 10);
    let packets: u64 = events.iter().map(|event| event.packets).sum();
    assert_eq!(packets, (1..=10).map(|n| n * 10).sum::<u64>());
    assert!(read(&mut other).is_empty());
}

#[test]
fn lines_that_went_before_a_reader_came_are_known_by_totals() {
    let journal = journal(300, 1);
    for n in 1..=600 {
        push(&journal, EventKind::Drop, n);
    }
    let oldest = 600 - journal.size().lines as u64 + 1;
    for number in [0, oldest - 3, oldest - 2] {
        let events = read(&mut journal.reader(0, after(number)));
        let gone = (number + 1)..oldest;
        let loss = events[0].loss.as_ref().unwrap();
        assert_eq!(loss.count, gone.end - gone.start, "{number}");
        assert_eq!(events[0].packets, gone.sum::<u64>(), "{number}");
        assert_eq!(numbers(&events[1..]), (oldest..=600).collect::<Vec<_>>());
    }
    let events = read(&mut journal.reader(0, after(oldest - 1)));
    assert_eq!(events[0].seq, Some(oldest));
    assert!(events[0].loss.is_none());
    // Who resumes behind a loss record is not told again.
    let events = read(&mut journal.reader(0, after(3)));
    let again = read(&mut journal.reader(0, after(events[0].seq.unwrap())));
    assert_eq!(again, events[1..]);
}

#[test]
fn what_is_not_known_any_more_is_not_made_up() {
    let journal = journal(4, 1);
    for n in 1..=100 {
        push(&journal, EventKind::Drop, n);
    }
    let oldest = 100 - journal.size().lines as u64 + 1;
    let events = read(&mut journal.reader(0, after(2)));
    assert_eq!(events[0].loss.as_ref().unwrap().count, oldest - 3);
    assert_eq!(events[0].packets, 0);
    let advice = events[0].advice.as_deref().unwrap();
    assert!(advice.contains("not known any more"), "{advice}");
    // From the first number of the run on, all is known.
    let events = read(&mut journal.reader(0, after(0)));
    assert_eq!(events[0].packets, (1..oldest).sum::<u64>());
}

#[test]
fn a_number_of_another_run_is_told_apart() {
    let journal = journal(100, 50);
    for _ in 0..5 {
        push(&journal, EventKind::Drop, 1);
    }
    let other_boot = Request {
        boot_id: Some("other".to_owned()),
        ..after(52)
    };
    for request in [after(20), after(60), other_boot] {
        let events = read(&mut journal.reader(0, request));
        let loss = events[0].loss.as_ref().unwrap();
        assert_eq!((loss.why, loss.count), (LossCause::NotRunning, 0));
        assert_eq!(numbers(&events), [49, 50, 51, 52, 53, 54]);
    }
    let same_boot = Request {
        boot_id: Some(BOOT.to_owned()),
        ..after(52)
    };
    for request in [after(52), same_boot] {
        let events = read(&mut journal.reader(0, request));
        assert_eq!(numbers(&events), [53, 54]);
    }
    let last_of_the_run_before = read(&mut journal.reader(0, after(49)));
    assert_eq!(numbers(&last_of_the_run_before), [50, 51, 52, 53, 54]);
    assert!(last_of_the_run_before[0].loss.is_none());
}

#[test]
fn memory_is_bounded_and_a_line_is_always_kept() {
    let journal = Journal::new(1, BOOT.to_owned(), 1);
    for _ in 0..3 {
        push(&journal, EventKind::Drop, 1);
    }
    assert_eq!(journal.size().lines, 1);
    let journal = Journal::new(64 << 10, BOOT.to_owned(), 1);
    for _ in 0..10_000 {
        push(&journal, EventKind::Drop, 1);
    }
    assert!(journal.size().bytes <= 64 << 10);
    let book = journal.book();
    assert!(book.past.len() * size_of::<Past>() <= 8 << 10);
}

#[test]
fn a_place_goes_with_its_consumer() {
    let journal = journal(10, 1);
    let cursor = journal.cursor(1);
    assert_eq!(journal.book().places.len(), 1);
    drop(cursor);
    assert_eq!(journal.book().places.len(), 0);
}

#[test]
fn a_closed_journal_is_read_to_its_end() {
    let journal = journal(10, 1);
    let mut cursor = journal.cursor(1);
    let mut text = Vec::new();
    assert_eq!(cursor.read(1, SLOW, &mut text), Got::Nothing);
    push(&journal, EventKind::Drop, 1);
    push(&journal, EventKind::Drop, 1);
    journal.close();
    for expected in [Got::Lines, Got::Lines, Got::End] {
        text.clear();
        assert_eq!(cursor.read(1, SLOW, &mut text), expected);
    }
}
