//! What the output shows, on records made up for it.
//!
//! The expected texts stand beside the tests, so that a change in what people
//! see is seen in review.

use jiff::tz::{TimeZone, offset};
use serde_json::json;

use super::{ColorChoice, Format, Options, Output, Sink, Totals};
use crate::event::Event;

mod abilities;
mod hostile;
mod json_lines;
mod live;
mod sink;
mod summary;
mod words;

/// A record, with `changes` made to one of a packet that a rule dropped.
///
/// A `null` in `changes` stays one; objects are merged field by field.
fn event(changes: &serde_json::Value) -> Event {
    let mut record = json!({
        "schema": crate::event::SCHEMA,
        "kind": "drop",
        "time": "2026-11-22T01:30:00.123456789Z",
        "first_seen": "2026-11-22T01:29:59.903456789Z",
        "flow": {
            "family": "ipv4", "proto": "tcp", "src": "10.0.0.2", "sport": 53412,
            "dst": "10.0.0.5", "dport": 443, "direction": "in"
        },
        "packets": 1,
        "bytes": 60,
        "reason": {
            "name": "NETFILTER_DROP", "code": 8, "subsystem": "core", "class": "policy",
            "summary": "a netfilter hook dropped the packet"
        },
        "rule": null,
        "where": {
            "function": "nft_do_chain", "offset": 1234, "hook": "input",
            "netns": 4_026_532_281_u32, "ifname": "eth0", "ifindex": 2
        },
        "process": null, "conntrack": null, "tcp": null, "advice": null
    });
    merge(&mut record, changes);
    serde_json::from_value(record).expect("a record")
}

