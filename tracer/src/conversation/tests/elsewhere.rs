//! What another network namespace of this machine does with packets.

use super::{
    super::{
        Way,
        trail::{ACK, SYN},
    },
    world::*,
};
use crate::event::{Class, Code, Confidence, Event, Outcome};

const THERE: u32 = HOME + 1;
const BETWEEN: u32 = HOME + 2;

/// A drop of the client's packet in another namespace, freed by this function.
fn dropped_there(ms: i64, name: Option<&str>, class: Class, function: &str) -> Event {
    let mut event = drop(ms, CLIENT, SERVER, "S", "", class);
    event.reason = Some(reason(name, class));
    let place = event.r#where.as_mut().expect("a place");
    place.netns = Some(THERE);
    place.function = Some(function.to_owned());
    event
}

fn for_another_host(ms: i64) -> Event {
    dropped_there(ms, Some("OTHERHOST"), Class::Benign, "ip_rcv_core.isra.0")
}

/// The client's SYN leaves this namespace by these interfaces.
fn leaves(world: &mut World, netns: u32, ifnames: &[&'static str]) {
    world.netns = netns;
    for ifname in ifnames {
        world.ifname = ifname;
        world.syn(0);
    }
    world.ifname = "eth0";
}

/// The client's SYN comes in, in this namespace.
fn comes_to(world: &mut World, netns: u32) {
    world.netns = netns;
    world.is_asked(0, 64, SYN, CLIENT_ISN, 0, 0);
}

#[test]
fn what_came_to_a_namespace_that_it_was_not_for_was_dropped_here() {
    // The record comes before what was seen, of a kernel with reasons or without.
    for name in [Some("OTHERHOST"), None] {
        let mut world = World::new();
        world.record(dropped_there(0, name, Class::Benign, "ip_rcv_core"));
        leaves(&mut world, HOME, &["eth0"]);
        comes_to(&mut world, THERE);
        let event = world.verdict(80_000);
        let verdict = said(&event);
        assert_eq!(
            (verdict.code, verdict.outcome, verdict.confidence),
            (Code::LocalDrop, Outcome::Timeout, Confidence::Inferred)
        );
        assert!(verdict.evidence[0].contains("dropped on this machine"));
    }
}

#[test]
fn so_it_was_behind_a_router_of_this_machine() {
    let mut world = World::new();
    leaves(&mut world, HOME, &["eth0"]);
    comes_to(&mut world, BETWEEN);
    leaves(&mut world, BETWEEN, &["eth1"]);
    comes_to(&mut world, THERE);
    world.record(for_another_host(0));
    assert_eq!(code(&world.verdict(80_000)), Code::LocalDrop);
}

/// What is said where packets for another host were dropped, and others may have gone on.
fn is_in_doubt(mut world: World) {
    world.record(for_another_host(0));
    let event = world.verdict(80_000);
    let verdict = said(&event);
    assert_eq!(verdict.code, Code::NoAnswer);
    assert!(!verdict.explanation.contains("outside"), "{verdict:?}");
    let has = |text| verdict.evidence.iter().any(|line| line.contains(text));
    assert!(has("1 SYN dropped on this machine"), "{verdict:?}");
    assert!(!has("none of them"), "{verdict:?}");
}

#[test]
fn a_copy_for_another_host_does_not_tell_what_became_of_the_packet() {
    // A bridge that knows no better sends it to all its ports, one of which leads out.
    let mut bridge = World::new();
    leaves(&mut bridge, HOME, &["eth0"]);
    comes_to(&mut bridge, BETWEEN);
    leaves(&mut bridge, BETWEEN, &["port1", "uplink"]);
    comes_to(&mut bridge, THERE);
    is_in_doubt(bridge);
    // It left by an interface, and was never seen to come in there.
    let mut outside = World::new();
    leaves(&mut outside, HOME, &["eth0"]);
    is_in_doubt(outside);
    // One of two ways on led out.
    let mut outside = World::new();
    leaves(&mut outside, HOME, &["eth0"]);
    comes_to(&mut outside, THERE);
    leaves(&mut outside, BETWEEN, &["eth1"]);
    is_in_doubt(outside);
}

#[test]
fn an_answer_makes_up_for_a_copy() {
    let mut world = World::new();
    world.is_connected(0, 61);
    comes_to(&mut world, THERE);
    world.record(for_another_host(0));
    world.netns = HOME;
    world.talks(100, 61, 0, 50);
    assert_eq!(code(&world.verdict(3000)), Code::InProgress);
}

#[test]
fn other_clean_up_begins_no_conversation() {
    let mut world = World::new();
    world.record(dropped_there(
        0,
        Some("TCP_OLD_DATA"),
        Class::Benign,
        "tcp_data_queue",
    ));
    assert_eq!(world.conversations.conclude(at(9000), &[]), []);
}

#[test]
fn what_ran_out_of_hops_on_a_router_of_this_machine_is_told_so() {
    for (function, expected) in [
        ("ip_forward", (Code::TtlExceeded, Outcome::Unreachable)),
        ("ip6_forward", (Code::TtlExceeded, Outcome::Unreachable)),
        // The same reason, of a broken header.
        ("ip_rcv_core", (Code::LocalDrop, Outcome::Timeout)),
    ] {
        let mut world = World::new();
        world.connects(0);
        world.record(dropped_there(
            1,
            Some("IP_INHDR"),
            Class::Malformed,
            function,
        ));
        let event = world.verdict(9000);
        assert_eq!((code(&event), said(&event).outcome), expected, "{function}");
    }
}

#[test]
fn what_may_not_come_from_where_it_came_is_not_without_a_route() {
    let no_route = (Code::LocalNoRoute, Outcome::Unreachable);
    let refused = (Code::LocalDrop, Outcome::Timeout);
    for (name, function, expected) in [
        (Some("IP_RPFILTER"), "ip_rcv_finish_core", refused),
        (Some("IP_LOCAL_SOURCE"), "ip_rcv_finish_core", refused),
        (None, "ip_rcv_finish_core", refused),
        (Some("IP_INNOROUTES"), "ip_error", no_route),
        (None, "ip_error", no_route),
    ] {
        let mut world = World::new();
        world.connects(0);
        world.record(dropped_there(1, name, Class::Routing, function));
        let event = world.verdict(9000);
        assert_eq!((code(&event), said(&event).outcome), expected, "{name:?}");
    }
}

#[test]
fn an_icmp_error_that_a_server_is_not_let_have_is_no_refusal() {
    let mut world = World::new();
    world.is_asked(0, 62, SYN, CLIENT_ISN, 0, 0);
    world.answers(0, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    // About the SYN-ACK.
    (world.client, world.server) = (world.server, world.client);
    world.icmp(10, "10.0.0.2", 6, 3, 3, None);
    let mut dropped = icmp_drop(10, 3, 3);
    let flow = dropped.flow.as_mut().expect("a flow");
    let about = flow.about.as_mut().expect("a quotation");
    std::mem::swap(&mut about.src, &mut about.dst);
    std::mem::swap(&mut about.sport, &mut about.dport);
    world.record(by_rule(dropped, "icmp drop", "drop"));
    let event = world.verdict(9000);
    let verdict = said(&event);
    assert_eq!(
        (verdict.code, verdict.outcome),
        (Code::ReturnPathDrop, Outcome::Timeout)
    );
}

/// What is said of datagrams of which the last that was answered left at `answered`, and
/// the last that a rule dropped at `dropped`.
fn datagrams(answered: i64, dropped: i64) -> (Code, Outcome) {
    let mut world = World::new();
    world.datagram(0, Way::Out, true);
    world.datagram(answered, Way::In, false);
    let mut event = drop(dropped, CLIENT, SERVER, "", "NETFILTER_DROP", Class::Policy);
    event.tcp = None;
    "udp".clone_into(&mut event.flow.as_mut().expect("a flow").proto);
    world.record(by_rule(event, "udp dport 443 drop", "drop"));
    let event = world.verdict(60_000);
    (code(&event), said(&event).outcome)
}

#[test]
fn datagrams_that_are_answered_no_more_do_not_work() {
    let works = (Code::LocalLoss, Outcome::Degraded);
    assert_eq!(datagrams(500, 400), works);
    // Not each answer is seen.
    assert_eq!(datagrams(500, 1400), works);
    assert_eq!(
        datagrams(500, 1500),
        (Code::LocalRuleDrop, Outcome::Timeout)
    );
}
