//! Rules that are not known, and whether they answer.

use super::{
    super::{
        Scope, TcpState, Way,
        trail::{ACK, RST, SYN},
    },
    world::*,
};
use crate::event::{Class, Code, Confidence, Event, Outcome};

fn syn_dropped(ms: i64) -> Event {
    let drop = drop(ms, CLIENT, SERVER, "S", "NETFILTER_DROP", Class::Policy);
    by_hook(drop)
}

/// What the server's namespace makes of a SYN that a rule drops after 10 ms.
fn outcome(happens: impl FnOnce(&mut World)) -> Outcome {
    let mut world = World::new();
    world.is_asked(0, 61, SYN, CLIENT_ISN, 0, 0);
    world.record(syn_dropped(10));
    happens(&mut world);
    let event = world.verdict(9000);
    let verdict = said(&event);
    assert_eq!(verdict.code, Code::LocalRuleDrop);
    let is_told = verdict
        .evidence
        .iter()
        .any(|line| line.contains("left with that"));
    assert_eq!(is_told, verdict.outcome == Outcome::Refused);
    verdict.outcome
}

#[test]
fn a_reset_that_leaves_with_the_drop_says_that_the_rule_rejects() {
    let reset = |world: &mut World, ms| world.answers(ms, RST | ACK, 0, CLIENT_ISN + 1, 0);
    assert_eq!(outcome(|_| ()), Outcome::Timeout);
    assert_eq!(outcome(|world| reset(world, 9)), Outcome::Refused);
    // It was passed on.
    let passes = outcome(|world| {
        world.gets(9, 63, RST | ACK, 0, CLIENT_ISN + 1, 0);
        reset(world, 9);
    });
    assert_eq!(passes, Outcome::Timeout);
    // Elsewhere.
    let elsewhere = outcome(|world| {
        world.netns = HOME + 1;
        reset(world, 9);
    });
    assert_eq!(elsewhere, Outcome::Timeout);
}

#[test]
fn an_icmp_error_that_leaves_with_the_drop_says_so_too() {
    let says = |ms, ways: &'static [Way]| {
        outcome(move |world| {
            for way in ways {
                world.port_unreachable(ms, *way, "10.0.0.5", (CLIENT, SERVER));
            }
        })
    };
    assert_eq!(says(9, &[Way::Out]), Outcome::Refused);
    assert_eq!(says(1500, &[Way::Out]), Outcome::Timeout);
    assert_eq!(says(9, &[Way::In, Way::Out]), Outcome::Timeout);
    let more_were_dropped = outcome(|world| {
        world.port_unreachable(9, Way::Out, "10.0.0.5", (CLIENT, SERVER));
        world.record(syn_dropped(1010));
    });
    assert_eq!(more_were_dropped, Outcome::Refused);
    let about_the_server = outcome(|world| {
        world.port_unreachable(9, Way::Out, "10.0.0.5", (SERVER, CLIENT));
    });
    assert_eq!(about_the_server, Outcome::Timeout);
}

/// Without packets: the client's socket is closed `ms` after its SYN was dropped.
fn closed(drop: Event, ms: i64) -> (Outcome, Confidence) {
    let mut world = World::of(Scope::Troubles { knows_drops: true });
    world.record(drop);
    world.client_is(ms, TcpState::SynSent, TcpState::Close, 0);
    let event = world.verdict(9000);
    let verdict = said(&event);
    assert_eq!(verdict.code, Code::LocalRuleDrop);
    (verdict.outcome, verdict.confidence)
}

#[test]
fn an_application_that_gives_up_at_once_was_told() {
    let told = (Outcome::Refused, Confidence::Inferred);
    let tired = (Outcome::Timeout, Confidence::Observed);
    assert_eq!(closed(syn_dropped(0), 3), told);
    assert_eq!(closed(syn_dropped(0), 300), tired);
    // The rule is known not to answer.
    let mut known = by_rule(syn_dropped(0), "tcp dport 443 drop", "drop");
    assert_eq!(closed(known.clone(), 3), tired);
    // A queue is full: nobody answers.
    known.rule = None;
    known.reason = Some(reason(Some("QDISC_DROP"), Class::Resource));
    let mut world = World::of(Scope::Troubles { knows_drops: true });
    world.record(known);
    world.client_is(3, TcpState::SynSent, TcpState::Close, 0);
    assert_eq!(said(&world.verdict(9000)).outcome, Outcome::Timeout);
}
