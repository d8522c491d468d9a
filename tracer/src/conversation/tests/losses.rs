//! What is sent again, and whether that was for a loss.

use super::{super::TcpState, world::*};
use crate::event::{Code, Outcome};

/// A connection that sends something again for each of `stacks`, and stays open.
fn repeats(stacks: &[&str]) -> World {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 5000);
    for (n, function) in (0..).zip(stacks) {
        let mut repeated = again(300 + n, CLIENT_ISN + 1, 50);
        repeated.r#where.as_mut().expect("a place").stack = vec![format!("{function}+0x5")];
        world.record(repeated);
    }
    world
}

const PROBE: &str = "tcp_send_loss_probe";

#[test]
fn three_segments_sent_again_are_loss_and_two_are_none() {
    let event = repeats(&[PROBE; 3]).verdict(20_000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::PathLoss, Outcome::Degraded)
    );
    assert_eq!(
        code(&repeats(&[PROBE; 2]).verdict(20_000)),
        Code::InProgress
    );
}

#[test]
fn what_the_socket_counted_at_its_end_decides() {
    let ends = |records: &[&str], counted| {
        let mut world = repeats(records);
        world.counted = counted;
        world.parts(1000, 61, 5000);
        world.verdict(20_000)
    };
    // 5 less 2 are 3 that were lost.
    let event = ends(&[], (5, 2));
    assert_eq!(code(&event), Code::PathLoss);
    let line = "5 segments were sent again, 2 of them the other end had already (DSACK)";
    assert!(said(&event).evidence.contains(&line.to_owned()));
    // 5 less 3 are 2; and spurious ones are no loss, whatever the records say.
    assert_eq!(code(&ends(&[], (5, 3))), Code::Connected);
    assert_eq!(code(&ends(&[PROBE; 4], (4, 4))), Code::Connected);
    // All by probes, and none was spurious.
    assert_eq!(code(&ends(&[PROBE; 4], (4, 0))), Code::PathLoss);
}

#[test]
fn a_socket_that_is_still_open_has_not_said_all() {
    let mut world = repeats(&[PROBE; 3]);
    world.counted = (0, 0);
    world.client_is(1000, TcpState::Established, TcpState::FinWait1, 0);
    assert_eq!(code(&world.verdict(20_000)), Code::PathLoss);
}
