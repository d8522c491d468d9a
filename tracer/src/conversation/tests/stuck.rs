//! Connections that get no further, and those that only seem so.

use super::{
    super::{TcpState, trail::ACK},
    world::*,
};
use crate::event::{Class, Code, Confidence, Outcome};

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
fn a_busy_connection_that_loses_some_here_is_not_starved() {
    // Packets come in all the time, and not each is seen; the last drop is a moment ago.
    let busy = |last_drop| {
        let mut world = World::new();
        world.is_connected(0, 61);
        for ms in [1000, last_drop] {
            let data = drop(ms, CLIENT, SERVER, "PA", "NETFILTER_DROP", Class::Policy);
            world.record(by_rule(data, "numgen random mod 10 == 0 drop", "drop"));
        }
        world.gets(4600, 61, ACK, SERVER_ISN + 1, CLIENT_ISN + 51, 100);
        world
    };
    assert_eq!(code(&busy(4900).verdict(5000)), Code::LocalLoss);
    // Something would have been seen within a second.
    assert_eq!(code(&busy(4900).verdict(5900)), Code::LocalRuleDrop);

    // Each repetition is dropped, the last a moment ago, and nothing came since the first.
    let mut world = World::new();
    world.is_connected(0, 61);
    for ms in [1000, 1200, 1600, 2400, 4000] {
        let data = drop(ms, CLIENT, SERVER, "PA", "NETFILTER_DROP", Class::Policy);
        world.record(by_rule(data, "tcp dport 443 drop", "drop"));
    }
    assert_eq!(code(&world.verdict(4300)), Code::LocalRuleDrop);
}
