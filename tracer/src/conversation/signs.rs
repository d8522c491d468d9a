//! How a reset fits the other packets of whom it names, beside its time to live.
//!
//! What Linux sends is the measure; other systems differ from it, so that one sign alone
//! convicts nobody.
//!
//! * To a segment of a connection that it does not know, Linux answers with a RST
//!   without options, of window 0, IP id 0 with DF, the DSCP of that segment, and its
//!   acknowledgement number as sequence number
//!   ([`tcp_v4_send_reset`](https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_ipv4.c)).
//! * A socket that ends a connection sends its RST as all else: with ACK, window and
//!   DSCP, and the next IP id of its counter, with DF too
//!   ([`tcp_send_active_reset`](https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_output.c),
//!   [`ip_select_ident_segs`](https://github.com/torvalds/linux/blob/v6.12/include/net/ip.h)).
//! * `reject with tcp reset` sends the first of both, with DSCP 0
//!   ([`nf_send_reset`](https://github.com/torvalds/linux/blob/v6.12/net/ipv4/netfilter/nf_reject_ipv4.c)):
//!   only its time to live, and that the peer knows the connection, tells it apart.

use std::{collections::VecDeque, time::Duration};

use super::{
    input::{Packet, Segment},
    story::between,
    trail::{Reset, SYN, Trail, is_after},
    words::{several, span},
};

/// Packets whose looks are kept.
const MAX_LOOKS: usize = 8;
/// With fewer packets to compare with, nothing is concluded.
const ENOUGH: usize = 2;
/// By how much a counter may go on between two packets that are seen, but for what is
/// known to have passed in between.
const COUNTED: u64 = 2048;
/// The shortest packet that is counted.
const SHORTEST: u64 = 40;
/// A peer that was heard of within this time has not forgotten the connection; a device
/// may forget one after a pause.
const REMEMBERED: Duration = Duration::from_secs(1);
/// The most by which a window can be shifted (RFC 7323).
const MAX_SHIFT: u8 = 14;

/// What a sender's system writes into its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub seq: u32,
    pub ack: u32,
    pub is_opening: bool,
    pub ip_id: Option<u16>,
    pub dont_fragment: bool,
    pub dscp: u8,
    pub window: u16,
    pub has_timestamps: bool,
}

impl Look {
    pub(super) fn of(packet: &Packet, tcp: &Segment) -> Self {
        Self {
            seq: tcp.seq,
            ack: tcp.ack,
            is_opening: tcp.flags & SYN != 0,
            ip_id: packet.ip_id,
            dont_fragment: packet.dont_fragment,
            dscp: packet.dscp,
            window: tcp.window,
            has_timestamps: tcp.has_timestamps,
        }
    }
}

/// The looks of a sender's last segments.
#[derive(Debug, Default)]
pub(super) struct Looks(VecDeque<Look>);

impl Looks {
    /// Adds one, but the same only once.
    pub(super) fn add(&mut self, look: Look) {
        if self.0.contains(&look) {
            return;
        }
        if self.0.len() == MAX_LOOKS {
            self.0.pop_front();
        }
        self.0.push_back(look);
    }

    fn are_enough(&self) -> bool {
        self.0.len() >= ENOUGH
    }

    /// Those of segments that open nothing: Linux writes SYN-ACKs in a way of their own.
    fn later(&self) -> Vec<Look> {
        let later = self.0.iter().filter(|look| !look.is_opening);
        later.copied().collect()
    }
}

/// Something about a reset that is as in the other packets of whom it names, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sign {
    /// `its IP id`
    pub what: &'static str,
    pub fits: bool,
    pub told: String,
}

impl Sign {
    fn new(what: &'static str, fits: bool, told: String) -> Self {
        Self { what, fits, told }
    }
}