fn merge(into: &mut serde_json::Value, changes: &serde_json::Value) {
    match (into, changes) {
        (serde_json::Value::Object(into), serde_json::Value::Object(changes)) => {
            for (name, change) in changes {
                merge(into.entry(name).or_insert(json!(null)), change);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

/// What a rule dropped, with everything that is known about it.
fn by_rule() -> Event {
    event(&json!({
        "packets": 3,
        "rule": {
            "engine": "nft", "family": "inet", "table": "filter", "chain": "input",
            "table_handle": 1, "chain_handle": 1, "handle": 5, "position": 2,
            "text": "tcp dport 443 counter packets 3 bytes 180 drop", "comment": null,
            "verdict": "drop", "as_of": "drop", "via": "frame", "exact": true
        },
        "process": {
            "pid": 812, "comm": "nginx", "uid": 33,
            "cgroup": "/system.slice/nginx.service", "container": null
        },
        "tcp": {"flags": "S", "seq": 1, "ack": 0, "state": null},
        "advice": "list it with: nft -a list chain inet filter input",
        "packet": {"len": 60, "mark": 0, "ttl": 64}
    }))
}

/// What the policy of a chain dropped, of which only the kernel told.
fn by_policy() -> Event {
    event(&json!({
        "time": "2026-11-22T01:30:00.15Z",
        "flow": {"proto": "udp", "dport": 53},
        "rule": {
            "engine": "nft", "family": "ip6", "table": null, "chain": null,
            "table_handle": 7, "chain_handle": 2, "text": null, "comment": null,
            "verdict": "drop", "policy": true, "via": "frame", "exact": true
        },
        "advice": "find the rule: nft -a list ruleset"
    }))
}

/// What nobody listened for, over IPv6.
fn no_listener() -> Event {
    event(&json!({
        "time": "2026-11-22T01:30:00.2Z",
        "flow": {
            "family": "ipv6", "proto": "udp", "src": "2001:db8::2", "sport": 40001,
            "dst": "2001:db8::5", "dport": 53
        },
        "reason": {
            "name": "NO_SOCKET", "code": 3, "class": "no_listener",
            "summary": "nobody listens on that port"
        },
        "where": {"function": "__udp6_lib_rcv", "offset": 2301, "hook": null},
        "advice": "check: ss -lun"
    }))
}

/// A reset that this machine sent.
fn reset() -> Event {
    event(&json!({
        "kind": "reset_sent",
        "time": "2026-11-22T01:30:00.3Z",
        "flow": {
            "src": "10.0.0.5", "sport": 8080, "dst": "10.0.0.2", "dport": 53413,
            "direction": "out"
        },
        "reason": {
            "name": "NO_SOCKET", "code": 1, "subsystem": "tcp_reset", "class": "no_listener",
            "summary": "nobody listens on that port"
        },
        "where": {"function": null, "offset": null, "hook": null},
        "tcp": {"flags": "RA", "seq": 0, "ack": 1, "state": null},
        "advice": "check: ss -ltn"
    }))
}

/// An ICMP error about a flow, dropped in a VLAN for no given reason.
fn icmp() -> Event {
    event(&json!({
        "time": "2026-11-22T01:30:00.4Z",
        "flow": {
            "proto": "icmp", "src": "10.0.0.5", "sport": null, "dst": "10.0.0.2", "dport": null,
            "vlan": 7, "icmp": {"type": 3, "code": 3},
            "about": {
                "family": "ipv4", "proto": "udp", "src": "10.0.0.2", "sport": 5000,
                "dst": "10.0.0.5", "dport": 53, "direction": null
            }
        },
        "reason": {
            "name": "NOT_SPECIFIED", "code": 2, "class": "unknown",
            "summary": "the kernel gives no reason"
        },
        "where": {"function": "icmp_rcv", "offset": 77, "hook": null}
    }))
}

/// Packets that could not be recorded.
fn lost() -> Event {
    event(&json!({
        "kind": "loss", "time": "2026-11-22T01:30:00.5Z", "flow": null, "packets": 12, "bytes": 0,
        "reason": null, "where": null,
        "loss": {"what": "packets", "why": "recursion", "count": 12}
    }))
}

/// A record of normal clean-up.
fn benign() -> Event {
    event(&json!({
        "packets": 57,
        "reason": {"name": "CONSUMED", "class": "benign", "summary": "delivered"}
    }))
}

/// One of each.
fn samples() -> Vec<Event> {
    vec![
        by_rule(),
        by_policy(),
        no_listener(),
        reset(),
        icmp(),
        lost(),
        benign(),
    ]
}

/// Options that depend neither on the machine nor on its environment.
fn options(width: Option<usize>) -> Options {
    Options {
        verdicts_only: false,
        format: Format::Human,
        all: false,
        color: ColorChoice::Auto,
        width,
        unicode: true,
        zone: TimeZone::fixed(offset(1)),
        netns: None,
    }
}

/// What these intervals look like.
fn show(options: Options, intervals: &[Vec<Event>]) -> String {
    let mut output = Output::new(Vec::new(), options);
    for events in intervals {
        output.events(events).expect("memory takes everything");
        output.interval_ends().expect("memory takes everything");
    }
    text(output)
}

/// What the summary of these records looks like.
fn sum_up(options: Options, events: &[Event], totals: &Totals) -> String {
    let mut output = Output::new(Vec::new(), options);
    output.events(events).expect("memory takes everything");
    output.sink.clear();
    output.finish(totals).expect("memory takes everything");
    text(output)
}

fn text(output: Output<Vec<u8>>) -> String {
    String::from_utf8(output.sink).expect("output is text")
}

fn totals() -> Totals {
    Totals {
        duration: std::time::Duration::from_secs(30),
        filter: Some("tcp and host 10.0.0.5".into()),
        watched: vec!["kfree_skb".into(), "tcp_send_reset".into()],
    }
}

/// A sink that shows what [`Sink`] says of a terminal.
struct Terminal(Vec<u8>);

impl std::io::Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink for Terminal {
    fn columns(&self) -> Option<usize> {
        Some(0)
    }

    fn takes_color(&self) -> bool {
        true
    }
}
