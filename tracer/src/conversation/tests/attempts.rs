//! Attempts of the tracer's own that send nothing, and what their errors tell.

use super::{
    super::{Attempt, Endpoints},
    world::*,
};
use crate::event::{Class, Code, Confidence, Event, Outcome};

fn attempt(proto: u8, error: i32, took: i64) -> Attempt {
    Attempt {
        began: at(0),
        ended: at(took),
        flow: None,
        to: address(SERVER),
        proto,
        error,
        answered: false,
    }
}

fn fails(proto: u8, error: i32, took: i64) -> Event {
    let mut world = World::new();
    world.conversations.attempted(&attempt(proto, error, took));
    world.verdict(took + 10)
}

#[test]
fn an_attempt_that_sends_nothing_is_told_by_its_error() {
    let no_route = (Code::LocalNoRoute, Outcome::Unreachable);
    for (error, took, expected, why) in [
        (libc::ENETUNREACH, 1, no_route, "no route"),
        (libc::EINVAL, 1, no_route, "a blackhole route"),
        (libc::EACCES, 1, no_route, "a route that prohibits"),
        (libc::EHOSTUNREACH, 1, no_route, "an unreachable route"),
        (
            libc::EHOSTUNREACH,
            3000,
            (Code::LocalNoNeighbour, Outcome::Unreachable),
            "next hop",
        ),
        (
            libc::EPERM,
            1,
            (Code::LocalRuleDrop, Outcome::Refused),
            "permit",
        ),
    ] {
        for proto in [6, 17] {
            let event = fails(proto, error, took);
            let verdict = said(&event);
            assert_eq!((verdict.code, verdict.outcome), expected, "{error} {proto}");
            assert_eq!(verdict.confidence, Confidence::Inferred);
            assert!(verdict.explanation.contains(why), "{}", verdict.explanation);
        }
    }
}

#[test]
fn a_neighbour_that_fails_at_once_is_told_by_its_drop() {
    let mut world = World::new();
    world.record(drop(
        1,
        CLIENT,
        SERVER,
        "S",
        "NEIGH_FAILED",
        Class::Neighbour,
    ));
    world
        .conversations
        .attempted(&attempt(6, libc::EHOSTUNREACH, 2));
    assert_eq!(code(&world.verdict(3000)), Code::LocalNoNeighbour);
}

#[test]
fn the_source_of_an_attempt_is_taken_from_what_was_seen() {
    let mut world = World::new();
    world.connects(5);
    let mut attempt = attempt(6, libc::ETIMEDOUT, 2000);
    // A socket that is not bound.
    attempt.flow = Some(Endpoints {
        src: address("0.0.0.0:0"),
        dst: address(SERVER),
    });
    world.conversations.attempted(&attempt);
    let event = world.verdict(3000);
    assert_eq!(code(&event), Code::NoAnswer);
    let flow = event.flow.expect("a flow");
    assert_eq!(
        (flow.src.to_string(), flow.sport),
        ("10.0.0.2".to_owned(), Some(40000))
    );
}
