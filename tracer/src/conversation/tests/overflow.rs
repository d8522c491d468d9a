//! SYNs that a full listen queue swallows.

use super::{
    super::{
        TcpState,
        trail::{ACK, RST, SYN},
    },
    world::*,
};
use crate::event::{Code, Confidence, Event, Outcome};

/// A SYN comes in, at a server in this namespace, and is sent again.
fn asked() -> World {
    let mut world = World::new();
    world.is_asked(0, 62, SYN, CLIENT_ISN, 0, 0);
    world.is_asked(1000, 62, SYN, CLIENT_ISN, 0, 0);
    world
}

fn is_overflow(event: &Event) -> bool {
    code(event) == Code::ListenOverflow
}

#[test]
fn a_syn_without_an_answer_where_overflows_were_counted_was_swallowed() {
    let mut world = asked();
    world.conversations.overflowed(HOME, 2);
    world.conversations.overflowed(HOME, 5);
    let event = world.verdict(9000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome, verdict.confidence),
        (Code::ListenOverflow, Outcome::Timeout, Confidence::Inferred)
    );
    let line = "the kernel counted 5 overflows of listen queues in this namespace meanwhile (nstat -az TcpExtListenOverflows)";
    assert!(
        verdict.evidence.contains(&line.to_owned()),
        "{:?}",
        verdict.evidence
    );
}

#[test]
fn no_count_no_overflow() {
    assert_eq!(code(&asked().verdict(9000)), Code::NoAnswer);
    let mut world = asked();
    world.conversations.overflowed(HOME, 0);
    world.conversations.overflowed(HOME + 1, 7);
    assert_eq!(code(&world.verdict(9000)), Code::NoAnswer);
}

#[test]
fn a_syn_that_was_answered_was_not_swallowed() {
    let mut world = asked();
    world.conversations.overflowed(HOME, 5);
    world.answers(1000, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    assert_eq!(code(&world.verdict(9000)), Code::NoAnswer);

    let mut world = asked();
    world.conversations.overflowed(HOME, 5);
    world.answers(1000, RST | ACK, 0, CLIENT_ISN + 1, 0);
    assert_eq!(code(&world.verdict(9000)), Code::NoListener);
}

#[test]
fn a_syn_that_left_or_was_passed_on_was_not_swallowed() {
    let mut world = World::new();
    world.conversations.overflowed(HOME, 5);
    world.connects(0);
    assert_eq!(code(&world.verdict(9000)), Code::NoAnswer);

    let mut world = asked();
    world.conversations.overflowed(HOME, 5);
    world.sends(0, SYN, CLIENT_ISN, 0, 0);
    assert!(!is_overflow(&world.verdict(9000)));
}

#[test]
fn the_clients_namespace_is_told_of_the_servers_queue() {
    let mut world = World::new();
    world.conversations.overflowed(HOME + 1, 5);
    world.connects(0);
    world.syn(1000);
    world.netns = HOME + 1;
    world.is_asked(0, 64, SYN, CLIENT_ISN, 0, 0);
    world.is_asked(1000, 64, SYN, CLIENT_ISN, 0, 0);
    world.netns = HOME;
    world.client_is(3000, TcpState::SynSent, TcpState::Close, 110);
    let event = world.verdict(9000);
    assert!(is_overflow(&event));
    let place = format!("network namespace {}", HOME + 1);
    assert!(said(&event).evidence[1].contains(&place));
}

#[test]
fn a_queue_that_was_full_only_at_first_is_no_loss_outside() {
    let connects = |overflows| {
        let mut world = asked();
        world.conversations.overflowed(HOME, overflows);
        world.answers(1000, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
        world.is_asked(1020, 62, ACK, CLIENT_ISN + 1, SERVER_ISN + 1, 0);
        world.server_is(1020, TcpState::SynRecv, TcpState::Established, 0);
        world.verdict(9000)
    };
    let event = connects(1);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome, verdict.confidence),
        (Code::LocalLoss, Outcome::Degraded, Confidence::Inferred)
    );
    assert_eq!(code(&connects(0)), Code::InProgress);
}
