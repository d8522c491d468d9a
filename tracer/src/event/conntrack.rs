//! What connection tracking knew of a packet.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Icmp;

/// A packet's connection tracking entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conntrack {
    /// `new`, `established`, `related`, `untracked` or `invalid`.
    pub state: String,
    /// Mark of the entry.
    pub mark: u32,
    /// Zone of the entry.
    pub zone: u16,
    /// The way of the connection that the packet was going; absent without an
    /// entry, as all that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<ConntrackDirection>,
    /// Addresses and ports of the connection's first packet, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<ConntrackTuple>,
    /// Those that an answer to it is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ConntrackTuple>,
    /// What is translated in packets of the original direction; absent where
    /// nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<Nat>,
    /// What else holds for the entry, such as `confirmed`, `seen_reply`, `assured`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
    /// State of a TCP connection as connection tracking sees it, such as
    /// `ESTABLISHED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_state: Option<String>,
    /// The helper that reads along, such as `ftp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<String>,
    /// For `invalid`: why; absent where nothing tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<Invalid>,
}

/// A way of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConntrackDirection {
    /// That of its first packet.
    Original,
    /// That of the answers.
    Reply,
}

/// What connection tracking tells connections apart by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConntrackTuple {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, or the protocol's number.
    pub proto: String,
    /// Sender.
    pub src: IpAddr,
    /// Sender's port; `null` for a protocol without ports.
    pub sport: Option<u16>,
    /// Receiver.
    pub dst: IpAddr,
    /// Receiver's port; `null` as `sport`.
    pub dport: Option<u16>,
    /// ICMP type and code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// ICMP identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_id: Option<u16>,
}

/// Address translation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nat {
    /// Of the sender (SNAT, masquerade); `null` where it is not translated.
    pub src: Option<Translation>,
    /// Of the receiver (DNAT, redirect); `null` where it is not translated.
    pub dst: Option<Translation>,
}

/// One end of a connection, and what it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Translation {
    /// The address before.
    pub from: IpAddr,
    /// The port before; `null` for a protocol without ports, as `to_port`.
    pub from_port: Option<u16>,
    /// The address afterwards.
    pub to: IpAddr,
    /// The port afterwards.
    pub to_port: Option<u16>,
}

/// Why connection tracking called a packet invalid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Invalid {
    /// What kind of cause it is.
    pub why: InvalidCause,
    /// One sentence in plain words.
    pub text: String,
    /// False where it is inferred, from the packet and what connection tracking
    /// said afterwards, rather than observed.
    pub exact: bool,
}

/// Why connection tracking called a packet invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvalidCause {
    /// The transport header is cut short, or contradicts the packet's length.
    Truncated,
    /// The checksum is wrong.
    BadChecksum,
    /// TCP flags that contradict each other.
    BadFlags,
    /// No connection is known, and this segment cannot start one.
    NoConnection,
    /// The connection is known, and this segment cannot come in its state.
    BadState,
    /// Sequence or acknowledgement number outside the connection's window.
    OutOfWindow,
    /// An ICMP error about a connection that is not known.
    UnknownFlow,
    /// An ICMP message that connection tracking does not know, or an answer to
    /// nothing.
    BadIcmp,
    /// Connection tracking had not looked at it when the rule did.
    NotTracked,
}
