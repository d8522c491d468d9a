//! Conversations whose packets are not watched: what may be said of them, and what not.

use super::{
    super::{Scope, TcpState},
    world::*,
};
use crate::event::{Class, Code, Confidence, Event, EventKind, Outcome};

const DROPS_KNOWN: Scope = Scope::Troubles { knows_drops: true };
const DROPS_UNKNOWN: Scope = Scope::Troubles { knows_drops: false };

fn world() -> World {
    World::of(DROPS_KNOWN)
}

/// A SYN of the client, dropped by a rule.
fn dropped_syn(ms: i64) -> Event {
    let drop = drop(ms, CLIENT, SERVER, "S", "NETFILTER_DROP", Class::Policy);
    by_rule(drop, "tcp dport 443 drop", "drop")
}

/// A SYN of the client, sent again.
fn syn_again(ms: i64) -> Event {
    let mut event = again(ms, CLIENT_ISN, 0);
    let tcp = event.tcp.as_mut().expect("TCP");
    tcp.flags = Some("S".to_owned());
    tcp.state = Some("SYN_SENT".to_owned());
    event
}

/// A segment that the client sends again, by this function.
fn data_again(ms: i64, seq: u32, function: &str) -> Event {
    let mut event = again(ms, CLIENT_ISN + 1 + seq, 1000);
    event.tcp.as_mut().expect("TCP").state = Some("ESTABLISHED".to_owned());
    if !function.is_empty() {
        event.r#where.as_mut().expect("a place").stack = [function.to_owned()].into();
    }
    event
}

/// A reset of the server, received in this state.
fn reset_received(ms: i64, state: &str) -> Event {
    let (src, dst) = (address(SERVER), address(CLIENT));
    let mut event = record(EventKind::ResetReceived, ms, src, dst, "R");
    event.tcp.as_mut().expect("TCP").state = Some(state.to_owned());
    event
}

/// A reset that the server of this machine sent without a socket.
fn no_socket_reset(ms: i64) -> Event {
    let (src, dst) = (address(SERVER), address(CLIENT));
    let mut event = record(EventKind::ResetSent, ms, src, dst, "R");
    event.reason = Some(reason(Some("NO_SOCKET"), Class::NoListener));
    event
}

fn closes_in_order(world: &mut World, ms: i64) {
    world.client_is(ms, TcpState::FinWait2, TcpState::Close, 0);
}

#[test]
fn nothing_is_said_of_a_connection_without_trouble() {
    let mut world = world();
    world.client_is(10, TcpState::SynSent, TcpState::Established, 0);
    closes_in_order(&mut world, 100);
    assert!(world.conversations.settled(at(5000)).is_empty());
    assert!(world.has_none(90_000));
}

#[test]
fn a_rule_that_drops_syns_is_told_and_what_was_not_watched_too() {
    let mut world = world();
    world.record(dropped_syn(0));
    let event = world.verdict(5000);
    let verdict = said(&event);
    assert_eq!(verdict.code, Code::LocalRuleDrop);
    assert_eq!(verdict.outcome, Outcome::Timeout);
    assert_eq!(verdict.confidence, Confidence::Inferred);
    let line = "packets that pass were not watched".to_owned();
    assert!(verdict.evidence.contains(&line));
    assert!(event.rule.is_some());
}

#[test]
fn how_the_own_socket_ended_makes_it_certain() {
    let mut world = world();
    world.record(dropped_syn(0));
    world.client_is(60_000, TcpState::SynSent, TcpState::Close, libc::ETIMEDOUT);
    let event = world.verdict(70_000);
    assert_eq!(code(&event), Code::LocalRuleDrop);
    assert_eq!(said(&event).confidence, Confidence::Observed);
}

#[test]
fn a_rule_is_not_blamed_where_the_attempt_went_on_without_it() {
    let mut world = world();
    world.record(dropped_syn(0));
    for ms in [1000, 3000] {
        world.record(syn_again(ms));
    }
    world.client_is(60_000, TcpState::SynSent, TcpState::Close, libc::ETIMEDOUT);
    assert!(world.has_none(70_000));
}

