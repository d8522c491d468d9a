//! Real connections, well-meant and others.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream as Client,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use tokio::sync::oneshot;

use super::*;
use crate::{
    daemon::{health::Spool, journal},
    event::{
        Code, Confidence, Event, EventKind, Loss, LossCause, LossOf, Outcome, SCHEMA, Verdict,
    },
};

const USUAL: Times = Times {
    headers: HEADERS,
    lifetime: LIFETIME,
    farewell: FAREWELL,
};

/// A server in a thread of its own.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn usual() -> Self {
        Self::with(Arc::new(Counters::new(3)), Box::new(Health::default), USUAL)
    }

    fn hasty() -> Self {
        let times = Times {
            headers: Duration::from_millis(300),
            lifetime: Duration::from_millis(1200),
            farewell: Duration::from_millis(300),
        };
        Self::with(Arc::new(Counters::new(3)), Box::new(Health::default), times)
    }

    fn with(counters: Arc<Counters>, health: Box<HealthSource>, times: Times) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (stop, stopped) = oneshot::channel();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = runtime.block_on(Server::bind(address, counters, health));
        let mut server = server.unwrap();
        server.times = times;
        let address = server.address().unwrap();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = server.run() => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn connect(&self) -> Client {
        let client = Client::connect(self.address).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        client
    }

    /// All that comes back until the server closes.
    fn ask(&self, request: &[u8]) -> String {
        let mut client = self.connect();
        let _ = client.write_all(request);
        rest(&mut client)
    }

    fn get(&self, head: &str) -> String {
        self.ask(format!("{head}\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || thread::panicking());
        }
    }
}

