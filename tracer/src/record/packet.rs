//! From a detail to what a record says of one packet.

use droptrace_types::{Decode, Detail, Kind};

use super::headers;
use crate::event::{Packet, Tcp};

/// `IPPROTO_TCP`
const TCP: u8 = 6;

/// Names of the TCP states, by number.
/// <https://github.com/torvalds/linux/blob/v6.12/include/net/tcp_states.h>
const STATES: [&str; 14] = [
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    "BOUND_INACTIVE",
];

/// Letters of the TCP flags, lowest bit first.
const FLAGS: [char; 8] = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C'];

/// TCP header and socket state; `None` for other protocols.
pub fn tcp(detail: &Detail) -> Option<Tcp> {
    if detail.key.flow.proto != TCP {
        return None;
    }
    let is_drop = detail.key.cause.kind == Kind::Drop as u8;
    let has_header = !is_drop || detail.key.cause.decode == Decode::Headers as u8;
    // A reset for which no socket exists has numbers that nobody knows yet.
    let is_numbered = has_header && (is_drop || detail.tcp_state != 0);
    Some(Tcp {
        flags: has_header.then(|| flags(detail.tcp_flags)),
        seq: is_numbered.then_some(detail.tcp_seq),
        ack: is_numbered.then_some(detail.tcp_ack),
        state: tcp_state(detail).map(ToOwned::to_owned),
    })
}

/// The state of the TCP socket concerned; `None` without one.
pub fn tcp_state(detail: &Detail) -> Option<&'static str> {
    let state = STATES.get(usize::from(detail.tcp_state)).copied();
    state.filter(|name| !name.is_empty())
}

/// TCP flags as letters.
pub fn flags(byte: u8) -> String {
    (0..8)
        .filter(|bit| byte >> bit & 1 == 1)
        .map(|bit| FLAGS[bit])
        .collect()
}

/// What was seen of the packet itself; `None` for events without one.
pub fn seen(detail: &Detail) -> Option<Packet> {
    (detail.key.cause.kind == Kind::Drop as u8).then(|| Packet {
        len: detail.len,
        mark: detail.mark,
        ttl: (detail.ttl != 0).then_some(detail.ttl),
        headers: headers::hex(detail),
    })
}

/// The text before the terminating zero; `None` if there is none.
pub fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    (end > 0).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned())
}
