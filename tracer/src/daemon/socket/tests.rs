//! Real readers on a real socket.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener as Knocked, UnixStream as Knock},
    thread::{self, JoinHandle},
};

use super::*;
use crate::{
    daemon::{
        config::{Mode, Size},
        line::Line,
        request::Subject,
        status,
    },
    event::{Event, EventKind, Family, Flow},
};

const BOOT: &str = "11111111-2222-3333-4444-555555555555";

/// A folder with a socket, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("droptrace-socket-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn config(&self, keep: u64) -> config::Socket {
        config::Socket {
            path: self.0.join("run/events.sock"),
            mode: Mode(0o660),
            max_readers: 16,
            keep: Size(keep),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A daemon with nothing but the socket, in a thread of its own.
struct Daemon {
    journal: Journal,
    path: PathBuf,
    readers: Readers,
    thread: Option<JoinHandle<()>>,
    _folder: Folder,
}

impl Daemon {
    fn start(test: &str, keep: u64, max_readers: usize) -> Self {
        let folder = Folder::new(test);
        let config = config::Socket {
            max_readers,
            ..folder.config(keep)
        };
        let journal = Journal::new(keep, BOOT.to_owned(), 1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let server = {
            let _inside = runtime.enter();
            Server::bind(&config, &journal).unwrap()
        };
        let readers = server.readers();
        Self {
            path: config.path,
            journal,
            readers: readers.clone(),
            thread: Some(thread::spawn(move || {
                let status = move || Status {
                    socket: Some(status::Socket {
                        readers: readers.load(Ordering::Relaxed),
                        max_readers,
                    }),
                    ..Status::default()
                };
                runtime.block_on(server.run(Arc::new(status)));
            })),
            _folder: folder,
        }
    }

    fn connect(&self) -> Knock {
        let stream = Knock::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// A reader that has asked for this.
    fn ask(&self, request: &str) -> Lines {
        let mut stream = self.connect();
        writeln!(stream, "{request}").unwrap();
        Lines(BufReader::new(stream))
    }

    fn push(&self, kind: EventKind, packets: u64, dst: &str) {
        push(&self.journal, kind, packets, dst);
    }

    /// Waits until there are this many readers.
    fn readers(&self, wanted: usize) {
        let is = || self.readers.load(Ordering::Relaxed);
        for _ in 0..1000 {
            if is() == wanted {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{} readers instead of {wanted}", is());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.journal.close();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
            assert!(!self.path.exists() || thread::panicking());
        }
    }
}

fn push(journal: &Journal, kind: EventKind, packets: u64, dst: &str) {
    let mut event = Event::bare(kind, "2026-01-01T00:00:00.000000000Z".to_owned());
    event.packets = packets;
    event.bytes = packets * 60;
    event.flow = Some(Flow {
        family: Family::Ipv4,
        proto: "udp".to_owned(),
        src: [192, 0, 2, 1].into(),
        sport: Some(5000),
        dst: dst.parse().unwrap(),
        dport: Some(53),
        direction: None,
        vlan: None,
        fragment: false,
        icmp: None,
        about: None,
    });
    let subject = Subject::of(&event);
    journal.push(Line::new(event, journal.next(), BOOT).unwrap(), subject);
}

struct Lines(BufReader<Knock>);

impl Lines {
    fn text(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        (!line.is_empty()).then_some(line)
    }

    fn event(&mut self) -> Event {
        serde_json::from_str(&self.text().expect("a line")).unwrap()
    }

    fn seq(&mut self) -> u64 {
        self.event().seq.unwrap()
    }
}

/// The error that a reader gets before it is let go.
fn refusal(mut lines: Lines) -> String {
    let line: serde_json::Value = serde_json::from_str(&lines.text().expect("a line")).unwrap();
    assert!(lines.text().is_none());
    line["error"].as_str().unwrap().to_owned()
}

#[test]
fn who_says_nothing_gets_what_comes_from_the_moment_of_connecting() {
    let daemon = Daemon::start("nothing", 1 << 20, 4);
    daemon.push(EventKind::Drop, 1, "10.0.0.1");
    let mut lines = Lines(BufReader::new(daemon.connect()));
    daemon.readers(1);
    daemon.push(EventKind::Drop, 1, "10.0.0.1");
    assert_eq!(lines.seq(), 2);
    daemon.push(EventKind::Drop, 1, "10.0.0.1");
    assert_eq!(lines.seq(), 3);
}

#[test]
fn a_reader_that_will_say_no_more_is_served_on() {
    let daemon = Daemon::start("half-closed", 1 << 20, 4);
    let stream = daemon.connect();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut lines = Lines(BufReader::new(stream));
    daemon.readers(1);
    daemon.push(EventKind::Drop, 1, "10.0.0.1");
    assert_eq!(lines.seq(), 1);
    let mut stream = daemon.connect();
    stream.write_all(b"{\"after\": 0}").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut resumed = Lines(BufReader::new(stream));
    assert_eq!(resumed.seq(), 1);
    drop((lines, resumed));
    daemon.readers(0);
}

#[test]
fn a_reader_resumes_behind_the_number_that_it_names() {
    let daemon = Daemon::start("after", 1 << 20, 4);
    for _ in 0..10 {
        daemon.push(EventKind::Drop, 1, "10.0.0.1");
    }
    let mut lines = daemon.ask("{\"after\": 4}");
    assert_eq!(lines.seq(), 5);
    assert_eq!(lines.seq(), 6);
    drop(lines);
    daemon.push(EventKind::Drop, 1, "10.0.0.1");
    let mut lines = daemon.ask("{\"after\": 6}");
    let rest: Vec<u64> = (0..5).map(|_| lines.seq()).collect();
    assert_eq!(rest, [7, 8, 9, 10, 11]);
}

#[test]
fn what_is_no_request_is_answered_and_ends() {
    let daemon = Daemon::start("garbage", 1 << 20, 4);
    assert!(refusal(daemon.ask("{\"since\": 3}")).contains("unknown field `since`"));
    assert!(refusal(daemon.ask("\u{1}\u{2}")).contains("no request"));
    let mut half = daemon.connect();
    half.write_all(b"{\"after\":").unwrap();
    let error = refusal(Lines(BufReader::new(half)));
    assert!(error.contains("did not end within a second"), "{error}");
    let mut long = daemon.connect();
    // The daemon stops reading before all of it is sent.
    let _ = long.write_all(&vec![b' '; 200 << 10]);
    let mut answer = String::new();
    let _ = long.read_to_string(&mut answer);
    assert!(answer.contains("longer than 64 KiB"), "{answer}");
    daemon.readers(0);
}

#[test]
fn more_readers_than_are_allowed_are_refused() {
    let daemon = Daemon::start("many", 1 << 20, 2);
    let first = daemon.ask("{}");
    let _second = daemon.ask("{}");
    daemon.readers(2);
    let error = refusal(Lines(BufReader::new(daemon.connect())));
    assert!(error.contains("socket.max_readers"), "{error}");
    // Who asks how the daemon is, is no reader, and takes nobody's place.
    for _ in 0..20 {
        let answer = daemon.ask(r#"{"status": true}"#).text().unwrap();
        let status: Status = serde_json::from_str(&answer).unwrap();
        assert_eq!(status.socket.unwrap().readers, 2);
    }
    drop(first);
    daemon.readers(1);
    let mut third = daemon.ask("{}");
    daemon.readers(2);
    daemon.push(EventKind::Drop, 1, "10.0.0.1");
    assert_eq!(third.seq(), 1);
}

#[test]
fn a_reader_that_never_reads_is_let_go_when_it_closes() {
    let daemon = Daemon::start("stuck", 64 << 10, 2);
    let stuck = daemon.ask("{\"after\": 0}");
    daemon.readers(1);
    for _ in 0..20_000 {
        daemon.push(EventKind::Drop, 1, "10.0.0.1");
    }
    thread::sleep(Duration::from_millis(200));
    daemon.readers(1);
    drop(stuck);
    daemon.readers(0);
}

#[test]
fn the_socket_has_its_permissions_and_a_dead_one_is_replaced() {
    let folder = Folder::new("place");
    let config = folder.config(1 << 20);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let journal = Journal::new(1 << 20, BOOT.to_owned(), 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let bind = || Server::bind(&config, &journal);

    let server = bind().unwrap();
    assert_eq!(mode(&config.path), 0o660);
    assert_eq!(mode(config.path.parent().unwrap()) & !0o755, 0);
    assert!(matches!(bind(), Err(SocketError::Served { .. })));
    assert!(Knock::connect(&config.path).is_ok());
    drop(server);
    assert!(!config.path.exists());

    // As a daemon that was killed leaves it.
    drop(Knocked::bind(&config.path).unwrap());
    assert!(config.path.exists());
    let server = bind().unwrap();
    // What somebody else has put there stays.
    fs::remove_file(&config.path).unwrap();
    fs::write(&config.path, "a file").unwrap();
    drop(server);
    assert!(config.path.exists());
    let error = bind().unwrap_err();
    assert!(matches!(error, SocketError::Taken { .. }), "{error}");

    let path = folder.0.join("x".repeat(120));
    let error = Server::bind(
        &config::Socket {
            path,
            ..config.clone()
        },
        &journal,
    )
    .unwrap_err();
    assert!(error.to_string().contains("socket.path"), "{error}");
}

#[test]
fn readers_get_what_is_left_when_the_daemon_ends() {
    let daemon = Daemon::start("end", 1 << 20, 4);
    let mut lines = daemon.ask("{\"after\": 0}");
    daemon.readers(1);
    for _ in 0..1000 {
        daemon.push(EventKind::Drop, 1, "10.0.0.1");
    }
    let reader = thread::spawn(move || {
        let mut last = 0;
        while let Some(line) = lines.text() {
            let event: Event = serde_json::from_str(&line).unwrap();
            last = event.seq.unwrap();
        }
        last
    });
    drop(daemon);
    assert_eq!(reader.join().unwrap(), 1000);
}

/// Descriptors of this process that are sockets.
fn sockets() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    links
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}

#[test]
fn ten_thousand_readers_that_come_and_go_leave_nothing() {
    let daemon = Daemon::start("churn", 1 << 20, 8);
    let mut most = 0;
    for n in 0..10_000 {
        let mut stream = daemon.connect();
        match n % 4 {
            0 => {}
            1 => writeln!(stream, "{{\"after\": 0}}").unwrap_or_default(),
            2 => stream.write_all(b"{\"aft").unwrap_or_default(),
            _ => stream.shutdown(Shutdown::Both).unwrap_or_default(),
        }
        if n % 500 == 0 {
            daemon.push(EventKind::Drop, 1, "10.0.0.1");
            most = most.max(sockets());
        }
    }
    daemon.readers(0);
    // Those of the tests that run beside this one.
    assert!(most < 200, "{most} sockets");
    // The last of them may still wait to be accepted.
    thread::sleep(REQUEST_END);
    let mut lines = daemon.ask("{\"after\": 0}");
    assert_eq!(lines.seq(), 1);
}

/// Whether a reader of the load wants a record.
type Takes = Box<dyn Fn(u64) -> bool>;

/// What a reader of the load has got.
#[derive(Debug, Default)]
struct Tally {
    records: u64,
    packets: u64,
    lost_records: u64,
    lost_packets: u64,
}

#[test]
fn each_of_eight_readers_gets_its_lines_or_is_told_what_it_missed() {
    const LINES: u64 = 100_000;
    let daemon = Daemon::start("load", 1 << 20, 8);
    let kinds = [EventKind::Drop, EventKind::Verdict, EventKind::Retransmit];
    let dsts = ["10.0.0.1", "10.0.1.1", "10.9.0.1"];
    let kind = move |n: u64| kinds[usize::try_from(n % 3).unwrap()];
    let dst = move |n: u64| dsts[usize::try_from(n / 3 % 3).unwrap()];
    // Only drops count packets.
    let packets = |n: u64| if n.is_multiple_of(3) { n % 11 } else { 0 };
    let all = |_: u64| true;
    let plan: Vec<(&str, Duration, Takes)> = vec![
        ("{}", Duration::ZERO, Box::new(all)),
        (
            r#"{"filter": {"kind": "drop"}}"#,
            Duration::ZERO,
            Box::new(move |n| kind(n) == EventKind::Drop),
        ),
        (
            r#"{"filter": {"dst": "10.0.0.0/16"}}"#,
            Duration::ZERO,
            Box::new(move |n| dst(n).starts_with("10.0.")),
        ),
        (
            r#"{"filter": {"kind": ["drop", "verdict"], "host": "10.0.1.1", "port": 53}}"#,
            Duration::from_millis(1),
            Box::new(move |n| kind(n) != EventKind::Retransmit && dst(n) == "10.0.1.1"),
        ),
        ("{}", Duration::from_millis(5), Box::new(all)),
        (
            r#"{"filter": {"proto": "tcp"}}"#,
            Duration::ZERO,
            Box::new(|_| false),
        ),
        (
            r#"{"filter": {"kind": "drop"}}"#,
            Duration::from_millis(20),
            Box::new(move |n| kind(n) == EventKind::Drop),
        ),
        // Stops reading entirely until all is over.
        ("{}", Duration::MAX, Box::new(all)),
    ];
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut readers = Vec::new();
    for (request, pause, _) in &plan {
        let mut lines = daemon.ask(request);
        let (pause, over) = (*pause, over.clone());
        let is_over = move || over.load(Ordering::Relaxed);
        readers.push(thread::spawn(move || {
            while pause == Duration::MAX && !is_over() {
                thread::sleep(Duration::from_millis(20));
            }
            let mut tally = Tally::default();
            let mut last = 0;
            let mut count: u64 = 0;
            while let Some(line) = lines.text() {
                let event: Event = serde_json::from_str(&line).unwrap();
                let seq = event.seq.unwrap();
                assert!(seq > last, "{seq} after {last}");
                last = seq;
                if let Some(loss) = event.loss {
                    assert_eq!(loss.why, LossCause::ReaderSlow);
                    tally.lost_records += loss.count;
                    tally.lost_packets += event.packets;
                } else {
                    tally.records += 1;
                    tally.packets += event.packets;
                }
                count += 1;
                if pause != Duration::MAX && count.is_multiple_of(16) && !is_over() {
                    thread::sleep(pause);
                }
            }
            tally
        }));
    }
    daemon.readers(8);
    // Requests are read.
    thread::sleep(Duration::from_millis(300));
    for n in 1..=LINES {
        daemon.push(kind(n), packets(n), dst(n));
    }
    thread::sleep(Duration::from_millis(200));
    over.store(true, Ordering::Relaxed);
    drop(daemon);
    let mut missed = Vec::new();
    for (reader, (request, _, takes)) in readers.into_iter().zip(&plan) {
        let tally = reader.join().unwrap();
        let wanted = |n: &u64| takes(*n);
        let records = (1..=LINES).filter(wanted).count() as u64;
        let sum: u64 = (1..=LINES).filter(wanted).map(packets).sum();
        assert_eq!(tally.records + tally.lost_records, records, "{request}");
        assert_eq!(tally.packets + tally.lost_packets, sum, "{request}");
        missed.push(tally.lost_records);
    }
    assert!(missed[7] > LINES / 2, "{missed:?}");
    assert_eq!(missed[5], 0);
}
