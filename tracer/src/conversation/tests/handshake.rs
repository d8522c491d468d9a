//! What is told of how a connection was opened.

use super::{
    super::{
        Multipath, TcpState,
        trail::{ACK, FIN, RST, SYN},
    },
    world::*,
};
use crate::event::{Code, Event, EventKind};

const SEQ: u32 = SERVER_ISN + 1;

fn evidence(event: &Event) -> &[String] {
    &said(event).evidence
}

#[track_caller]
fn has(event: &Event, text: &str) {
    let told = evidence(event);
    assert!(told.iter().any(|line| line == text), "{told:#?}");
}

#[test]
fn the_first_byte_of_the_answer_is_timed_from_the_last_of_the_request() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.sends(100, ACK, CLIENT_ISN + 1, SEQ, 1000);
    world.sends(130, ACK, CLIENT_ISN + 1001, SEQ, 500);
    world.gets(140, 61, ACK, SEQ, CLIENT_ISN + 1501, 0);
    world.gets(142, 61, ACK, SEQ, CLIENT_ISN + 1501, 300);
    // The next request does not count.
    world.sends(300, ACK, CLIENT_ISN + 1501, SEQ + 300, 10);
    let event = world.verdict(5000);
    assert_eq!(code(&event), Code::InProgress);
    has(&event, "first byte of the answer after 12 ms");
}

#[test]
fn a_request_that_ends_with_a_fin_is_timed_as_well() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.sends(100, ACK, CLIENT_ISN + 1, SEQ, 1000);
    world.sends(101, FIN | ACK, CLIENT_ISN + 1001, SEQ, 0);
    world.gets(351, 61, ACK, SEQ, CLIENT_ISN + 1002, 300);
    has(
        &world.verdict(5000),
        "first byte of the answer after 250 ms",
    );
}

#[test]
fn a_server_times_its_own_answer() {
    let mut world = World::new();
    world.is_asked(0, 62, SYN, CLIENT_ISN, 0, 0);
    world.answers(0, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    world.is_asked(20, 62, ACK, CLIENT_ISN + 1, SEQ, 0);
    world.server_is(20, TcpState::SynRecv, TcpState::Established, 0);
    world.is_asked(25, 62, ACK, CLIENT_ISN + 1, SEQ, 80);
    world.answers(75, ACK, SEQ, CLIENT_ISN + 81, 300);
    has(&world.verdict(5000), "first byte of the answer after 50 ms");
}

#[test]
fn a_server_that_speaks_first_is_timed_from_the_handshake() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.gets(50, 61, ACK, SEQ, CLIENT_ISN + 1, 40);
    has(
        &world.verdict(5000),
        "first byte of the server 30 ms after the handshake",
    );
}

#[test]
fn no_time_is_told_where_a_first_byte_was_not_seen() {
    // The answer's beginning was not seen; then, the request's end.
    for (seq, acked) in [(SEQ + 7, CLIENT_ISN + 51), (SEQ, CLIENT_ISN + 90)] {
        let mut world = World::new();
        world.is_connected(0, 61);
        world.sends(100, ACK, CLIENT_ISN + 1, SEQ, 50);
        world.gets(400, 61, ACK, seq, acked, 300);
        let event = world.verdict(5000);
        let told = evidence(&event);
        assert!(
            !told.iter().any(|line| line.contains("first byte")),
            "{told:?}"
        );
    }
}

/// A connection whose SYN carries so many bytes, of which so many are acknowledged.
fn opened_fast(bytes: u32, taken: u32, granted: bool) -> Event {
    let mut world = World::new();
    world.client_is(0, TcpState::Close, TcpState::SynSent, 0);
    world.header.fast_open = true;
    world.sends(0, SYN, CLIENT_ISN, 0, bytes);
    world.header.fast_open = granted;
    world.gets(20, 61, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1 + taken, 0);
    world.header.fast_open = false;
    world.client_is(20, TcpState::SynSent, TcpState::Established, 0);
    world.sends(20, ACK, CLIENT_ISN + 1 + bytes, SEQ, 0);
    world.verdict(5000)
}

#[test]
fn fast_open_is_told() {
    has(
        &opened_fast(0, 0, true),
        "TCP Fast Open: the server gave a cookie",
    );
    has(
        &opened_fast(0, 0, false),
        "TCP Fast Open was asked for, and not granted",
    );
    has(
        &opened_fast(80, 80, false),
        "TCP Fast Open: the SYN carried 80 bytes",
    );
    let event = opened_fast(80, 0, false);
    has(
        &event,
        "TCP Fast Open: the SYN carried 80 bytes, and the server did not take them",
    );
    let timeline = &said(&event).timeline;
    let syn = "SYN of 10.0.0.2 left by eth0 (TTL 64, Fast Open, 80 bytes)";
    assert!(
        timeline.iter().any(|step| step.what == syn),
        "{timeline:#?}"
    );
}

#[test]
fn multipath_tcp_is_told() {
    for (answered, told) in [
        (Some(Multipath::default()), "both ends use multipath TCP"),
        (
            None,
            "multipath TCP was asked for, and the other end does not use it",
        ),
    ] {
        let mut world = World::new();
        world.header.multipath = Some(Multipath::default());
        world.connects(0);
        world.header.multipath = answered;
        world.gets(20, 61, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
        world.client_is(20, TcpState::SynSent, TcpState::Established, 0);
        world.sends(20, ACK, CLIENT_ISN + 1, SEQ, 0);
        has(&world.verdict(5000), told);
    }
}

#[test]
fn a_reset_of_multipath_tcp_says_why() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    world.header.multipath = Some(Multipath {
        is_fast_close: false,
        reset_reason: Some(3),
    });
    world.gets(500, 61, RST | ACK, SEQ, CLIENT_ISN + 51, 0);
    world.client_is(500, TcpState::Established, TcpState::Close, 104);
    has(
        &world.verdict(5000),
        "the RST says of multipath TCP: MP_TCPRST: administratively prohibited",
    );
}

#[test]
fn a_reset_of_this_machines_multipath_tcp_is_named() {
    let mut world = World::new();
    world.is_connected(0, 61);
    let mut event = record(
        EventKind::ResetSent,
        500,
        address(CLIENT),
        address(SERVER),
        "R",
    );
    event.reason = Some(reason(
        Some("MPTCP_RST_EMIDDLEBOX"),
        crate::event::Class::Peer,
    ));
    world.record(event);
    let event = world.verdict(5000);
    assert_eq!(code(&event), Code::LocalGiveUp);
    let explanation = &said(&event).explanation;
    assert!(
        explanation.contains("changed the multipath TCP signalling"),
        "{explanation}"
    );
}
