//! Connections that were established, and how they end.

use super::{
    super::{
        TcpState, Way,
        trail::{ACK, FIN, RST, SYN},
        words,
    },
    world::*,
};
use crate::event::{Class, Code, Confidence, EventKind, Outcome};

/// Ends the connection by a reset that came in with this TTL.
fn reset_with(ttl: u8) -> World {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    world.gets(500, ttl, RST | ACK, SERVER_ISN + 1, CLIENT_ISN + 51, 0);
    world.client_is(500, TcpState::Established, TcpState::Close, 104);
    world
}

#[test]
fn a_reset_of_an_open_connection_is_told_by_its_ttl() {
    let event = reset_with(61).verdict(3000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome, verdict.confidence),
        (Code::PeerReset, Outcome::Reset, Confidence::Inferred)
    );
    let event = reset_with(63).verdict(3000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome, verdict.confidence),
        (Code::PathReset, Outcome::Reset, Confidence::Observed)
    );
}

#[test]
fn the_connections_own_packets_count_more_than_a_ping() {
    // A balancer answers pings itself; the connection goes to a server behind it.
    let mut world = World::new();
    world.pong(0, 63);
    world.is_connected(100, 61);
    world.gets(500, 61, RST | ACK, SERVER_ISN + 1, CLIENT_ISN + 1, 0);
    world.client_is(500, TcpState::Established, TcpState::Close, 104);
    assert_eq!(code(&world.verdict(3000)), Code::PeerReset);
}

#[test]
fn a_reset_that_the_kernel_did_not_believe_ends_nothing() {
    // Out of the window, by somebody who guesses: the socket goes on.
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    world.gets(500, 63, RST | ACK, SERVER_ISN + 900_000, CLIENT_ISN + 51, 0);
    assert!(world.conversations.settled(at(3000)).is_empty());
    assert_eq!(code(&world.verdict(3000)), Code::InProgress);
}

#[test]
fn a_connection_that_was_closed_in_order_is_fine() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    world.parts(200, 61, 50);
    let event = world.verdict(3000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome, verdict.confidence),
        (Code::Connected, Outcome::Connected, Confidence::Observed)
    );
    assert_eq!(
        verdict.explanation,
        "10.0.0.2 reached 10.0.0.5:443 in 20 ms"
    );
    assert_eq!(verdict.evidence, ["SYN answered after 20 ms"]);
    let steps: Vec<&str> = verdict
        .timeline
        .iter()
        .map(|step| step.what.as_str())
        .collect();
    assert_eq!(steps[0], "client's socket: CLOSE to SYN_SENT");
    assert_eq!(steps[1], "SYN of 10.0.0.2 left by eth0 (TTL 64)");
    assert_eq!(steps[2], "SYN-ACK of 10.0.0.5 came in by eth0 (TTL 61)");
    assert_eq!(verdict.steps_left_out, 0);
}

#[test]
fn the_socket_tells_the_round_trip() {
    let mut world = World::new();
    world.rtt_us = 310;
    world.is_connected(0, 61);
    world.parts(200, 61, 0);
    let event = world.verdict(3000);
    let evidence = &said(&event).evidence;
    assert!(
        evidence.contains(&"round trip 0.31 ms".to_owned()),
        "{evidence:?}"
    );
}

#[test]
fn short_times_have_digits_behind_the_point() {
    let span = |us| words::span(std::time::Duration::from_micros(us));
    assert_eq!(span(40), "0.04 ms");
    assert_eq!(span(4_000), "4.0 ms");
    assert_eq!(span(9_900), "9.9 ms");
    assert_eq!(span(9_990), "10 ms");
    assert_eq!(span(20_000), "20 ms");
    assert_eq!(span(1_500_000), "1.5 s");
}

#[test]
fn a_reset_after_both_have_closed_is_no_failure() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    world.parts(200, 61, 50);
    world.gets(230, 61, RST, SERVER_ISN + 2, 0, 0);
    assert_eq!(code(&world.verdict(3000)), Code::Connected);
}

#[test]
fn an_open_connection_is_under_way() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    assert!(world.conversations.settled(at(500_000)).is_empty());
    let event = world.verdict(500_000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::InProgress, Outcome::Connected)
    );
}

/// A reset that this machine sent, by name or by the functions that led to it.
fn own_reset(name: Option<&str>, stack: &[&str]) -> (Code, Outcome, String) {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    let mut reset = record(
        EventKind::ResetSent,
        500,
        address(CLIENT),
        address(SERVER),
        "RA",
    );
    reset.reason = Some(reason(name, Class::Protocol));
    reset.process = Some(curl());
    reset.r#where.as_mut().expect("a place").stack =
        stack.iter().map(|name| format!("{name}+0x1f")).collect();
    world.record(reset);
    world.sends(500, RST | ACK, CLIENT_ISN + 51, SERVER_ISN + 1, 0);
    world.client_is(500, TcpState::Established, TcpState::Close, 0);
    let event = world.verdict(3000);
    assert_eq!(event.process, Some(curl()));
    let verdict = said(&event);
    let is_named = verdict.evidence.contains(&"by curl[812]".to_owned());
    assert_eq!(is_named, verdict.code == Code::LocalAbort);
    (verdict.code, verdict.outcome, verdict.explanation.clone())
}

