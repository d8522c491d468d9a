//! Attempts that fail, and what they are taken for.

use super::{
    super::{
        TcpState, Way,
        trail::{ACK, RST, SYN},
    },
    world::*,
};
use crate::event::{Class, Code, Confidence, Direction, EventKind, Outcome};

#[test]
fn a_reset_from_nearer_than_the_peer_is_of_a_device_on_the_path() {
    let mut world = World::new();
    world.pong(0, 61);
    world.connects(100);
    world.refusal(101, 63);
    world.client_is(101, TcpState::SynSent, TcpState::Close, 111);
    let event = world.verdict(3000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome, verdict.confidence),
        (Code::PathReset, Outcome::Refused, Confidence::Observed)
    );
    assert_eq!(
        verdict.explanation,
        "the RST came from 1 hop away, 10.0.0.5 answers from 3 hops away: a device on the path sent it"
    );
    assert_eq!(
        verdict.evidence,
        [
            "RST with TTL 63 (64 at its start: 1 hop)",
            "echo reply of 10.0.0.5 with TTL 61 (3 hops)"
        ]
    );
    let flow = event.flow.expect("a flow");
    assert_eq!(
        (
            flow.src.to_string(),
            flow.sport,
            flow.dst.to_string(),
            flow.dport,
            flow.direction
        ),
        (
            "10.0.0.2".to_owned(),
            Some(40000),
            "10.0.0.5".to_owned(),
            Some(443),
            Some(Direction::Out)
        )
    );
    assert_eq!(event.process, Some(curl()));
}

#[test]
fn a_reset_from_as_far_as_the_peer_is_the_peers() {
    let mut world = World::new();
    world.pong(0, 61);
    world.connects(100);
    world.refusal(101, 61);
    world.client_is(101, TcpState::SynSent, TcpState::Close, 111);
    let event = world.verdict(3000);
    assert_eq!(code(&event), Code::PeerRefused);
    assert_eq!(said(&event).outcome, Outcome::Refused);
}

#[test]
fn a_reset_of_which_nothing_tells_the_distance_is_nobodys() {
    let mut world = World::new();
    world.connects(100);
    world.refusal(101, 63);
    world.client_is(101, TcpState::SynSent, TcpState::Close, 111);
    let event = world.verdict(3000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::ResetOriginUnknown, Confidence::Inferred)
    );
    assert!(verdict.evidence.iter().any(|line| line.contains("ping it")));
}

#[test]
fn a_ttl_that_only_another_namespace_saw_tells_nothing_here() {
    let mut world = World::new();
    world.netns = HOME + 1;
    world.pong(0, 61);
    world.netns = HOME;
    world.connects(100);
    world.refusal(101, 63);
    assert_eq!(code(&world.verdict(3000)), Code::ResetOriginUnknown);
}

#[test]
fn the_distance_behind_another_initial_ttl_proves_nothing() {
    // 252 of 255 is as far as 61 of 64.
    let mut world = World::new();
    world.pong(0, 61);
    world.connects(100);
    world.refusal(101, 252);
    assert_eq!(code(&world.verdict(3000)), Code::ResetOriginUnknown);
}

#[test]
fn a_reset_does_not_vouch_for_another() {
    let mut world = World::new();
    world.connects(0);
    world.refusal(1, 63);
    world.client = address("10.0.0.2:40001");
    world.connects(100);
    world.refusal(101, 63);
    let verdicts = world.conversations.conclude(at(3000), &[]);
    for event in &verdicts {
        assert_eq!(code(event), Code::ResetOriginUnknown);
    }
    // Two conversations, and the destination as a whole at the end.
    assert_eq!(verdicts.len(), 3);
    let whole = said(&verdicts[2]);
    assert_eq!((whole.conversations, whole.affected), (2, 2));
    assert_eq!(verdicts[2].flow.as_ref().expect("a flow").sport, None);
}

