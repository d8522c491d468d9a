//! Who sent a reset, by more than its time to live.

use super::{
    super::{
        TcpState,
        trail::{ACK, FIN, RST, SYN},
    },
    world::*,
};
use crate::event::{Code, Confidence, Event};

/// The server's next expected sequence number, and what it has acknowledged.
const SEQ: u32 = SERVER_ISN + 1;
const ACKED: u32 = CLIENT_ISN + 1 + 3 * 50;

/// A connection on which the server has sent a SYN-ACK and three acknowledgements, with
/// the IP ids that Linux gives; what comes next has the next one.
fn talk() -> World {
    let mut world = World::new();
    world.is_connected(0, 61);
    for n in 0..3_u16 {
        world.header.ip_id = 700 + n;
        world.talks(100 * i64::from(n + 1), 61, u32::from(n) * 50, 50);
    }
    world.header.ip_id = 703;
    world
}

/// What is said of a reset that ends it.
fn reset(mut world: World, ms: i64, ttl: u8, flags: u8, seq: u32) -> Event {
    world.gets(ms, ttl, flags, seq, ACKED, 0);
    world.client_is(ms, TcpState::Established, TcpState::Close, 104);
    world.verdict(ms + 3000)
}

fn judged(event: &Event) -> (Code, Confidence) {
    (said(event).code, said(event).confidence)
}

#[track_caller]
fn has_evidence(event: &Event, text: &str) {
    let evidence = &said(event).evidence;
    assert!(evidence.iter().any(|line| line == text), "{evidence:#?}");
}

const PEER: (Code, Confidence) = (Code::PeerReset, Confidence::Inferred);
const UNKNOWN: (Code, Confidence) = (Code::ResetOriginUnknown, Confidence::Inferred);

#[test]
fn a_reset_of_the_peers_socket_goes_on_from_its_packets() {
    let event = reset(talk(), 500, 61, RST | ACK, SEQ);
    assert_eq!(judged(&event), PEER);
    has_evidence(&event, "its IP id goes on from 3 other packets of the peer");
    has_evidence(
        &event,
        "its sequence number is the next one that is expected",
    );
}

#[test]
fn an_ip_id_of_0_is_linuxs_own() {
    let mut world = talk();
    world.header.ip_id = 0;
    let event = reset(world, 500, 61, RST | ACK, SEQ);
    assert_eq!(judged(&event), PEER);
    has_evidence(&event, "its IP id is 0 as in 1 other packet of the peer");
}

#[test]
fn an_ip_id_out_of_line_leaves_the_sender_unknown() {
    let mut world = talk();
    world.header.ip_id = 42_000;
    let event = reset(world, 500, 61, RST | ACK, SEQ);
    assert_eq!(judged(&event), UNKNOWN);
    assert_eq!(
        said(&event).explanation,
        "the TTL of the RST is that of 10.0.0.5, its IP id is not: it or a device that copies the TTL sent it"
    );
    has_evidence(
        &event,
        "its IP id is 42000, and 3 other packets of the peer count on to 702",
    );
}

#[test]
fn an_ip_id_where_the_peer_has_none_leaves_the_sender_unknown() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    world.talks(200, 61, 50, 100);
    world.gets(300, 61, ACK, SEQ, ACKED, 7);
    world.header.ip_id = 42_000;
    let event = reset(world, 500, 61, RST | ACK, SEQ + 7);
    assert_eq!(judged(&event), UNKNOWN);
}

#[test]
fn two_signs_convict_a_device() {
    let mut world = talk();
    world.header.ip_id = 42_000;
    world.header.dscp = 8;
    let event = reset(world, 500, 61, RST | ACK, SEQ);
    assert_eq!(judged(&event), (Code::PathReset, Confidence::Inferred));
    assert_eq!(
        said(&event).explanation,
        "the TTL of the RST is that of 10.0.0.5, its IP id and its DSCP are not: a device that copies the TTL sent it"
    );
}

#[test]
fn an_ip_id_without_df_is_one_sign() {
    let mut world = talk();
    world.header.ip_id = 42_000;
    world.header.dont_fragment = false;
    let event = reset(world, 500, 61, RST | ACK, SEQ);
    assert_eq!(judged(&event), UNKNOWN);
    has_evidence(
        &event,
        "it may be fragmented, and 4 other packets of the peer may not (DF)",
    );
}

#[test]
fn a_dscp_may_be_that_of_what_is_answered() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.header.dscp = 8;
    world.sends(100, ACK, CLIENT_ISN + 1, SEQ, 50);
    world.header.dscp = 0;
    world.gets(120, 61, ACK, SEQ, CLIENT_ISN + 51, 0);
    world.header.dscp = 8;
    assert_eq!(judged(&reset(world, 500, 61, RST | ACK, SEQ)), PEER);
}

#[test]
fn one_packet_is_too_few_to_compare_with() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.header.ip_id = 42_000;
    world.header.dscp = 8;
    world.header.window = 65_535;
    world.header.has_timestamps = true;
    assert_eq!(judged(&reset(world, 500, 61, RST | ACK, SEQ)), PEER);
}

#[test]
fn a_sequence_number_outside_the_window_is_not_the_peers() {
    // The client's window is 64,000 bytes.
    let event = reset(talk(), 500, 61, RST | ACK, SEQ + 64_000 + 4096);
    assert_eq!(judged(&event), UNKNOWN);
    has_evidence(
        &event,
        "its sequence number is outside the window by 4,096: the peer would not send it",
    );
    let event = reset(talk(), 500, 61, RST | ACK, SEQ + 64_000);
    assert_eq!(judged(&event), PEER);
    has_evidence(&event, "its sequence number is inside the window");
    let event = reset(talk(), 500, 61, RST | ACK, SEQ - 4096);
    assert_eq!(judged(&event), UNKNOWN);
    has_evidence(
        &event,
        "its sequence number is 4,096 behind the one that is expected: the peer would not send it",
    );
}

