//! What readers ask for, and what that selects.

use super::*;
use crate::event::{Reason, utc};

fn event(kind: EventKind, flow: Option<Flow>) -> Event {
    let mut event = Event::bare(kind, utc(jiff::Timestamp::UNIX_EPOCH));
    event.flow = flow;
    event
}

fn flow(src: &str, sport: Option<u16>, dst: &str, dport: Option<u16>, proto: &str) -> Flow {
    let src: IpAddr = src.parse().unwrap();
    Flow {
        family: if src.is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        },
        proto: proto.to_owned(),
        src,
        sport,
        dst: dst.parse().unwrap(),
        dport,
        direction: None,
        vlan: None,
        fragment: false,
        icmp: None,
        about: None,
    }
}

fn wanted(filter: &str) -> Wanted {
    let line = format!("{{\"filter\": {filter}}}");
    Request::parse(line.as_bytes()).unwrap().wanted
}

fn takes(filter: &str, event: &Event) -> bool {
    wanted(filter).takes(&Subject::of(event))
}

#[test]
fn a_number_alone_asks_for_everything_behind_it() {
    let request = Request::parse(b"{\"after\": 17}").unwrap();
    assert_eq!(request.after, Some(17));
    assert!(request.wanted.is_all());
    assert!(Request::parse(b"{}").unwrap().after.is_none());
}

#[test]
fn addresses_ports_and_protocols_select_as_on_the_command_line() {
    let tcp = event(
        EventKind::Drop,
        Some(flow("10.0.0.2", Some(40000), "10.9.0.5", Some(443), "tcp")),
    );
    for yes in [
        r#"{"dst": "10.9.0.5"}"#,
        r#"{"dst": ["192.0.2.1", "10.9.0.0/16"]}"#,
        r#"{"dst": "10.9.0.5:443"}"#,
        r#"{"src": "10.0.0.2"}"#,
        // Both directions of a conversation.
        r#"{"src": "10.9.0.5"}"#,
        r#"{"src": "10.9.0.5", "dst": "10.0.0.2"}"#,
        r#"{"host": "10.0.0.0/24"}"#,
        r#"{"port": 443}"#,
        r#"{"port": ["80", 443]}"#,
        r#"{"port": "400-500", "proto": "tcp"}"#,
        r#"{"proto": 6}"#,
        "{}",
    ] {
        assert!(takes(yes, &tcp), "{yes}");
    }
    for no in [
        r#"{"dst": "10.9.0.6"}"#,
        r#"{"dst": "10.9.0.5:80"}"#,
        r#"{"src": "10.9.0.6"}"#,
        r#"{"host": "fd00::/8"}"#,
        r#"{"port": [80]}"#,
        r#"{"src": "10.0.0.2", "dst": "10.0.0.2"}"#,
        r#"{"proto": "udp"}"#,
        r#"{"port": 443, "host": "192.0.2.0/24"}"#,
    ] {
        assert!(!takes(no, &tcp), "{no}");
    }
    let v6 = event(
        EventKind::Drop,
        Some(flow("fd00::1", None, "fd00::2", None, "89")),
    );
    assert!(takes(r#"{"host": "fd00::2", "proto": "ospf"}"#, &v6));
    assert!(!takes(r#"{"host": "fd01::/16"}"#, &v6));
}

#[test]
fn an_icmp_error_is_also_what_it_is_about() {
    let mut error = flow("10.0.0.1", None, "10.0.0.2", None, "icmp");
    error.about = Some(Box::new(flow(
        "10.0.0.2",
        Some(40000),
        "10.9.0.5",
        Some(443),
        "tcp",
    )));
    let error = event(EventKind::IcmpReceived, Some(error));
    assert!(takes(r#"{"dst": "10.9.0.5:443"}"#, &error));
    assert!(takes(r#"{"proto": "icmp"}"#, &error));
    assert!(!takes(r#"{"dst": "10.9.0.5:80"}"#, &error));
}

#[test]
fn kinds_and_classes_select_and_losses_have_no_class() {
    let mut drop = event(EventKind::Drop, None);
    drop.reason = Some(Reason {
        name: None,
        code: None,
        subsystem: "core".to_owned(),
        class: Class::Policy,
        summary: String::new(),
        derived: false,
    });
    let loss = event(EventKind::Loss, None);
    let verdict = event(EventKind::Verdict, None);
    let of = |filter: &str| [&drop, &loss, &verdict].map(|event| takes(filter, event));
    assert_eq!(of(r#"{"kind": "drop"}"#), [true, false, false]);
    assert_eq!(of(r#"{"kind": ["verdict", "loss"]}"#), [false, true, true]);
    assert_eq!(of(r#"{"class": "policy"}"#), [true, true, false]);
    assert_eq!(of(r#"{"class": "routing"}"#), [false, true, false]);
    // Nothing is known of the flow of these.
    assert_eq!(of(r#"{"host": "0.0.0.0/0"}"#), [false, true, false]);
}

#[test]
fn what_is_no_request_is_refused_with_what_would_be_one() {
    for (line, part) in [
        ("x", "expected value"),
        ("[1]", "no request"),
        ("{\"after\": -1}", "invalid value"),
        ("{\"since\": 1}", "unknown field `since`"),
        ("{\"filter\": {\"dest\": \"a\"}}", "unknown field `dest`"),
        (
            "{\"filter\": {\"kind\": \"drops\"}}",
            "unknown variant `drops`",
        ),
        ("{\"filter\": {\"class\": [7]}}", "unknown variant `7`"),
        ("{\"filter\": {\"port\": 0}}", "is not a port"),
        ("{\"filter\": {\"port\": [[1]]}}", "a list in a list"),
        ("{\"filter\": {\"dst\": \"10.0.0.0/40\"}}", "not a network"),
        ("{\"filter\": {\"dst\": \"example.com\"}}", "not looked up"),
        ("{\"after\": 1, \"after\": 2}", "duplicate field `after`"),
        ("{\"after\": 1} {\"after\": 2}", "trailing characters"),
    ] {
        let error = Request::parse(line.as_bytes()).unwrap_err();
        assert!(error.contains(part), "{line}: {error}");
        assert!(!error.contains('\n'), "{line}");
    }
    assert!(Request::parse(b"{\"filter\": {\"dst\": \"\xff\"}}").is_err());
}
