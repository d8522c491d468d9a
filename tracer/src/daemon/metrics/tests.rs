//! Real connections, well-meant and others.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream as Client,
    thread,
    time::Instant,
};

use tokio::sync::oneshot;

use super::*;

/// A server in a thread of its own.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start(times: Times) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (stop, stopped) = oneshot::channel();
        let mut server = runtime
            .block_on(Server::bind(
                SocketAddr::from(([127, 0, 0, 1], 0)),
                Arc::new(Counters::new(3)),
                Box::new(Health::default),
            ))
            .unwrap();
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

    fn usual() -> Self {
        Self::start(Times {
            headers: HEADERS,
            lifetime: LIFETIME,
            farewell: FAREWELL,
        })
    }

    fn hasty() -> Self {
        Self::start(Times {
            headers: Duration::from_millis(300),
            lifetime: Duration::from_millis(1200),
            farewell: Duration::from_millis(300),
        })
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
        let mut client = server.connect();
        match n % 3 {
            0 => {}
            1 => client.write_all(b"GET /met").unwrap_or_default(),
            _ => client
                .write_all(b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap_or_default(),
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
