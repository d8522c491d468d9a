//! Connections that were established, and how they end.

use super::{
    super::{
        TcpState,
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
    assert_eq!(code(&world.verdict(3000)), Code::PeerReset);
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
        evidence.contains(&"round trip 0.3 ms".to_owned()),
        "{evidence:?}"
    );
}

#[test]
fn short_times_have_a_digit_behind_the_point() {
    let span = |us| words::span(std::time::Duration::from_micros(us));
    assert_eq!(span(400), "0.4 ms");
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
        (Some("TCP_ABORT_ON_LINGER"), &[], "SO_LINGER 0"),
        (
            None,
            &["tcp_send_active_reset", "__tcp_close", "tcp_close"],
            "unread",
        ),
        (None, &["tcp_disconnect", "__tcp_close"], "SO_LINGER 0"),
        (None, &["inet_csk_listen_stop", "tcp_close"], "listener"),
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

/// A connection that has exchanged a few bytes, and then sends segments of this size
/// again and again.
fn unanswered(bytes: u64) -> World {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    for ms in [400, 800, 1600, 3200] {
        world.record(again(ms, CLIENT_ISN + 51, bytes));
    }
    world.sends(
        200,
        ACK,
        CLIENT_ISN + 51,
        SERVER_ISN + 1,
        u32::try_from(bytes).expect("small"),
    );
    world
}

#[test]
fn data_that_nobody_acknowledges_is_lost_outside() {
    let mut world = unanswered(200);
    world.client_is(9000, TcpState::Established, TcpState::Close, 110);
    let event = world.verdict(20_000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome, verdict.confidence),
        (Code::NoAnswer, Outcome::Timeout, Confidence::Inferred)
    );
    assert_eq!(
        verdict.evidence,
        [
            "segments were sent again 4 times, and none was acknowledged",
            // From 400 ms, when it was sent again first, to 9 s.
            "the application gave up after 8.6 s (ETIMEDOUT)",
            "this machine dropped none of them",
        ]
    );
}

#[test]
fn large_segments_that_are_lost_while_small_ones_pass_are_too_large() {
    let event = unanswered(1448).verdict(20_000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome, verdict.confidence),
        (Code::MtuBlackhole, Outcome::Timeout, Confidence::Inferred)
    );
    assert!(
        verdict
            .evidence
            .contains(&"no ICMP error said that they are too large".to_owned())
    );
}

#[test]
fn a_path_that_says_how_large_is_no_black_hole() {
    let mut world = unanswered(1448);
    world.icmp(210, "10.0.0.1", 6, 3, 4, Some(1400));
    assert_eq!(code(&world.verdict(20_000)), Code::NoAnswer);
}

#[test]
fn a_rule_that_hides_what_the_path_says_is_told() {
    let mut world = unanswered(1448);
    world.record(by_rule(
        icmp_drop(210, 3, 4),
        "icmp type destination-unreachable drop",
        "drop",
    ));
    let event = world.verdict(20_000);
    assert_eq!(code(&event), Code::MtuBlackhole);
    assert_eq!(said(&event).confidence, Confidence::Observed);
    assert!(said(&event).evidence[0].contains("by nft rule inet filter output handle 5"));
    assert!(event.rule.is_some());

    // It is seen as it comes in, before the rule. Its size does not matter then.
    let mut world = unanswered(600);
    world.record(by_rule(
        icmp_drop(210, 3, 4),
        "icmp type destination-unreachable drop",
        "drop",
    ));
    world.icmp(210, "10.0.0.1", 6, 3, 4, Some(576));
    assert_eq!(code(&world.verdict(20_000)), Code::MtuBlackhole);
}

#[test]
fn a_dropped_icmp_error_is_the_answer_of_an_attempt_and_none_later() {
    let unreachable = |ms| by_rule(icmp_drop(ms, 3, 1), "icmp drop", "drop");
    let mut world = World::new();
    world.record(unreachable(5));
    world.connects(0);
    assert_eq!(code(&world.verdict(9000)), Code::ReturnPathDrop);

    let mut world = unanswered(200);
    world.record(unreachable(210));
    assert_eq!(code(&world.verdict(20_000)), Code::NoAnswer);

    // Nor is it a packet of a connection that works.
    let mut world = World::new();
    world.record(unreachable(210));
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    assert_eq!(code(&world.verdict(20_000)), Code::InProgress);
}