#[test]
fn the_application_that_breaks_off_is_named() {
    for (name, stack, why) in [
        (Some("TCP_ABORT_ON_CLOSE"), &[][..], "unread"),
        (Some("TCP_ABORT_ON_LINGER"), &[], "TCP_LINGER2"),
        (
            Some("TCP_STATE"),
            &["tcp_send_active_reset", "tcp_disconnect", "__tcp_close"],
            "SO_LINGER 0",
        ),
        (
            None,
            &["tcp_send_active_reset", "__tcp_close", "tcp_close"],
            "unread",
        ),
        (None, &["tcp_disconnect", "__tcp_close"], "SO_LINGER 0"),
        (
            None,
            &[
                "tcp_disconnect",
                "inet_child_forget",
                "inet_csk_listen_stop",
                "__tcp_close",
            ],
            "listener",
        ),
        (Some("NOT_SPECIFIED"), &["tcp_abort"], "administrator"),
    ] {
        let (code, outcome, explanation) = own_reset(name, stack);
        assert_eq!(
            (code, outcome),
            (Code::LocalAbort, Outcome::Reset),
            "{name:?} {stack:?}"
        );
        assert!(explanation.starts_with("curl[812]"), "{explanation}");
        assert!(explanation.contains(why), "{explanation}");
    }
}

/// What is said where the kernel told of these resets of the client, in this order.
fn own_resets(resets: &[(i64, Option<&str>, &str)]) -> Code {
    let mut world = World::new();
    world.is_connected(0, 61);
    for (ms, name, function) in resets {
        let ends = (address(CLIENT), address(SERVER));
        let mut reset = record(EventKind::ResetSent, *ms, ends.0, ends.1, "R");
        reset.reason = Some(reason(*name, Class::Unknown));
        reset.r#where.as_mut().expect("a place").stack = [format!("{function}+0x5")].into();
        world.record(reset);
    }
    code(&world.verdict(9000))
}

#[test]
fn what_an_abort_led_to_may_be_told_before_it() {
    let abort = |ms, name| (ms, name, "tcp_disconnect");
    let nobody = |ms, name| (ms, name, "tcp_v4_rcv");
    for (aborted, gone) in [(Some("TCP_STATE"), Some("NO_SOCKET")), (None, None)] {
        let told = own_resets(&[nobody(500, gone), abort(501, aborted)]);
        assert_eq!(told, Code::LocalAbort);
        let told = own_resets(&[abort(500, aborted), nobody(501, gone)]);
        assert_eq!(told, Code::LocalAbort);
        let told = own_resets(&[nobody(500, gone)]);
        assert_eq!(told, Code::NoListener);
    }
}

#[test]
fn the_kernel_that_gives_up_is_not_the_application() {
    for (name, stack) in [
        (Some("TCP_KEEPALIVE_TIMEOUT"), &[][..]),
        (None, &["tcp_keepalive_timer"]),
    ] {
        let (code, outcome, _) = own_reset(name, stack);
        assert_eq!((code, outcome), (Code::LocalGiveUp, Outcome::Timeout));
    }
    let (code, outcome, _) = own_reset(Some("TCP_ABORT_ON_MEMORY"), &[]);
    assert_eq!((code, outcome), (Code::LocalGiveUp, Outcome::Reset));
}

#[test]
fn silence_towards_keepalive_is_giving_up() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    world.sends(60_000, ACK, CLIENT_ISN + 50, SERVER_ISN + 1, 0);
    world.sends(61_000, ACK, CLIENT_ISN + 50, SERVER_ISN + 1, 0);
    world.client_is(62_000, TcpState::Established, TcpState::Close, 110);
    let event = world.verdict(65_000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::LocalGiveUp, Outcome::Timeout)
    );
}