#[test]
fn a_dropped_syn_of_a_connection_that_worked_is_local_loss() {
    let mut world = world();
    world.record(dropped_syn(0));
    world.client_is(1020, TcpState::SynSent, TcpState::Established, 0);
    closes_in_order(&mut world, 2000);
    let event = world.verdict(5000);
    assert_eq!(code(&event), Code::LocalLoss);
    assert_eq!(said(&event).outcome, Outcome::Degraded);
}

#[test]
fn a_dropped_segment_alone_says_nothing_of_its_connection() {
    for class in [Class::Policy, Class::Resource] {
        let mut world = world();
        world.record(drop(0, CLIENT, SERVER, "PA", "NETFILTER_DROP", class));
        assert!(world.has_none(5000), "{class:?}");
    }
}

#[test]
fn an_attempt_that_is_not_answered_ends_with_its_error() {
    let ends = |scope, error, server: &str| {
        let mut world = World::of(scope);
        world.server = address(server);
        for ms in [1000, 3000, 7000] {
            let mut event = syn_again(ms);
            event.flow = Some(flow("tcp", world.client, world.server));
            world.record(event);
        }
        world.client_is(15_000, TcpState::SynSent, TcpState::Close, error);
        world.conversations.conclude(at(20_000), &[])
    };
    let verdicts = ends(DROPS_KNOWN, libc::ETIMEDOUT, SERVER);
    assert_eq!(code(&verdicts[0]), Code::NoAnswer);
    let verdict = said(&verdicts[0]);
    assert_eq!(verdict.outcome, Outcome::Timeout);
    assert_eq!(verdict.confidence, Confidence::Inferred);
    assert!(verdict.evidence[0].contains("3 times"), "{verdict:?}");
    // An ICMP error may have ended it: whose is not known.
    assert!(ends(DROPS_KNOWN, libc::EHOSTUNREACH, SERVER).is_empty());
    // Who cannot see all drops cannot say that there was none.
    assert!(ends(DROPS_UNKNOWN, libc::ETIMEDOUT, SERVER).is_empty());
    // The listener is on this machine.
    assert!(ends(DROPS_KNOWN, libc::ETIMEDOUT, "10.0.0.2:443").is_empty());
    assert!(ends(DROPS_KNOWN, libc::ETIMEDOUT, "127.0.0.1:443").is_empty());
}

#[test]
fn an_attempt_under_way_is_given_its_time() {
    let mut world = world();
    world.record(syn_again(1000));
    assert!(world.has_none(1500));
    world.record(syn_again(1000));
    assert_eq!(code(&world.verdict(2500)), Code::NoAnswer);
}

#[test]
fn a_syn_ack_sent_again_says_nothing() {
    // A listener that waits for data (TCP_DEFER_ACCEPT) does so too.
    let mut world = world();
    let (src, dst) = (address(SERVER), address(CLIENT));
    let mut event = record(EventKind::Retransmit, 1000, src, dst, "SA");
    event.tcp.as_mut().expect("TCP").state = Some("LISTEN".to_owned());
    event.packets = 3;
    world.record(event);
    assert!(world.has_none(60_000));
}

#[test]
fn who_sent_a_reset_is_not_guessed() {
    for (state, from, outcome) in [
        ("ESTABLISHED", TcpState::Established, Outcome::Reset),
        ("SYN_SENT", TcpState::SynSent, Outcome::Refused),
    ] {
        let error = match outcome {
            Outcome::Refused => libc::ECONNREFUSED,
            _ => libc::ECONNRESET,
        };
        let mut world = world();
        world.record(reset_received(10, state));
        world.client_is(10, from, TcpState::Close, error);
        let event = world.verdict(5000);
        assert_eq!(code(&event), Code::ResetOriginUnknown, "{state}");
        assert_eq!(said(&event).outcome, outcome, "{state}");
        assert_eq!(said(&event).confidence, Confidence::Inferred);
    }
}