#[test]
fn a_reset_may_answer_what_left_before_more_came_in() {
    let mut world = talk();
    world.gets(450, 61, ACK, SEQ, ACKED, 1000);
    world.gets(460, 61, FIN | ACK, SEQ + 1000, ACKED, 0);
    let event = reset(world, 500, 61, RST, SEQ);
    assert_eq!(judged(&event), PEER);
    has_evidence(
        &event,
        "its sequence number is one that this connection had acknowledged",
    );
}

#[test]
fn a_reset_that_disowns_a_connection_in_use_is_doubtful() {
    let event = reset(talk(), 500, 61, RST, SEQ);
    assert_eq!(judged(&event), UNKNOWN);
    has_evidence(
        &event,
        "it has no ACK, as from a host without such a connection, and the peer took part in it 180 ms before",
    );
    // The peer may have been started again meanwhile.
    assert_eq!(judged(&reset(talk(), 60_000, 61, RST, SEQ)), PEER);
}

#[test]
fn window_and_timestamps_tell_senders_apart() {
    let mut world = talk();
    world.header.window = 100;
    world.gets(450, 61, ACK, SEQ, ACKED, 0);
    world.header.window = 0;
    world.header.ip_id = 0;
    assert_eq!(judged(&reset(world, 500, 61, RST | ACK, SEQ)), PEER);

    let low = || {
        let mut world = World::new();
        world.header.window = 500;
        world.is_connected(0, 61);
        world.talks(100, 61, 0, 50);
        world.talks(200, 61, 50, 100);
        world
    };
    let mut world = low();
    world.gets(450, 61, ACK, SEQ, ACKED, 7);
    world.header.window = 8192;
    let event = reset(world, 500, 61, RST | ACK, SEQ + 7);
    assert_eq!(judged(&event), UNKNOWN);
    has_evidence(
        &event,
        "its window is 8192, and at most 500 in the peer's other packets",
    );
    let mut world = low();
    world.gets(450, 61, ACK, SEQ, ACKED, 7);
    world.header.has_timestamps = true;
    let event = reset(world, 500, 61, RST | ACK, SEQ + 7);
    assert_eq!(judged(&event), UNKNOWN);
    has_evidence(&event, "it has TCP timestamps, and the connection has none");
}

#[test]
fn another_distance_needs_no_other_sign() {
    let event = reset(talk(), 500, 63, RST | ACK, SEQ);
    assert_eq!(judged(&event), (Code::PathReset, Confidence::Observed));
    let mut world = talk();
    world.header.ip_id = 42_000;
    let event = reset(world, 500, 63, RST | ACK, SEQ);
    assert_eq!(judged(&event), (Code::PathReset, Confidence::Observed));
    has_evidence(
        &event,
        "its IP id is 42000, and 3 other packets of the peer count on to 702",
    );
}

#[test]
fn a_refusal_acknowledges_the_syn() {
    let refused = |ack: u32| {
        let mut world = World::new();
        world.pong(0, 61);
        world.connects(100);
        world.gets(120, 61, RST | ACK, 0, ack, 0);
        world.client_is(120, TcpState::SynSent, TcpState::Close, 111);
        world.verdict(3000)
    };
    let event = refused(CLIENT_ISN + 1);
    assert_eq!(judged(&event), (Code::PeerRefused, Confidence::Inferred));
    has_evidence(&event, "its acknowledgement number is that of the SYN");
    for ack in [0, CLIENT_ISN, CLIENT_ISN + 2] {
        let event = refused(ack);
        assert_eq!(judged(&event), UNKNOWN, "{ack}");
        has_evidence(&event, "it does not acknowledge the SYN");
    }
}

#[test]
fn a_refusal_is_compared_with_other_connections_of_the_peer() {
    let mut world = World::new();
    world.is_connected(0, 61);
    world.talks(100, 61, 0, 50);
    world.parts(200, 61, 50);
    world.client.set_port(40_001);
    world.connects(1000);
    world.header.dont_fragment = false;
    world.header.ip_id = 42_000;
    world.refusal(1020, 61);
    world.client_is(1020, TcpState::SynSent, TcpState::Close, 111);
    let verdicts = world.conversations.conclude(at(5000), &[]);
    let codes: Vec<Code> = verdicts.iter().map(code).collect();
    assert!(codes.contains(&Code::ResetOriginUnknown), "{codes:?}");
    assert!(!codes.contains(&Code::PeerRefused), "{codes:?}");
}

#[test]
fn the_window_is_shifted_as_the_syn_says() {
    // Whoever comes late has not seen by how much: the most is assumed.
    let mut world = World::new();
    world.sends(0, ACK, CLIENT_ISN + 1, SEQ, 50);
    world.gets(20, 61, ACK, SEQ, CLIENT_ISN + 51, 0);
    world.gets(120, 61, ACK, SEQ, CLIENT_ISN + 51, 7);
    let event = reset(world, 500, 61, RST | ACK, SEQ + 64_000 + 4096);
    assert_eq!(judged(&event), PEER);
}

#[test]
fn a_syn_ack_is_no_segment_of_the_counter() {
    let mut world = World::new();
    world.is_connected(0, 61);
    // The SYN-ACK comes once more: still nothing to count on from.
    world.gets(1200, 61, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1, 0);
    world.header.ip_id = 42_000;
    assert_eq!(judged(&reset(world, 1500, 61, RST | ACK, SEQ)), PEER);
}
