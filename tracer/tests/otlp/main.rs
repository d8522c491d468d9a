//! The exporter of OTLP against receivers that fail in every way they can.

mod kill;
mod proxy;
mod receiver;

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use droptrace::{
    daemon::{
        config::Config,
        line::Line,
        otlp::{Count, Kind, Number, Otlp, Point, Snapshot},
    },
    event::{Event, EventKind},
};
use receiver::{Answer, Receiver};
use tempfile::TempDir;

use crate::proxy::{Fault, Proxy};

const BOOT: &str = "0e4f8a4e-6f5e-4c0a-9d57-1d7c9f0e2a11";

/// A record that stands for so many packets as no other near it.
fn line(seq: u64) -> Line {
    let mut event = Event::bare(EventKind::Drop, "2026-01-01T00:00:00.000000000Z".into());
    event.packets = packets(seq);
    event.bytes = 60 * event.packets;
    Line::new(event, seq, BOOT).unwrap()
}

fn packets(seq: u64) -> u64 {
    1 + seq % 1009
}

/// An exporter to this address, with its spool there.
fn start(dir: &Path, endpoint: &str, protocol: &str, more: &str, first_number: u64) -> Otlp {
    let text = format!(
        "[state]\ndir = {:?}\nspool = \"64MiB\"\n[otlp]\nendpoint = {endpoint:?}\n\
         protocol = {protocol:?}\ntimeout = \"700ms\"\n{more}",
        dir.display().to_string(),
    );
    let config: Config = toml::from_str(&text).unwrap();
    let numbers = AtomicU64::new(first_number);
    Otlp::start(&config.otlp.unwrap(), &config.state, BOOT, move || {
        numbers.fetch_add(1, Ordering::Relaxed)
    })
    .unwrap()
}

/// Waits for it; says what it was if it does not come.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "waited for: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A run of one protocol: records come in fifties.
struct Run {
    receiver: Receiver,
    proxy: Proxy,
    otlp: Otlp,
    next: u64,
    _dir: TempDir,
}

impl Run {
    fn new(protocol: &str) -> Self {
        let receiver = Receiver::start(protocol, None);
        let proxy = Proxy::start(receiver.address());
        let dir = TempDir::new().unwrap();
        let endpoint = format!("http://{}", proxy.address());
        let otlp = start(dir.path(), &endpoint, protocol, "", 1 << 40);
        Self {
            receiver,
            proxy,
            otlp,
            next: 0,
            _dir: dir,
        }
    }

    fn push(&mut self) {
        self.otlp.push((self.next..self.next + 50).map(line));
        self.next += 50;
    }

    /// Everything that was pushed has come, or is told as lost.
    fn settled(&self, what: &str) {
        until(what, || {
            let got = self.receiver.got();
            got.records.len() as u64 + got.lost.values().map(|it| it.records).sum::<u64>()
                >= self.next
        });
        let got = self.receiver.got();
        let lost: u64 = got.lost.values().map(|it| it.packets).sum();
        let came: u64 = got.records.values().sum();
        assert_eq!(
            came + lost,
            (0..self.next).map(packets).sum::<u64>(),
            "{what}"
        );
        let records: u64 = got.lost.values().map(|it| it.records).sum();
        assert_eq!(got.records.len() as u64 + records, self.next, "{what}");
    }

    fn lost(&self) -> u64 {
        self.receiver.got().lost.values().map(|it| it.records).sum()
    }

    /// While the receiver answers so, exports fail; afterwards nothing is missing.
    fn survives(&mut self, what: &str, answers: impl IntoIterator<Item = Answer>) {
        let failed = self.otlp.health().exports_failed;
        self.receiver.answer(answers);
        self.push();
        until(what, || self.otlp.health().exports_failed > failed);
        self.settled(what);
    }

    fn survives_on_the_way(&mut self, what: &str, fault: Fault) {
        let failed = self.otlp.health().exports_failed;
        self.proxy.set(fault);
        self.push();
        until(what, || self.otlp.health().exports_failed > failed);
        self.proxy.set(Fault::None);
        self.settled(what);
    }
}