#[test]
fn a_syn_that_nobody_answers_is_lost_outside() {
    let mut world = World::new();
    world.connects(0);
    world.syn(1000);
    world.syn(3000);
    world.client_is(7000, TcpState::SynSent, TcpState::Close, 110);
    let event = world.verdict(9000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome, verdict.confidence),
        (Code::NoAnswer, Outcome::Timeout, Confidence::Inferred)
    );
    assert_eq!(verdict.evidence[0], "3 SYNs left by eth0");
}

#[test]
fn a_syn_seen_at_two_interfaces_is_one() {
    let mut world = World::new();
    world.connects(0);
    world.syn(0);
    world.syn(1);
    let event = world.verdict(9000);
    assert_eq!(said(&event).evidence[0], "1 SYN left by eth0");
}

#[test]
fn lost_sightings_are_told_where_something_is_missing() {
    let mut world = World::new();
    world.conversations.lost(7);
    world.connects(0);
    let event = world.verdict(9000);
    assert_eq!(code(&event), Code::NoAnswer);
    assert!(
        said(&event)
            .evidence
            .iter()
            .any(|line| line.starts_with("7 sightings"))
    );
}

#[test]
fn a_connection_just_begun_is_under_way() {
    let mut world = World::new();
    world.connects(0);
    let event = world.verdict(300);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome),
        (Code::InProgress, Outcome::Timeout)
    );
    assert!(verdict.explanation.starts_with("no answer yet"));
    // A SYN alone, without a socket.
    let mut world = World::new();
    world.syn(0);
    assert_eq!(code(&world.verdict(999)), Code::InProgress);
    // Its time is over.
    let mut world = World::new();
    world.connects(0);
    assert_eq!(code(&world.verdict(1000)), Code::NoAnswer);
    // The application did not wait.
    let mut world = World::new();
    world.connects(0);
    world.client_is(200, TcpState::SynSent, TcpState::Close, 0);
    assert_eq!(code(&world.verdict(300)), Code::NoAnswer);
    // It was sent again.
    let mut world = World::new();
    world.connects(0);
    world.syn(500);
    assert_eq!(code(&world.verdict(900)), Code::NoAnswer);
}

#[test]
fn drops_by_one_rule_are_counted_together_whatever_its_counters() {
    let mut world = World::new();
    for (ms, text) in [
        (0, "counter packets 0 bytes 0 drop"),
        (1000, "counter packets 1 bytes 60 drop"),
        (3000, "counter packets 1 bytes 60 drop"),
    ] {
        let syn = drop(ms, CLIENT, SERVER, "S", "NETFILTER_DROP", Class::Policy);
        world.record(by_rule(syn, text, "drop"));
    }
    world.client_is(0, TcpState::Close, TcpState::SynSent, 0);
    let event = world.verdict(9000);
    let explanation = &said(&event).explanation;
    assert!(explanation.contains("dropped 3 SYNs"), "{explanation}");
}

#[test]
fn a_syn_that_a_rule_drops_never_leaves() {
    let mut world = World::new();
    let syn = drop(0, CLIENT, SERVER, "S", "NETFILTER_DROP", Class::Policy);
    world.record(by_rule(syn, "tcp dport 443 drop", "drop"));
    world.client_is(0, TcpState::Close, TcpState::SynSent, 0);
    let event = world.verdict(9000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome, verdict.confidence),
        (Code::LocalRuleDrop, Outcome::Timeout, Confidence::Observed)
    );
    assert!(
        verdict
            .explanation
            .contains("inet filter output handle 5: tcp dport 443 drop")
    );
    assert_eq!(event.rule.expect("the rule").handle, Some(5));
}

#[test]
fn a_rule_that_rejects_here_is_no_device_on_the_path() {
    let mut world = World::new();
    world.pong(0, 61);
    let text = "tcp dport 443 reject with tcp reset";
    let syn = drop(100, CLIENT, SERVER, "S", "NETFILTER_DROP", Class::Policy);
    world.record(by_rule(syn, text, "reject with tcp reset"));
    world.client_is(100, TcpState::Close, TcpState::SynSent, 0);
    world.refusal(100, 64);
    world.client_is(100, TcpState::SynSent, TcpState::Close, 111);
    let event = world.verdict(9000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::LocalRuleDrop, Outcome::Refused)
    );
}