#[test]
fn a_refusal_without_a_reset_came_by_an_icmp_error() {
    let mut world = world();
    world.client_is(20, TcpState::SynSent, TcpState::Close, libc::ECONNREFUSED);
    let event = world.verdict(5000);
    assert_eq!(code(&event), Code::ResetOriginUnknown);
    assert_eq!(said(&event).outcome, Outcome::Refused);
    assert!(said(&event).explanation.contains("ICMP"));
}

#[test]
fn nothing_listens_only_where_a_syn_was_answered() {
    let mut world = world();
    world.record(no_socket_reset(0));
    assert!(world.has_none(5000), "what is long over is reset too");
    let syn = drop(0, CLIENT, SERVER, "S", "NO_SOCKET", Class::NoListener);
    world.record(syn);
    world.record(no_socket_reset(0));
    let event = world.verdict(5000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::NoListener, Outcome::Refused)
    );
}

#[test]
fn an_application_that_breaks_off_is_told_whoever_began() {
    let mut world = world();
    let (src, dst) = (address(SERVER), address(CLIENT));
    let mut event = record(EventKind::ResetSent, 10, src, dst, "R");
    event.reason = Some(reason(Some("TCP_ABORT_ON_DATA"), Class::Protocol));
    world.record(event);
    let event = world.verdict(5000);
    assert_eq!(
        (code(&event), said(&event).outcome),
        (Code::LocalAbort, Outcome::Reset)
    );
}

#[test]
fn losses_outside_are_told_when_the_connection_has_ended_in_order() {
    let repeats = |scope, function, ends| {
        let mut world = World::of(scope);
        for n in 0..4 {
            let seq = u32::try_from(n).expect("small") * 1000;
            world.record(data_again(300 + n, seq, function));
        }
        world.counted = (4, 0);
        if ends {
            closes_in_order(&mut world, 1000);
        }
        world.conversations.conclude(at(20_000), &[])
    };
    let verdicts = repeats(DROPS_KNOWN, "tcp_retransmit_timer", true);
    assert_eq!(code(&verdicts[0]), Code::PathLoss);
    assert_eq!(said(&verdicts[0]).outcome, Outcome::Degraded);
    assert!(repeats(DROPS_KNOWN, "tcp_retransmit_timer", false).is_empty());
    assert!(repeats(DROPS_UNKNOWN, "tcp_retransmit_timer", true).is_empty());
    // Because of their size, or for a reason that is not known: the path may have said
    // how large they may be.
    assert!(repeats(DROPS_KNOWN, "tcp_simple_retransmit", true).is_empty());
    assert!(repeats(DROPS_KNOWN, "", true).is_empty());
}

#[test]
fn a_syn_sent_again_is_loss_only_where_answers_do_not_take_so_long() {
    let connects = |rtt_us| {
        let mut world = world();
        world.record(syn_again(1000));
        (world.rtt_us, world.counted) = (rtt_us, (1, 0));
        world.client_is(1020, TcpState::SynSent, TcpState::Established, 0);
        closes_in_order(&mut world, 2000);
        world.conversations.conclude(at(5000), &[])
    };
    assert_eq!(code(&connects(20_000)[0]), Code::PathLoss);
    assert!(connects(900_000).is_empty());
    assert!(connects(0).is_empty());
}

/// A connection that is given up after it has sent the same segment four times.
fn given_up(more: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut world = world();
    for ms in [200, 600, 1400, 3000] {
        world.record(data_again(ms, 0, "tcp_retransmit_timer"));
    }
    more.into_iter().for_each(|event| world.record(event));
    world.client_is(
        6000,
        TcpState::Established,
        TcpState::Close,
        libc::ETIMEDOUT,
    );
    world.conversations.conclude(at(10_000), &[])
}

#[test]
fn a_connection_that_was_given_up_got_no_answer() {
    let verdicts = given_up([]);
    assert_eq!(code(&verdicts[0]), Code::NoAnswer);
    assert_eq!(said(&verdicts[0]).outcome, Outcome::Timeout);
    // What this machine dropped last was not lost outside.
    let drop_at = |ms| drop(ms, SERVER, CLIENT, "A", "NETFILTER_DROP", Class::Policy);
    let verdicts = given_up([drop_at(3010)]);
    assert_eq!(code(&verdicts[0]), Code::ReturnPathDrop);
    assert_eq!(said(&verdicts[0]).confidence, Confidence::Inferred);
    // A drop at the beginning and loss afterwards: it is not known which it was.
    assert!(given_up([drop_at(10)]).is_empty());
    assert!(given_up([icmp_drop(250, 3, 4)]).is_empty());
}

