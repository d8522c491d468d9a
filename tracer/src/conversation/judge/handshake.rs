//! How a connection was opened, and when the first answer came.

use std::time::Duration;

use crate::conversation::{
    ends::End,
    story::{Role, Story, between},
    words,
};

/// What there is to tell of a connection that works.
pub(super) fn told(story: &Story) -> impl Iterator<Item = String> {
    let told = [
        answered(story),
        round_trip(story),
        first_byte(story),
        fast_open(story),
        multipath(story),
    ];
    told.into_iter().flatten()
}

/// From SYN to SYN-ACK, as they passed at home.
fn syn_ack(story: &Story) -> Option<Duration> {
    let asked = story.trail(End::Client)?.first_opening?;
    let answered = story.trail(End::Server)?.first_opening?;
    Some(between(asked, answered))
}

fn answered(story: &Story) -> Option<String> {
    let time = words::span(syn_ack(story)?);
    Some(format!("SYN answered after {time}"))
}

/// How long the handshake took the end that is this machine.
pub(super) fn took(story: &Story) -> Option<Duration> {
    match story.role() {
        Role::Client => syn_ack(story),
        Role::Server => {
            let asked = story.trail(End::Client)?.first_opening?;
            let socket = &story.sockets.server;
            let established = socket.established.filter(|_| socket.began.is_some())?;
            Some(between(asked, established))
        }
        Role::Router => None,
    }
}

/// The time to the other end and back, as the own socket measured it.
fn round_trip(story: &Story) -> Option<String> {
    let rtt_us = story.sockets.of(story.role().end()?).rtt_us;
    let time = Duration::from_micros(rtt_us.into());
    (rtt_us != 0).then(|| format!("round trip {}", words::span(time)))
}

/// From the last byte of the request, or from the handshake on where the server speaks
/// first. Not each packet is seen: it is told only where the numbers say that these were.
fn first_byte(story: &Story) -> Option<String> {
    let (client, server) = (story.trail(End::Client)?, story.trail(End::Server)?);
    let (seq, acked) = server.first_data?;
    let at = server.data?;
    if server.first_seq?.wrapping_add(1) != seq {
        return None;
    }
    if client.first_seq?.wrapping_add(1) == acked {
        let socket = story.sockets.of(story.role().end()?);
        let established = socket.established.filter(|_| socket.began.is_some())?;
        let time = words::span(between(established, at));
        return Some(format!(
            "first byte of the server {time} after the handshake"
        ));
    }
    let (_, request) = client.asked.iter().find(|(end, _)| *end == acked)?;
    let time = words::span(between(*request, at));
    Some(format!("first byte of the answer after {time}"))
}

/// TCP Fast Open: data with the SYN.
fn fast_open(story: &Story) -> Option<String> {
    let (client, server) = (story.trail(End::Client)?, story.trail(End::Server)?);
    let bytes = words::several(client.opening.early.into(), "byte", "bytes");
    match (
        client.opening.early,
        client.opening.fast_open,
        server.opening.fast_open,
    ) {
        (0, false, _) => None,
        (0, true, true) => Some("TCP Fast Open: the server gave a cookie".to_owned()),
        (0, true, false) => Some("TCP Fast Open was asked for, and not granted".to_owned()),
        (early, ..) => {
            // What the SYN-ACK acknowledges, the server took.
            let first = client.first_seq?.wrapping_add(1);
            let taken = server.opening.ack.map(|ack| ack.wrapping_sub(first));
            Some(match taken {
                Some(taken) if taken >= early => format!("TCP Fast Open: the SYN carried {bytes}"),
                Some(0) => format!(
                    "TCP Fast Open: the SYN carried {bytes}, and the server did not take them"
                ),
                _ => format!(
                    "TCP Fast Open: the SYN carried {bytes}, how many were taken is not known"
                ),
            })
        }
    }
}

/// Whether the ends use multipath TCP.
fn multipath(story: &Story) -> Option<String> {
    let opened = |end| {
        story
            .trail(end)
            .is_some_and(|trail| trail.opening.multipath)
    };
    match (opened(End::Client), opened(End::Server)) {
        (true, true) => Some("both ends use multipath TCP".to_owned()),
        (true, false) if story.openings(End::Server) > 0 => {
            Some("multipath TCP was asked for, and the other end does not use it".to_owned())
        }
        _ => None,
    }
}