#[test]
fn a_drop_before_the_peer_refused_does_not_decide() {
    let mut world = World::new();
    world.pong(0, 61);
    let name = "QDISC_DROP";
    world.record(drop(100, CLIENT, SERVER, "S", name, Class::Resource));
    world.client_is(100, TcpState::Close, TcpState::SynSent, 0);
    world.syn(1100);
    world.refusal(1120, 61);
    assert_eq!(code(&world.verdict(9000)), Code::PeerRefused);
}

#[test]
fn what_this_machine_lacks_is_told_by_the_class_of_the_drop() {
    for (name, class, code, outcome) in [
        (
            "IP_OUTNOROUTES",
            Class::Routing,
            Code::LocalNoRoute,
            Outcome::Unreachable,
        ),
        (
            "NEIGH_FAILED",
            Class::Neighbour,
            Code::LocalNoNeighbour,
            Outcome::Unreachable,
        ),
        (
            "QDISC_DROP",
            Class::Resource,
            Code::LocalDrop,
            Outcome::Timeout,
        ),
    ] {
        let mut world = World::new();
        world.record(drop(0, CLIENT, SERVER, "S", name, class));
        world.client_is(0, TcpState::Close, TcpState::SynSent, 0);
        let event = world.verdict(9000);
        let verdict = said(&event);
        assert_eq!((verdict.code, verdict.outcome), (code, outcome), "{name}");
    }
}

#[test]
fn a_full_table_is_no_rule() {
    let mut world = World::new();
    let syn = drop(0, CLIENT, SERVER, "S", "NETFILTER_DROP", Class::Policy);
    let mut syn = by_rule(
        syn,
        "nf_conntrack: table full: 9 of 9 entries in this namespace",
        "drop",
    );
    syn.rule.as_mut().expect("a rule").engine = crate::event::Engine::Conntrack;
    world.record(syn.clone());
    assert_eq!(code(&world.verdict(9000)), Code::ConntrackFull);

    // Nor is a race for an entry.
    let mut world = World::new();
    syn.rule.as_mut().expect("a rule").text = Some("another packet was first".to_owned());
    world.record(syn);
    assert_eq!(code(&world.verdict(9000)), Code::LocalDrop);
}

#[test]
fn an_answer_that_is_dropped_here_is_told_apart_from_none() {
    let mut world = World::new();
    let answer = drop(20, SERVER, CLIENT, "SA", "NETFILTER_DROP", Class::Policy);
    world.record(by_rule(answer, "ct state new drop", "drop"));
    world.connects(0);
    world.gets(20, 61, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    let event = world.verdict(9000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::ReturnPathDrop, Outcome::Timeout)
    );
    assert!(event.rule.is_some());
}

#[test]
fn icmp_errors_say_who_refuses() {
    for (from, kind, number, code, outcome) in [
        (
            "10.0.0.1",
            3,
            13,
            Code::PathProhibited,
            Outcome::Unreachable,
        ),
        ("10.0.0.5", 3, 13, Code::PeerRefused, Outcome::Refused),
        (
            "10.0.0.1",
            3,
            0,
            Code::PathUnreachable,
            Outcome::Unreachable,
        ),
        (
            "10.0.0.1",
            3,
            1,
            Code::PathUnreachable,
            Outcome::Unreachable,
        ),
        ("10.0.0.5", 3, 3, Code::PeerRefused, Outcome::Refused),
        ("10.0.0.1", 3, 3, Code::PathProhibited, Outcome::Unreachable),
        ("10.0.0.1", 11, 0, Code::TtlExceeded, Outcome::Unreachable),
        (
            "10.0.0.2",
            3,
            1,
            Code::LocalNoNeighbour,
            Outcome::Unreachable,
        ),
    ] {
        let mut world = World::new();
        world.connects(0);
        world.icmp(5, from, 6, kind, number, None);
        let event = world.verdict(9000);
        let verdict = said(&event);
        assert_eq!(
            (verdict.code, verdict.outcome),
            (code, outcome),
            "{from} {kind}/{number}"
        );
    }
}

