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
        repeated.r#where.as_mut().expect("a place").stack = [format!("{function}+0x5")].into();
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

#[test]
fn how_it_was_sent_again_is_told() {
    let timer = "tcp_retransmit_timer";
    let queue = "tcp_xmit_retransmit_queue";
    let event = repeats(&[timer, timer, PROBE, queue, queue, queue]).verdict(20_000);
    let verdict = said(&event);
    let line = "sent again: 2 after a timeout, 1 by a tail-loss probe, 3 fast";
    assert!(
        verdict.evidence.contains(&line.to_owned()),
        "{:?}",
        verdict.evidence
    );
}

#[test]
fn the_innermost_function_tells_why() {
    for (stack, why) in [
        // The timer sends the probe.
        (
            &["tcp_send_loss_probe", "tcp_write_timer_handler"][..],
            "1 by a tail-loss probe",
        ),
        // An acknowledgement that arrives while the timer's segment is sent.
        (
            &["tcp_xmit_recovery", "tcp_ack", "tcp_retransmit_timer"],
            "1 fast",
        ),
        (
            &["tcp_xmit_retransmit_queue", "tcp_simple_retransmit"],
            "1 as the path takes no larger",
        ),
        (&["tcp_write_timer"], "1 after a timeout"),
    ] {
        let mut world = repeats(&[]);
        let mut repeated = again(300, CLIENT_ISN + 1, 50);
        repeated.r#where.as_mut().expect("a place").stack =
            stack.iter().map(|name| format!("{name}+0x5")).collect();
        world.record(repeated);
        let event = world.verdict(20_000);
        let evidence = &said(&event).evidence;
        assert!(
            evidence.contains(&format!("sent again: {why}")),
            "{evidence:?}"
        );
    }
}

#[test]
fn many_segments_are_counted_though_not_all_are_kept() {
    let mut world = repeats(&[]);
    for n in 0..40 {
        let mut repeated = again(300, CLIENT_ISN + 1 + n, 50);
        repeated.r#where.as_mut().expect("a place").stack = [PROBE.to_owned()].into();
        world.record(repeated);
    }
    let event = world.verdict(20_000);
    let evidence = &said(&event).evidence;
    assert!(evidence.contains(&"40 segments were sent again".to_owned()));
    assert!(evidence.contains(&"sent again: 40 by a tail-loss probe".to_owned()));
}

#[test]
fn the_timeline_has_the_backoff() {
    let mut world = repeats(&[]);
    for ms in [400, 800, 1600] {
        world.record(again(ms, CLIENT_ISN + 1, 50));
    }
    let event = world.verdict(20_000);
    let steps = &said(&event).timeline;
    let steps: Vec<&str> = steps
        .iter()
        .map(|step| step.what.as_str())
        .filter(|what| what.contains("sent again"))
        .collect();
    assert_eq!(
        steps,
        [
            "50 bytes sent again",
            "50 bytes sent again (400 ms after the last time)",
            "50 bytes sent again (800 ms after the last time)",
        ]
    );
}
