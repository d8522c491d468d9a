//! The record: the one shape that every output is a view of.
//!
//! `docs/events.md` is the reference for readers of the records; the JSON
//! Schema beside it is generated from these types. Field names and meanings
//! are a contract: fields are added, never changed.

mod conntrack;
mod rule;
mod verdict;

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    conntrack::{
        Conntrack, ConntrackDirection, ConntrackTuple, Invalid, InvalidCause, Nat, Translation,
    },
    rule::{AsOf, Compared, Engine, OtherRule, Rule, Via},
    verdict::{Code, Confidence, Outcome, Step, Verdict},
};

/// A time as records have it: RFC 3339, UTC, with nanoseconds.
#[must_use]
pub fn utc(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// Value of [`Event::schema`].
pub const SCHEMA: &str = "droptrace.event/1";

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// `droptrace.event/1`.
    pub schema: String,
    /// What happened.
    pub kind: EventKind,
    /// When it was last seen: UTC, RFC 3339 with nanoseconds.
    pub time: String,
    /// When it was first seen since this flow and cause were last reported.
    pub first_seen: String,
    /// The packet's own direction on the wire; `null` where it has no flow
    /// (not IP, not decodable, or one of more flows than can be listed).
    pub flow: Option<Flow>,
    /// Packets that the record stands for, since its flow and cause were last
    /// reported.
    pub packets: u64,
    /// Their lengths in bytes.
    pub bytes: u64,
    /// Why; `null` for records without a cause in the kernel (`loss`).
    pub reason: Option<Reason>,
    /// The rule that decided; `null` where none was involved or none is known.
    pub rule: Option<Rule>,
    /// Where in the kernel; `null` for `loss`.
    pub r#where: Option<Where>,
    /// The process that owns the packet's socket; `null` where there is none
    /// or none is known.
    pub process: Option<Process>,
    /// The packet's connection tracking entry; `null` without one.
    pub conntrack: Option<Conntrack>,
    /// TCP header and socket state; `null` for other protocols.
    pub tcp: Option<Tcp>,
    /// What to do next.
    pub advice: Option<String>,
    /// The packet itself, seen closely; absent where no packet of the record was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<Packet>,
    /// Why the record has no flow; absent where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecoded: Option<Undecoded>,
    /// For a record whose flows could not all be listed: how many there were
    /// at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows_unlisted: Option<u64>,
    /// For `loss`: what the tracer could not record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// For `verdict`: what became of the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// From `droptrace daemon`: grows with every record, and is given once in all the
    /// time that the daemon keeps its state. Not every number is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// From `droptrace daemon`: which start of the machine the record is of, as in
    /// `/proc/sys/kernel/random/boot_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

impl Event {
    /// A record of which no more is known than what happened, and when.
    #[must_use]
    pub fn bare(kind: EventKind, time: String) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            kind,
            first_seen: time.clone(),
            time,
            flow: None,
            packets: 0,
            bytes: 0,
            reason: None,
            rule: None,
            r#where: None,
            process: None,
            conntrack: None,
            tcp: None,
            advice: None,
            packet: None,
            undecoded: None,
            flows_unlisted: None,
            loss: None,
            verdict: None,
            seq: None,
            boot_id: None,
        }
    }
}

/// What happened.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The kernel freed a packet that it did not deliver.
    Drop,
    /// This machine sent a TCP reset.
    ResetSent,
    /// This machine received a TCP reset for a connection of its own.
    ResetReceived,
    /// This machine sent a TCP segment again.
    Retransmit,
    /// This machine sent an ICMP error about a packet.
    IcmpSent,
    /// This machine received an ICMP error about a packet.
    IcmpReceived,
    /// What became of a conversation.
    Verdict,
    /// What the tracer itself could not record.
    Loss,
}

/// Addresses and ports of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// `ipv4` or `ipv6`.
    pub family: Family,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, or the protocol's number.
    pub proto: String,
    /// Sender.
    pub src: IpAddr,
    /// Sender's port; `null` for a protocol without ports and for a later fragment.
    pub sport: Option<u16>,
    /// Receiver.
    pub dst: IpAddr,
    /// Receiver's port; `null` as `sport`.
    pub dport: Option<u16>,
    /// The way the packet was going; `null` in `about` and where it is not known.
    pub direction: Option<Direction>,
    /// VLAN identifier of a tagged packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// True for a fragment of a packet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fragment: bool,
    /// ICMP type and code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// For an ICMP error: the flow that it is about, as that packet had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Box<Flow>>,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// The way a packet was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Received, for this machine or not routed yet.
    In,
    /// Made on this machine.
    Out,
    /// Received and being routed to another machine.
    Forward,
    /// From this machine to itself.
    Local,
}

/// ICMP or `ICMPv6` type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Icmp {
    /// Type.
    pub r#type: u8,
    /// Code.
    pub code: u8,
}

/// Why the kernel did it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Name from the running kernel, without its prefix; `null` where the
    /// kernel gives none.
    pub name: Option<String>,
    /// Number in the running kernel; `null` where the kernel gives none.
    pub code: Option<u32>,
    /// `core`, `tcp_reset`, or the module that the reason belongs to.
    pub subsystem: String,
    /// What kind of cause it is.
    pub class: Class,
    /// One sentence in plain words.
    pub summary: String,
    /// True where the kernel gives no reason, or none that says anything: class
    /// and summary then derive from the function that freed the packet, or from those
    /// that led to the reset.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub derived: bool,
}