#[test]
fn a_slow_server_is_no_black_hole() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 1448);
    // It acknowledges at once, and its answer takes 20 seconds.
    world.gets(20_000, 61, ACK, SERVER_ISN + 1, CLIENT_ISN + 1449, 300);
    assert_eq!(code(&world.verdict(25_000)), Code::InProgress);
}

#[test]
fn what_was_sent_again_and_acknowledged_is_loss() {
    let mut world = unanswered(200);
    world.gets(3300, 61, ACK, SERVER_ISN + 1, CLIENT_ISN + 251, 0);
    let event = world.verdict(20_000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::PathLoss, Outcome::Degraded)
    );
}

#[test]
fn what_this_machine_drops_of_a_working_connection_is_its_own_loss() {
    let mut world = unanswered(200);
    let data = drop(300, CLIENT, SERVER, "PA", "NETFILTER_DROP", Class::Policy);
    world.record(by_rule(data, "limit rate over 1/second drop", "drop"));
    world.gets(3300, 61, ACK, SERVER_ISN + 1, CLIENT_ISN + 251, 0);
    let event = world.verdict(20_000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::LocalLoss, Outcome::Degraded)
    );
    assert!(event.rule.is_some());
}

#[test]
fn local_loss_needs_something_that_came_in_afterwards() {
    for (name, class, expected) in [
        (
            "IP_OUTNOROUTES",
            Class::Routing,
            (Code::LocalNoRoute, Outcome::Unreachable),
        ),
        (
            "NEIGH_FAILED",
            Class::Neighbour,
            (Code::LocalNoNeighbour, Outcome::Unreachable),
        ),
        (
            "QDISC_DROP",
            Class::Resource,
            (Code::LocalDrop, Outcome::Timeout),
        ),
        (
            "NETFILTER_DROP",
            Class::Policy,
            (Code::LocalRuleDrop, Outcome::Timeout),
        ),
    ] {
        let starved = || {
            let mut world = World::new();
            world.is_connected(0, 61);
            world.talks(100, 61, 0, 50);
            world.record(drop(300, CLIENT, SERVER, "PA", name, class));
            world
        };
        let event = starved().verdict(20_000);
        assert_eq!((code(&event), said(&event).outcome), expected, "{name}");

        let mut world = starved();
        world.gets(400, 61, ACK, SERVER_ISN + 1, CLIENT_ISN + 51, 100);
        assert_eq!(code(&world.verdict(20_000)), Code::LocalLoss, "{name}");

        // The last packet of one that was closed in order.
        let mut world = starved();
        world.parts(200, 61, 50);
        assert_eq!(code(&world.verdict(20_000)), Code::LocalLoss, "{name}");
    }
}

#[test]
fn a_drop_that_was_made_up_for_is_not_why_it_breaks_later() {
    let mut world = unanswered(200);
    world.record(drop(
        60,
        CLIENT,
        SERVER,
        "PA",
        "QDISC_DROP",
        Class::Resource,
    ));
    // The peer was heard of at 120 ms; what is sent again later is not dropped here.
    assert_eq!(code(&world.verdict(20_000)), Code::NoAnswer);
}

#[test]
fn what_was_just_sent_again_may_have_been_acknowledged() {
    let mut world = unanswered(200);
    world.gets(3300, 61, ACK, SERVER_ISN + 1, CLIENT_ISN + 251, 0);
    for n in 0..3 {
        world.record(again(19_500 + n, CLIENT_ISN + 251, 200));
    }
    assert_eq!(code(&world.verdict(20_000)), Code::PathLoss);
}

#[test]
fn a_connection_that_this_machine_starves_is_not_lost_outside() {
    let mut world = unanswered(200);
    let data = drop(300, CLIENT, SERVER, "PA", "NETFILTER_DROP", Class::Policy);
    world.record(by_rule(data, "tcp dport 443 drop", "drop"));
    let event = world.verdict(20_000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::LocalRuleDrop, Outcome::Timeout)
    );

    let mut world = unanswered(200);
    let ack = drop(300, SERVER, CLIENT, "A", "NETFILTER_DROP", Class::Policy);
    world.record(by_rule(ack, "tcp sport 443 drop", "drop"));
    let event = world.verdict(20_000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::ReturnPathDrop, Outcome::Timeout)
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