fn rest(client: &mut Client) -> String {
    let mut bytes = Vec::new();
    let _ = client.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn metrics_are_at_their_place_and_nothing_else_is() {
    let server = Running::usual();
    let answer = server.get("GET /metrics HTTP/1.1");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(answer.contains("\ndroptrace_dropped_packets_total{class=\"policy\"} 0\n"));
    assert!(answer.contains("\nprocess_open_fds "));
    let answer = server
        .get("GET /metrics?a=b HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0");
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0;"));
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    for (head, status) in [
        ("GET / HTTP/1.1", 404),
        ("GET /metrics/ HTTP/1.1", 404),
        ("POST / HTTP/1.1", 404),
        ("POST /metrics HTTP/1.1", 405),
        ("HEAD /metrics HTTP/1.1", 405),
        ("DELETE /metrics HTTP/1.1", 405),
    ] {
        let answer = server.get(head);
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{head}: {answer}");
        assert_eq!(answer.contains("\r\nallow: GET\r\n"), status == 405);
    }
}

#[test]
fn a_connection_serves_many_requests() {
    let server = Running::usual();
    let mut client = server.connect();
    for _ in 0..3 {
        client
            .write_all(b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"at /metrics\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let server = Running::usual();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let answer = server.ask(garbage);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
    }
    // One header that is too long, and too many of them.
    let long = format!(
        "GET /metrics HTTP/1.1\r\nA: {}\r\n\r\n",
        "x".repeat(100 << 10)
    );
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: x\r\n".repeat(200));
    for request in [long, many] {
        let answer = server.ask(request.as_bytes());
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
            "{answer}"
        );
    }
    assert!(
        server
            .get("GET /metrics HTTP/1.1")
            .starts_with("HTTP/1.1 200")
    );
}

#[test]
fn who_is_slow_with_a_request_is_let_go() {
    let server = Running::hasty();
    let mut idle = server.connect();
    let mut slow = server.connect();
    let begun = Instant::now();
    // Byte by byte, which never ends.
    let slow = thread::spawn(move || {
        for byte in b"GET /metrics HTTP/1.1\r\nA: "
            .iter()
            .chain([b'x'; 100].iter())
        {
            if slow.write_all(&[*byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        rest(&mut slow);
        begun.elapsed()
    });
    rest(&mut idle);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(slow.join().unwrap() < Duration::from_secs(2));
}

#[test]
fn who_takes_no_answer_is_let_go() {
    let server = Running::hasty();
    let mut client = server.connect();
    client
        .set_write_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let begun = Instant::now();
    let requests = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    // Until nothing more goes through, and then until the server has had enough.
    while client.write_all(&requests).is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "it goes on for ever"
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn connections_are_bounded_and_those_that_wait_are_served_later() {
    let server = Running::hasty();
    let idle: Vec<Client> = (0..CONNECTIONS * 2).map(|_| server.connect()).collect();
    let begun = Instant::now();
    let answer = server.get("GET /metrics HTTP/1.1");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        begun.elapsed() > Duration::from_millis(250),
        "nobody waited"
    );
    drop(idle);
}

#[test]
fn ten_thousand_connections_leave_nothing() {
    let server = Running::usual();
    for n in 0..10_000 {
        match n % 3 {
            0 => drop(server.connect()),
            1 => server.connect().write_all(b"GET /met").unwrap_or_default(),
            // Waits for the answer, so that the others find room to wait to be accepted.
            _ => assert!(server.get("GET /no HTTP/1.1").starts_with("HTTP/1.1 404 ")),
        }
    }
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let sockets = links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count();
    // Those of the tests that run beside this one.
    assert!(sockets < 200, "{sockets} sockets");
    assert!(
        server
            .get("GET /metrics HTTP/1.1")
            .starts_with("HTTP/1.1 200")
    );
}

/// One of each kind of record, with names that somebody hostile could give.
fn records() -> Vec<Event> {
    let text = "a\"b\\c\nd{}, \u{1b}[31m é".to_owned();
    let drop = serde_json::json!({
        "schema": SCHEMA, "kind": "drop", "time": "", "first_seen": "", "flow": null,
        "packets": 3, "bytes": 180, "process": null, "conntrack": null, "tcp": null,
        "advice": null,
        "reason": {
            "name": "NETFILTER_DROP", "code": 5, "subsystem": "core", "class": "policy",
            "summary": ""
        },
        "rule": {
            "engine": "nft", "family": "inet", "table": text, "chain": text.repeat(30),
            "handle": 7, "text": null, "comment": null, "verdict": "drop", "via": "frame",
            "exact": true
        },
        "where": {
            "function": null, "offset": null, "hook": null, "netns": 4_026_531_833_u32,
            "netns_name": text, "ifname": "eth0\"", "ifindex": 2
        },
    });
    let drop: Event = serde_json::from_value(drop).unwrap();
    let of = |kind| Event {
        kind,
        ..drop.clone()
    };
    let lost = |what, why, count| Event {
        loss: Some(Loss { what, why, count }),
        ..Event::bare(EventKind::Loss, String::new())
    };
    let mut verdict = Event::bare(EventKind::Verdict, String::new());
    verdict.verdict = Some(Verdict {
        outcome: Outcome::Timeout,
        code: Code::NoAnswer,
        explanation: String::new(),
        evidence: Vec::new(),
        confidence: Confidence::Inferred,
        conversations: 1,
        affected: 1,
        timeline: Vec::new(),
        steps_left_out: 0,
    });
    vec![
        of(EventKind::ResetSent),
        of(EventKind::ResetReceived),
        of(EventKind::Retransmit),
        of(EventKind::IcmpSent),
        of(EventKind::IcmpReceived),
        lost(LossOf::Packets, LossCause::MapFull, 3),
        lost(LossOf::Time, LossCause::NotRunning, 2500),
        verdict,
        drop,
    ]
}

/// Numbers of everything that there can be numbers of.
fn full() -> (Arc<Counters>, Box<HealthSource>) {
    let counters = Counters::new(3);
    for event in records() {
        counters.count(&event);
    }
    let health = || Health {
        journal: journal::Size {
            lines: 3,
            bytes: 2000,
            missed: 1,
        },
        readers: 2,
        spool: Some(Spool {
            bytes: 4096,
            records: 7,
            oldest: Duration::from_millis(2500),
            exports_ok: 3,
            exports_failed: 1,
        }),
        degraded: 1,
        programs: Some(Duration::from_millis(12)),
    };
    (Arc::new(counters), Box::new(health))
}

#[test]
fn promtool_finds_no_fault() {
    let (counters, health) = full();
    let server = Running::with(counters, health, USUAL);
    let answer = server.get("GET /metrics HTTP/1.1");
    let (_, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        text.contains("droptrace_untraced_seconds_total 2.5\n"),
        "{text}"
    );
    assert!(
        text.contains("table=\"a\\\"b\\\\c\u{fffd}d{}, \u{fffd}[31m é\""),
        "{text}"
    );
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("promtool (Debian: prometheus) is not there: not tested");
        return;
    };
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn an_address_that_is_taken_is_told() {
    let server = Running::usual();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let second = runtime.block_on(Server::bind(
        server.address,
        Arc::new(Counters::new(3)),
        Box::new(Health::default),
    ));
    let error = second.unwrap_err().to_string();
    assert!(error.contains("metrics.listen"), "{error}");
}