/// What kind of cause it is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A rule or program decided.
    Policy,
    /// Nobody listens on that port or protocol.
    NoListener,
    /// A queue, buffer, table or memory limit.
    Resource,
    /// No route, or a route that says no.
    Routing,
    /// The next hop's link address is not known.
    Neighbour,
    /// The packet is broken.
    Malformed,
    /// TCP state, sequence or window.
    Protocol,
    /// The interface or its driver.
    Link,
    /// The other end or the path.
    Peer,
    /// Normal clean-up that is no loss.
    Benign,
    /// The kernel does not say.
    Unknown,
}

impl Class {
    /// Whether a packet dropped for it was wanted, as far as the class alone tells.
    #[must_use]
    pub const fn is_trouble(self) -> bool {
        match self {
            Self::Policy
            | Self::NoListener
            | Self::Resource
            | Self::Routing
            | Self::Neighbour
            | Self::Malformed
            | Self::Link => true,
            Self::Protocol | Self::Peer | Self::Benign | Self::Unknown => false,
        }
    }
}

/// Where in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Where {
    /// Function that freed the packet; `null` for other kinds than drops and
    /// where the kernel hides its symbols.
    pub function: Option<String>,
    /// Offset inside it, bytes.
    pub offset: Option<u64>,
    /// Netfilter hook; `null` where none is known.
    pub hook: Option<String>,
    /// Inode number of the network namespace.
    pub netns: Option<u32>,
    /// Name of that namespace (`ip netns`), if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns_name: Option<String>,
    /// The container that all processes in that namespace belong to, or the
    /// control group of their pod; absent for the tracer's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Interface name.
    pub ifname: Option<String>,
    /// Interface index in that namespace.
    pub ifindex: Option<u32>,
    /// Callers of `function`, innermost first.
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    pub stack: Arc<[String]>,
}

/// The process that owns a socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Process identifier in the tracer's PID namespace.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// User who owns the socket.
    pub uid: u32,
    /// Path of the control group.
    pub cgroup: Option<String>,
    /// Container; `null` where it is not known.
    pub container: Option<String>,
}

/// TCP header and socket state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// Flags as letters: `F`, `S`, `R`, `P`, `A`, `U`, `E`, `C`; `null` without a header.
    pub flags: Option<String>,
    /// Sequence number.
    pub seq: Option<u32>,
    /// Acknowledgement number.
    pub ack: Option<u32>,
    /// State of the socket, such as `SYN_SENT`; `null` without a socket.
    pub state: Option<String>,
}

/// What was seen of one packet of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Packet {
    /// Length in bytes.
    pub len: u32,
    /// Mark.
    pub mark: u32,
    /// IPv4 time to live or IPv6 hop limit.
    pub ttl: Option<u8>,
    /// The first headers, from the IP header up to and with the transport
    /// header, in hexadecimal; no payload. `null` where they are not in one
    /// piece or longer than 128 bytes.
    pub headers: Option<String>,
}

/// Why a packet has no flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Undecoded {
    /// Why.
    pub why: UndecodedCause,
    /// Ethernet protocol as `0x0806`; `null` where it is not set.
    pub ethertype: Option<String>,
    /// Address family of the owning socket, such as `unix`; `null` without one.
    pub socket: Option<String>,
}

/// Why a packet has no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UndecodedCause {
    /// Another protocol than IP; `ethertype` tells which.
    NotIp,
    /// The headers lie in memory pages that a kernel program cannot reach.
    Paged,
    /// The packet's header offsets are unset or point outside it.
    NoHeaders,
    /// The bytes where the IP header should be are none.
    BadHeaders,
    /// A message of a socket family without packets (unix, netlink, …).
    Message,
}

/// What the tracer itself could not record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// What was lost.
    pub what: LossOf,
    /// Why.
    pub why: LossCause,
    /// How many since the last record of this kind.
    pub count: u64,
}

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossOf {
    /// Dropped packets that no other record counts. Whether they match the
    /// filter is not known.
    Packets,
    /// Resets and retransmits that no other record counts.
    Events,
    /// Details of packets that are counted.
    Details,
    /// Packets and socket states of watched conversations: a verdict may lack evidence.
    Sightings,
    /// Records, on their way to a receiver; `packets` of the loss record says how many
    /// packets they stood for.
    Records,
    /// Milliseconds in which nothing was traced; what was dropped meanwhile is not known.
    Time,
}

/// Why the tracer could not record something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossCause {
    /// More causes at a time than the kernel side has room for.
    MapFull,
    /// The kernel program was already running on that CPU.
    Recursion,
    /// The ring buffer was full.
    RingFull,
    /// More new flows and causes a second than are looked at closely.
    RateLimit,
    /// The spool on disk had no room: the receiver was away or too slow for too long.
    SpoolFull,
    /// The spool on disk could not be read back, or was cut off before it was safe.
    SpoolDamaged,
    /// The reader of the socket was too slow, or was away for too long.
    ReaderSlow,
    /// The file of records could not be written, as on a full disk.
    FileFailed,
    /// The receiver refused the records for good.
    Refused,
    /// The daemon was not running.
    NotRunning,
    /// The daemon does more or less from now on, to stay within its limits; `advice` says
    /// what, and the count is 0.
    Limits,
}