#[test]
fn of_datagrams_only_what_concerns_them_all_is_told() {
    let udp = |dst: &str, class| {
        let mut world = world();
        let mut event = drop(0, CLIENT, dst, "", "NAME", class);
        event.tcp = None;
        "udp".clone_into(&mut event.flow.as_mut().expect("a flow").proto);
        world.record(event);
        let verdicts = world.conversations.conclude(at(5000), &[]);
        verdicts.first().map(code)
    };
    assert_eq!(udp(SERVER, Class::Policy), Some(Code::LocalRuleDrop));
    assert_eq!(udp(SERVER, Class::Routing), Some(Code::LocalNoRoute));
    assert_eq!(udp(SERVER, Class::NoListener), Some(Code::NoListener));
    assert_eq!(udp(SERVER, Class::Resource), None);
    assert_eq!(udp("224.0.0.251:5353", Class::NoListener), None);
    assert_eq!(udp("255.255.255.255:67", Class::Policy), None);
}

#[test]
fn a_later_connection_with_the_same_ports_is_another_one() {
    let mut world = world();
    let mut told = |ms| {
        world.record(reset_received(ms, "ESTABLISHED"));
        world.client_is(ms, TcpState::Established, TcpState::Close, libc::ECONNRESET);
        world.conversations.settled(at(ms + 1500)).len()
    };
    assert_eq!([told(0), told(30_000), told(120_000)], [1, 0, 1]);
}

#[test]
fn a_destination_is_told_by_those_that_had_trouble() {
    let mut world = world();
    for port in [40_000, 40_001] {
        world.client.set_port(port);
        let mut event = reset_received(10, "ESTABLISHED");
        event.flow = Some(flow("tcp", world.server, world.client));
        world.record(event);
        world.client_is(10, TcpState::Established, TcpState::Close, libc::ECONNRESET);
    }
    let verdicts = world.conversations.conclude(at(5000), &[]);
    let last = verdicts.last().map(said).expect("a verdict");
    assert_eq!((last.conversations, last.affected), (2, 2));
    let words = "2 of 2 conversations that had trouble with";
    assert!(last.explanation.starts_with(words), "{last:?}");
}

/// How many verdicts there are about TCP and about UDP after a dropped SYN and `intervals`
/// with so many dropped datagrams each, of a flow of its own.
fn verdicts_after_datagrams(intervals: u16, each: u16) -> [usize; 2] {
    let mut world = world();
    world.record(dropped_syn(0));
    for port in 1..=intervals * each {
        let client = format!("10.0.0.2:{port}");
        let mut event = drop(1, &client, SERVER, "", "NETFILTER_DROP", Class::Policy);
        "udp".clone_into(&mut event.flow.as_mut().expect("a flow").proto);
        world.record(by_rule(event, "udp dport 443 drop", "drop"));
        if port % each == 0 {
            world.conversations.see(&[]);
        }
    }
    let verdicts = world.conversations.settled(at(90_000));
    ["tcp", "udp"].map(|proto| {
        let is_of = |event: &&Event| event.flow.as_ref().is_some_and(|flow| flow.proto == proto);
        verdicts.iter().filter(is_of).count()
    })
}

#[test]
fn datagrams_leave_room_for_connections() {
    let [tcp, udp] = verdicts_after_datagrams(6, 1000);
    assert_eq!(tcp, 1);
    // Those that made room say nothing: each has its record.
    assert!((1..=4096).contains(&udp), "{udp}");
}

#[test]
fn of_a_flood_of_datagrams_none_has_a_verdict() {
    assert_eq!(verdicts_after_datagrams(2, 1024), [1, 2048]);
    assert_eq!(verdicts_after_datagrams(2, 1025), [1, 0]);
}
