//! What is known to have happened, and not to which conversation.

use super::world::{SERVER, World, address, at, code, drop, said};
use crate::event::{Class, Code, EventKind};

#[test]
fn what_was_dropped_without_ports_is_traffic() {
    let mut world = World::new();
    let mut event = drop(0, "10.0.0.2:1", SERVER, "", "NETFILTER_DROP", Class::Policy);
    let flow = event.flow.as_mut().unwrap();
    flow.proto = "sctp".to_owned();
    world.record(event);
    let watched = [(address(SERVER).ip(), Some(443))];
    assert_eq!(world.conversations.conclude(at(9000), &watched), []);
}

#[test]
fn what_was_dropped_without_a_flow_may_have_been_the_traffic() {
    let mut world = World::new();
    let mut event = drop(0, "10.0.0.2:1", SERVER, "", "NETFILTER_DROP", Class::Policy);
    event.flow = None;
    event.packets = 5;
    world.record(event);
    let watched = [(address(SERVER).ip(), Some(443))];
    let verdicts = world.conversations.conclude(at(9000), &watched);
    let verdict = said(&verdicts[0]);
    assert_eq!(verdict.code, Code::NoTraffic);
    assert!(
        !verdict.explanation.contains("nothing was sent"),
        "{verdict:?}"
    );
    let told = "this machine dropped 5 packets whose flow is not known: they may have been these";
    assert!(verdict.evidence.contains(&told.to_owned()), "{verdict:?}");
}

#[test]
fn a_loss_is_not_laid_outside_where_dropped_packets_had_no_flow() {
    let mut world = World::new();
    world.syn(0);
    world.syn(1000);
    let mut event = drop(
        1500,
        "10.0.0.2:1",
        SERVER,
        "",
        "NETFILTER_DROP",
        Class::Policy,
    );
    event.flow = None;
    event.flows_unlisted = Some(7);
    event.packets = 9;
    world.record(event);
    let event = world.verdict(80_000);
    assert_eq!(code(&event), Code::NoAnswer);
    let verdict = said(&event);
    assert!(!verdict.explanation.contains("outside"), "{verdict:?}");
    let told = "this machine dropped 9 packets whose flow is not known: they may have been these";
    assert!(verdict.evidence.contains(&told.to_owned()), "{verdict:?}");
    assert!(
        !verdict
            .evidence
            .iter()
            .any(|told| told.contains("none of them"))
    );
}

#[test]
fn a_syn_that_tcp_here_refuses_without_an_answer_is_a_local_drop() {
    let mut world = World::new();
    world.syn(0);
    world.syn(1000);
    let client = world.client.to_string();
    world.record(drop(1, &client, SERVER, "FS", "TCP_FLAGS", Class::Protocol));
    let event = world.verdict(80_000);
    assert_eq!(event.kind, EventKind::Verdict);
    assert_eq!(code(&event), Code::LocalDrop);
}