/// What is to be said about a reset. `peer` is what else came from there in the same
/// connection, `own` what the other end of it sent, `others` what else is known of the
/// peer.
pub(super) fn of(reset: &Reset, peer: &Trail, own: &Trail, others: Option<&Looks>) -> Vec<Sign> {
    let looks = Some(&peer.looks).filter(|looks| looks.are_enough());
    let looks = looks.or(others.filter(|looks| looks.are_enough()));
    let signs = [
        sequence(reset, peer, own),
        form(reset, peer),
        looks.and_then(|looks| fragments(reset, looks, peer)),
        looks.and_then(|looks| dscp(reset.look, looks, own)),
        window(reset.look, &peer.looks.later()),
        timestamps(reset.look, &peer.looks.later()),
    ];
    signs.into_iter().flatten().collect()
}

/// Whoever sees the connection knows its sequence numbers; whoever does not, guesses.
fn sequence(reset: &Reset, peer: &Trail, own: &Trail) -> Option<Sign> {
    let what = "its sequence number";
    if peer.is_silent() {
        return acknowledgement(reset, own);
    }
    let expected = match (peer.next_seq, own.acked) {
        (Some(next), Some(acked)) if is_after(acked, next) => acked,
        (next, acked) => next.or(acked)?,
    };
    let seq = reset.look.seq;
    if seq == expected && reset.unseen == 0 {
        return Some(Sign::new(
            what,
            true,
            format!("{what} is the next one that is expected"),
        ));
    }
    if !is_after(expected, seq) {
        let ahead = u64::from(seq.wrapping_sub(expected));
        let window = u64::from(own.window) << own.shift.unwrap_or(MAX_SHIFT).min(MAX_SHIFT);
        let outside = ahead.saturating_sub(reset.unseen.saturating_add(window));
        if outside == 0 {
            return Some(Sign::new(
                what,
                true,
                format!("{what} is inside the window"),
            ));
        }
        let told = format!(
            "{what} is outside the window by {}: the peer would not send it",
            grouped(outside)
        );
        return Some(Sign::new(what, false, told));
    }
    // A RST takes its number from the acknowledgement of what it answers, which may have
    // left before more came in.
    let least = own.least_acked()?;
    if !is_after(least, seq) {
        return Some(Sign::new(
            what,
            true,
            format!("{what} is one that this connection had acknowledged"),
        ));
    }
    let behind = u64::from(expected.wrapping_sub(seq));
    let told = format!(
        "{what} is {} behind the one that is expected: the peer would not send it",
        grouped(behind)
    );
    Some(Sign::new(what, false, told))
}

/// A SYN is refused by a RST that acknowledges it (RFC 9293).
fn acknowledgement(reset: &Reset, own: &Trail) -> Option<Sign> {
    let what = "its acknowledgement number";
    let (first, next) = own.first_seq.zip(own.next_seq).filter(|_| !own.went_on)?;
    let acked = reset.ack.wrapping_sub(first);
    let fits = reset.has_ack && acked > 0 && acked <= next.wrapping_sub(first);
    let told = if fits {
        format!("{what} is that of the SYN")
    } else {
        "it does not acknowledge the SYN".to_owned()
    };
    Some(Sign::new(what, fits, told))
}

/// Without ACK, a RST says that there is no such connection.
fn form(reset: &Reset, peer: &Trail) -> Option<Sign> {
    let heard = between(peer.last_in?, reset.at);
    let is_known = peer.looks.later().len() >= ENOUGH && peer.fin.is_none();
    if reset.has_ack || !is_known || heard > REMEMBERED {
        return None;
    }
    let told = format!(
        "it has no ACK, as from a host without such a connection, and the peer took part in it {} before",
        span(heard)
    );
    Some(Sign::new("its form", false, told))
}