fn faults(protocol: &str) {
    let mut run = Run::new(protocol);
    run.push();
    run.settled("without a fault");
    for (what, fault) in [
        ("down", Fault::Down),
        ("resets connections", Fault::Reset),
        ("resets them in the middle", Fault::ResetLater),
        ("garbage", Fault::Garbage),
        ("stalls", Fault::Stall),
    ] {
        run.survives_on_the_way(what, fault);
    }
    run.survives("busy", [Answer::Busy]);
    run.survives("takes it and does not say so", [Answer::TakeAndFail]);
    until("copies", || run.receiver.got().duplicates >= 50);
    run.survives("too slow", [Answer::Slow]);
    run.survives("a long answer", [Answer::Endless]);
    let asked = Instant::now();
    run.survives("says when to come again", [Answer::BusyFor(3)]);
    assert!(asked.elapsed() >= Duration::from_secs(3));
    assert_eq!(run.lost(), 0);

    // What is refused is told, and not sent again.
    run.receiver.answer([Answer::Partial(50)]);
    run.push();
    run.settled("refuses all of a request");
    assert_eq!(run.lost(), 50);
    run.receiver.refuse(Some(run.next + 20));
    run.push();
    run.settled("refuses requests with a certain record");
    assert_eq!(run.lost(), 51);
    run.receiver.refuse(None);

    let health = run.otlp.health();
    assert!(health.running);
    assert_eq!(health.error, None);
    assert_eq!(health.records_refused, 51);
    run.push();
    // Stopping sends the rest.
    run.otlp.stop();
    let got = run.receiver.got();
    assert_eq!(got.records.len() as u64 + 51, run.next);
}

#[test]
fn a_receiver_over_grpc_that_fails_gets_everything_in_the_end() {
    faults("grpc");
}

#[test]
fn a_receiver_over_http_that_fails_gets_everything_in_the_end() {
    faults("http");
}

#[test]
fn of_a_partial_success_as_many_are_told_as_were_refused() {
    let mut run = Run::new("grpc");
    run.receiver.answer([Answer::Partial(7)]);
    run.push();
    until("the loss is told", || run.lost() > 0);
    let got = run.receiver.got();
    assert_eq!(got.lost["refused"].records, 7);
    // Which ones is not said: not fewer packets than they can have been.
    let largest: u64 = (43..50).map(packets).sum();
    assert_eq!(got.lost["refused"].packets, largest);
    assert_eq!(got.records.len(), 50);
}

#[test]
fn a_receiver_that_refuses_everything_does_not_empty_the_spool() {
    let mut run = Run::new("http");
    run.receiver.refuse_all(true);
    for _ in 0..4 {
        run.push();
    }
    std::thread::sleep(Duration::from_secs(4));
    run.receiver.refuse_all(false);
    run.settled("it takes records again");
    assert!(run.lost() <= 4, "{}", run.lost());
}

#[test]
fn counts_go_as_cumulative_sums() {
    for protocol in ["grpc", "http"] {
        let run = Run::new(protocol);
        run.receiver.answer_metrics([Answer::Busy]);
        let start = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        run.otlp.metrics(Snapshot {
            start,
            time: start + Duration::from_secs(60),
            counts: vec![Count {
                name: "droptrace.drops",
                unit: "{packet}",
                description: "Packets dropped",
                kind: Kind::Sum,
                points: vec![Point {
                    attributes: vec![("droptrace.reason.class", "policy".into())],
                    value: Number::Whole(12),
                }],
            }],
        });
        until("the counts", || !run.receiver.got().metrics.is_empty());
        assert_eq!(
            run.receiver.got().metrics,
            ["droptrace.drops{droptrace.reason.class=policy} 12 {packet} cumulative since 7 at 67"]
        );
    }
}

#[test]
fn tls_over_grpc_checks_the_receiver_by_the_given_certificates() {
    tls("grpc");
}

#[test]
fn tls_over_http_checks_the_receiver_by_the_given_certificates() {
    tls("http");
}

fn tls(protocol: &str) {
    let dir = TempDir::new().unwrap();
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let good = dir.path().join("good.pem");
    let bad = dir.path().join("bad.pem");
    std::fs::write(&good, key.cert.pem()).unwrap();
    std::fs::write(&bad, other.cert.pem()).unwrap();
    let identity = (key.cert.pem(), key.signing_key.serialize_pem());
    let receiver = Receiver::start(protocol, Some(identity));
    let endpoint = format!("https://localhost:{}", receiver.address().port());
    let more = |ca: &Path| {
        format!(
            "ca = {:?}\nheaders = {{ authorization = \"Bearer xyzzy\" }}",
            ca.display().to_string()
        )
    };
    let otlp = start(dir.path(), &endpoint, protocol, &more(&bad), 1 << 40);
    otlp.push([line(1)]);
    until("a failure", || otlp.health().exports_failed > 0);
    let error = otlp.health().error.unwrap();
    assert!(error.contains("certificate"), "{error}");
    assert!(!error.contains("xyzzy"));
    otlp.stop();
    assert!(receiver.got().records.is_empty());

    let otlp = start(dir.path(), &endpoint, protocol, &more(&good), 1 << 41);
    until("the record", || receiver.got().records.contains_key(&1));
    assert_eq!(
        receiver.got().authorization.as_deref(),
        Some("Bearer xyzzy")
    );
    otlp.stop();
}