#[test]
fn nothing_listens_here() {
    let mut world = World::new();
    let mut reset = record(
        EventKind::ResetSent,
        0,
        address(SERVER),
        address(CLIENT),
        "RA",
    );
    reset.reason = Some(reason(Some("NO_SOCKET"), Class::NoListener));
    world.record(drop(0, CLIENT, SERVER, "S", "NO_SOCKET", Class::NoListener));
    world.record(reset);
    world.is_asked(0, 62, SYN, CLIENT_ISN, 0, 0);
    world.answers(0, RST | ACK, 0, CLIENT_ISN + 1, 0);
    let event = world.verdict(9000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::NoListener, Outcome::Refused)
    );
    assert_eq!(event.flow.expect("a flow").direction, Some(Direction::In));
}

#[test]
fn a_full_listen_queue_is_told_by_name_or_by_function() {
    let named = drop(
        0,
        CLIENT,
        SERVER,
        "A",
        "TCP_LISTEN_OVERFLOW",
        Class::Resource,
    );
    let mut derived = drop(0, CLIENT, SERVER, "S", "NOT_SPECIFIED", Class::Resource);
    derived.r#where.as_mut().expect("a place").function = Some("tcp_conn_request".to_owned());
    for event in [named, derived] {
        let mut world = World::new();
        world.record(event);
        world.is_asked(0, 62, SYN, CLIENT_ISN, 0, 0);
        assert_eq!(code(&world.verdict(9000)), Code::ListenOverflow);
    }
    // Another shortage at a SYN is none of the listener.
    let mut world = World::new();
    world.record(drop(0, CLIENT, SERVER, "S", "CPU_BACKLOG", Class::Resource));
    world.is_asked(0, 62, SYN, CLIENT_ISN, 0, 0);
    assert_eq!(code(&world.verdict(9000)), Code::LocalDrop);
}

#[test]
fn a_syn_ack_in_vain_is_lost_outside() {
    let mut world = World::new();
    world.is_asked(0, 62, SYN, CLIENT_ISN, 0, 0);
    world.answers(0, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    world.answers(1000, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    world.answers(3000, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    let event = world.verdict(9000);
    assert_eq!(code(&event), Code::NoAnswer);
    assert_eq!(said(&event).evidence[1], "3 SYN-ACKs left");
}

#[test]
fn udp_is_answered_or_refused_or_neither() {
    let mut world = World::new();
    world.datagram(0, Way::Out, true);
    world.datagram(20, Way::In, false);
    assert_eq!(code(&world.verdict(9000)), Code::Answered);

    let mut world = World::new();
    world.datagram(0, Way::Out, true);
    world.icmp(20, "10.0.0.5", 17, 3, 3, None);
    assert_eq!(code(&world.verdict(9000)), Code::PeerRefused);

    let mut world = World::new();
    world.datagram(0, Way::Out, true);
    let event = world.verdict(9000);
    assert_eq!(code(&event), Code::NoAnswer);
    assert_eq!(said(&event).confidence, Confidence::Inferred);
}

#[test]
fn a_destination_of_which_nothing_was_seen_is_told() {
    let mut world = World::new();
    world.connects(0);
    let watched = [
        (address(SERVER).ip(), Some(443)),
        (address("10.0.0.9:1").ip(), None),
    ];
    let verdicts = world.conversations.conclude(at(9000), &watched);
    let codes: Vec<Code> = verdicts.iter().map(code).collect();
    // What failed needs more attention than what was not tried.
    assert_eq!(codes, [Code::NoTraffic, Code::NoAnswer]);
}