#[test]
fn a_syn_sent_again_is_loss_unless_both_were_answered() {
    let syn_again = || {
        record(
            EventKind::Retransmit,
            1000,
            address(CLIENT),
            address(SERVER),
            "S",
        )
    };
    let mut world = World::new();
    world.record(syn_again());
    world.connects(0);
    world.syn(1000);
    world.gets(1020, 61, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    world.client_is(1020, TcpState::SynSent, TcpState::Established, 0);
    assert_eq!(code(&world.verdict(5000)), Code::PathLoss);

    // A path of more than a second.
    let mut world = World::new();
    world.record(syn_again());
    world.connects(0);
    world.syn(1000);
    world.gets(1200, 61, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    world.client_is(1200, TcpState::SynSent, TcpState::Established, 0);
    world.sends(1200, ACK, CLIENT_ISN + 1, SERVER_ISN + 1, 0);
    world.gets(2200, 61, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    assert_eq!(code(&world.verdict(5000)), Code::InProgress);
}

#[test]
fn a_conversation_is_told_once() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    world.parts(200, 61, 50);
    assert!(world.conversations.settled(at(300)).is_empty());
    assert_eq!(world.conversations.settled(at(3000)).len(), 1);
    // The last acknowledgement straggles in.
    world.gets(3100, 61, FIN | ACK, SERVER_ISN + 1, CLIENT_ISN + 52, 0);
    assert!(world.conversations.settled(at(60_000)).is_empty());
    assert!(world.conversations.conclude(at(60_000), &[]).is_empty());
}

#[test]
fn ports_that_are_used_again_are_another_conversation() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.parts(200, 61, 0);
    world.client_is(400, TcpState::Close, TcpState::SynSent, 0);
    world.sends(400, SYN, 5_000_000, 0, 0);
    world.gets(420, 61, RST | ACK, 0, 5_000_001, 0);
    world.client_is(420, TcpState::SynSent, TcpState::Close, 111);
    let codes: Vec<Code> = world
        .conversations
        .conclude(at(3000), &[])
        .iter()
        .map(code)
        .collect();
    assert_eq!(
        codes,
        [Code::Connected, Code::PeerRefused, Code::PeerRefused]
    );
}

#[test]
fn the_servers_end_tells_what_the_client_did() {
    let mut world = World::new();
    world.is_asked(0, 62, SYN, CLIENT_ISN, 0, 0);
    world.answers(0, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    world.is_asked(20, 62, ACK, CLIENT_ISN + 1, SERVER_ISN + 1, 0);
    world.server_is(20, TcpState::SynRecv, TcpState::Established, 0);
    world.is_asked(500, 62, RST, CLIENT_ISN + 1, 0, 0);
    world.server_is(500, TcpState::Established, TcpState::Close, 104);
    assert_eq!(code(&world.verdict(5000)), Code::PeerReset);
}

#[test]
fn the_servers_handshake_ends_with_the_clients_acknowledgement() {
    let mut world = World::new();
    world.is_asked(0, 62, SYN, CLIENT_ISN, 0, 0);
    world.answers(0, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    world.is_asked(20, 62, ACK, CLIENT_ISN + 1, SERVER_ISN + 1, 0);
    world.server_is(20, TcpState::SynRecv, TcpState::Established, 0);
    let event = world.verdict(5000);
    assert_eq!(
        said(&event).explanation,
        "10.0.0.2 reached 10.0.0.5:443 in 20 ms, and the connection is open"
    );
}

#[test]
fn advice_about_the_other_end_names_it() {
    let mut world = World::new();
    world.is_asked(0, 62, SYN, CLIENT_ISN, 0, 0);
    world.answers(0, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    world.server_is(1, TcpState::Listen, TcpState::SynRecv, 0);
    world.port_unreachable(2, Way::In, "10.0.0.2", (SERVER, CLIENT));
    world.server_is(2, TcpState::SynRecv, TcpState::Close, libc::ECONNREFUSED);
    let event = world.verdict(9000);
    assert_eq!(code(&event), Code::PeerRefused);
    let advice = event.advice.expect("advice");
    assert!(advice.contains("10.0.0.2"), "{advice}");
    assert!(!advice.contains("10.0.0.5"), "{advice}");
}

#[test]
fn namespaces_with_the_same_addresses_are_told_apart() {
    let mut world = World::new();
    for (netns, port) in [(HOME, 40000), (HOME + 1, 40001)] {
        world.netns = netns;
        for port in [port, port + 10] {
            world.client.set_port(port);
            if netns == HOME {
                world.is_connected(0, 61);
                world.parts(200, 61, 0);
            } else {
                world.connects(0);
                world.refusal(1, 63);
                world.client_is(1, TcpState::SynSent, TcpState::Close, libc::ECONNREFUSED);
            }
        }
    }
    let verdicts = world.conversations.conclude(at(9000), &[]);
    let whole = verdicts
        .iter()
        .filter(|event| said(event).conversations > 1);
    let whole = whole.map(|event| {
        let verdict = said(event);
        let netns = event.r#where.as_ref().and_then(|place| place.netns);
        (
            netns,
            verdict.outcome,
            verdict.conversations,
            verdict.affected,
        )
    });
    assert_eq!(
        whole.collect::<Vec<_>>(),
        [
            (Some(HOME), Outcome::Connected, 2, 2),
            (Some(HOME + 1), Outcome::Refused, 2, 2),
        ]
    );
}
