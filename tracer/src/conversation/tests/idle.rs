//! Pauses, and what comes after them.

use super::{
    super::{
        TcpState,
        trail::{ACK, RST},
    },
    world::*,
};
use crate::event::{Code, Event};

/// A connection from this port that talks, is quiet for `pause` and then sends.
/// `reset` is the TTL of the reset that answers, if one does.
fn idles(world: &mut World, port: u16, from: i64, pause: i64, reset: Option<u8>) {
    world.client.set_port(port);
    world.is_connected(from, 61);
    world.talks(from + 100, 61, 0, 50);
    let ms = from + 120 + pause;
    world.sends(ms, ACK, CLIENT_ISN + 51, SERVER_ISN + 1, 50);
    if let Some(ttl) = reset {
        world.gets(ms + 5, ttl, RST, SERVER_ISN + 1, 0, 0);
        world.client_is(ms + 5, TcpState::Established, TcpState::Close, 104);
        return;
    }
    let mut again = again(ms + 3000, CLIENT_ISN + 51, 50);
    again.flow.as_mut().expect("a flow").sport = Some(port);
    again.packets = 4;
    again.bytes = 200;
    world.record(again);
    world.client_is(ms + 9000, TcpState::Established, TcpState::Close, 110);
}

/// A connection from this port that survives a pause.
fn survives(world: &mut World, port: u16, from: i64, pause: i64) {
    world.client.set_port(port);
    world.is_connected(from, 61);
    world.talks(from + 100, 61, 0, 50);
    world.talks(from + 120 + pause, 61, 50, 50);
}

fn last(world: &mut World, ms: i64) -> Event {
    let mut verdicts = world.conversations.conclude(at(ms), &[]);
    verdicts.pop().expect("a verdict")
}

#[test]
fn resets_after_pauses_that_nobody_survived_are_a_timeout() {
    let mut world = World::new();
    idles(&mut world, 40000, 0, 352_000, Some(63));
    idles(&mut world, 40001, 1000, 400_000, Some(63));
    survives(&mut world, 40002, 2000, 300_000);
    let event = last(&mut world, 500_000);
    let verdict = said(&event);
    assert_eq!(verdict.code, Code::IdleTimeout);
    assert_eq!((verdict.conversations, verdict.affected), (3, 2));
    assert!(
        verdict.evidence[0].contains("352 s"),
        "{:?}",
        verdict.evidence
    );
    assert!(
        verdict.evidence[1].contains("300 s"),
        "{:?}",
        verdict.evidence
    );
    assert!(
        verdict.evidence[2].contains("350 s"),
        "{:?}",
        verdict.evidence
    );
    assert!(event.advice.expect("advice").contains("keepalive"));
}

#[test]
fn a_timeout_that_is_nobodys_is_not_named() {
    let mut world = World::new();
    idles(&mut world, 40000, 0, 20_000, Some(63));
    idles(&mut world, 40001, 1000, 20_000, Some(63));
    let event = last(&mut world, 500_000);
    assert_eq!(code(&event), Code::IdleTimeout);
    let verdict = said(&event);
    assert!(
        !verdict
            .evidence
            .iter()
            .any(|line| line.contains("AWS") || line.contains("Azure"))
    );
}

#[test]
fn one_connection_proves_no_timeout() {
    let mut world = World::new();
    idles(&mut world, 40000, 0, 352_000, Some(63));
    let event = last(&mut world, 500_000);
    assert_eq!(code(&event), Code::PathReset);
    let evidence = &said(&event).evidence;
    assert!(
        evidence.contains(&"nothing had passed for 352 s before".to_owned()),
        "{evidence:?}"
    );
}

#[test]
fn a_pause_that_was_survived_is_no_timeout() {
    let mut world = World::new();
    idles(&mut world, 40000, 0, 20_000, Some(63));
    idles(&mut world, 40001, 1000, 21_000, Some(63));
    survives(&mut world, 40002, 2000, 30_000);
    assert_eq!(code(&last(&mut world, 500_000)), Code::PathReset);
}

#[test]
fn a_peer_that_resets_after_pauses_is_itself() {
    let mut world = World::new();
    idles(&mut world, 40000, 0, 20_000, Some(61));
    idles(&mut world, 40001, 1000, 21_000, Some(61));
    assert_eq!(code(&last(&mut world, 500_000)), Code::PeerReset);
}

#[test]
fn silence_after_pauses_is_a_timeout_if_the_peer_lives() {
    let mut world = World::new();
    idles(&mut world, 40000, 0, 20_000, None);
    idles(&mut world, 40001, 1000, 21_000, None);
    world.pong(60_000, 61);
    assert_eq!(code(&last(&mut world, 500_000)), Code::IdleTimeout);
}

#[test]
fn silence_of_a_peer_that_is_dead_is_no_timeout() {
    let mut world = World::new();
    idles(&mut world, 40000, 0, 20_000, None);
    idles(&mut world, 40001, 1000, 21_000, None);
    assert_eq!(code(&last(&mut world, 500_000)), Code::NoAnswer);
}

#[test]
fn connections_that_are_told_one_after_the_other_are_counted_together() {
    let mut world = World::new();
    idles(&mut world, 40000, 0, 20_000, Some(63));
    let first = world.conversations.settled(at(25_000));
    assert_eq!(
        first.iter().map(code).collect::<Vec<_>>(),
        [Code::PathReset]
    );
    idles(&mut world, 40001, 30_000, 21_000, Some(63));
    let second = world.conversations.settled(at(80_000));
    assert_eq!(
        second.iter().map(code).collect::<Vec<_>>(),
        [Code::IdleTimeout]
    );
    let event = last(&mut world, 90_000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.conversations, verdict.affected),
        (Code::IdleTimeout, 2, 2)
    );
}