/// IP id and DF, which depend on each other: one sign.
fn fragments(reset: &Reset, looks: &Looks, peer: &Trail) -> Option<Sign> {
    let id = reset.look.ip_id?;
    let packets = |count: usize| {
        several(
            count as u64,
            "other packet of the peer",
            "other packets of the peer",
        )
    };
    let all: Vec<Look> = looks.0.iter().copied().collect();
    let free = all.iter().filter(|look| !look.dont_fragment).count();
    if !reset.look.dont_fragment {
        let fits = free > 0;
        let told = if fits {
            format!("it may be fragmented, as {}", packets(free))
        } else {
            format!(
                "it may be fragmented, and {} may not (DF)",
                packets(all.len())
            )
        };
        return Some(Sign::new("its DF bit", fits, told));
    }
    let what = "its IP id";
    let zero = all.iter().filter(|look| look.ip_id == Some(0)).count();
    if id == 0 {
        // Linux does so whatever the connection's packets have.
        let told = format!("{what} is 0 as in {}", packets(zero));
        return (zero > 0).then_some(Sign {
            what,
            fits: true,
            told,
        });
    }
    // Each connection has a counter of its own.
    let own = peer.looks.later();
    let (zeros, own): (Vec<u16>, Vec<u16>) = own
        .iter()
        .filter_map(|look| look.ip_id)
        .partition(|id| *id == 0);
    let Some(last) = own.last() else {
        let told = format!("{what} is {id}, and 0 in {}", packets(zeros.len()));
        return (zeros.len() >= ENOUGH).then_some(Sign {
            what,
            fits: false,
            told,
        });
    };
    let is_counter = own
        .windows(2)
        .all(|pair| matches!(pair, [one, next] if is_next(*next, *one, 0)));
    if own.len() < ENOUGH {
        return None;
    }
    match (is_counter, is_next(id, *last, reset.unseen)) {
        (false, _) => None,
        (true, true) => Some(Sign::new(
            what,
            true,
            format!("{what} goes on from {}", packets(own.len())),
        )),
        (true, false) => {
            let told = format!(
                "{what} is {id}, and {} count on to {last}",
                packets(own.len())
            );
            Some(Sign::new(what, false, told))
        }
    }
}

/// Whether a counter may have come from one to the other while so many bytes passed.
fn is_next(id: u16, before: u16, unseen: u64) -> bool {
    id != before && u64::from(id.wrapping_sub(before)) <= COUNTED + unseen / SHORTEST
}

/// A RST has the DSCP of the peer's socket, or of what it answers, which may be cleared
/// on the way.
fn dscp(reset: Look, looks: &Looks, own: &Trail) -> Option<Sign> {
    let what = "its DSCP";
    let of_peer = looks.0.iter().filter(|look| look.dscp == reset.dscp);
    let count = of_peer.count();
    let is_reflected = own.looks.0.iter().any(|look| look.dscp == reset.dscp);
    if count > 0 {
        return (reset.dscp != 0).then(|| Sign {
            what,
            fits: true,
            told: format!("{what} is {} as in the peer's other packets", reset.dscp),
        });
    }
    if reset.dscp == 0 || is_reflected {
        return None;
    }
    let told = format!(
        "{what} is {}, which {} and those that it may answer do not have",
        reset.dscp,
        several(
            looks.0.len() as u64,
            "other packet of the peer",
            "other packets of the peer"
        )
    );
    Some(Sign::new(what, false, told))
}

/// A socket's RST has the connection's window, any other 0.
fn window(reset: Look, later: &[Look]) -> Option<Sign> {
    let what = "its window";
    let largest = later.iter().map(|look| look.window).max()?;
    if reset.window == 0 || later.len() < ENOUGH {
        return None;
    }
    if later.iter().any(|look| look.window == reset.window) {
        let told = format!("{what} is {} as in the peer's other packets", reset.window);
        return Some(Sign::new(what, true, told));
    }
    // A window may grow between two packets that are seen.
    if u32::from(reset.window) <= 2 * u32::from(largest) {
        return None;
    }
    let told = format!(
        "{what} is {}, and at most {largest} in the peer's other packets",
        reset.window
    );
    Some(Sign::new(what, false, told))
}

fn timestamps(reset: Look, later: &[Look]) -> Option<Sign> {
    let is_alone = reset.has_timestamps && !later.iter().any(|look| look.has_timestamps);
    if !is_alone || later.len() < ENOUGH {
        return None;
    }
    let told = "it has TCP timestamps, and the connection has none".to_owned();
    Some(Sign::new("its TCP timestamps", false, told))
}

/// `4,096`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
