//! The record: the one shape that every output is a view of.
//!
//! `docs/events.md` is the reference for readers of the records; the JSON
//! Schema beside it is generated from these types. Field names and meanings
//! are a contract: fields are added, never changed.

use std::net::IpAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// and summary then derive from the function that freed the packet.
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

/// The rule that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Whose rule it is.
    pub engine: Engine,
    /// Family of the table, as nft names it; `null` for one that has no name.
    pub family: Option<String>,
    /// Table; `null` where the rule set could not be read or has no such table
    /// any more.
    pub table: Option<String>,
    /// Chain; `null` as `table`.
    pub chain: Option<String>,
    /// The chains on the way to it, from the base chain on: `["input", "deep"]`.
    /// Absent for a rule of a base chain, and where several ways lead there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// The kernel's number of the table in its network namespace; `nft` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_handle: Option<u64>,
    /// The kernel's number of the chain in its table; `nft` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_handle: Option<u64>,
    /// The kernel's number of the rule in its table; absent for a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// The rule's number in its chain, as `iptables -L --line-numbers` has it, or
    /// `ebtables -L --Ln`; absent for a policy and for nftables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// Position of the rule in its chain, from 1 on; absent for a policy and
    /// where the rule could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// The rule as `nft -a list ruleset` printed it, without its handle; for a
    /// policy the line that has it. `null` where it could not be read.
    pub text: Option<String>,
    /// The rule, or the policy, as iptables prints it: `-A INPUT … -j DROP`.
    /// Absent if iptables-nft did not make it, or where it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iptables: Option<String>,
    /// The rule's comment.
    pub comment: Option<String>,
    /// What it does with a packet, such as `drop` or `reject with tcp reset`;
    /// `null` where its text does not tell.
    pub verdict: Option<String>,
    /// Of when path, position, text, comment and verdict are; absent without a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// True where no rule matched and the base chain's policy decided.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub policy: bool,
    /// The netfilter hook function that dropped the packet, where no more is known
    /// of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The kernel module that has the function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Identifier of the BPF program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prog_id: Option<u32>,
    /// Name of the BPF program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How it was found.
    pub via: Via,
    /// False where it is inferred rather than observed.
    pub exact: bool,
    /// What other means say of the same drop, with `--compare-rules`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<Compared>,
}

/// What another means says of a drop whose rule is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// The other means.
    pub via: Via,
    /// Whether it names the same rule.
    pub agrees: bool,
    /// The rule that it names, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<OtherRule>,
}

/// A rule of nftables that another means names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtherRule {
    /// Family of the table, as nft names it.
    pub family: Option<String>,
    /// Table.
    pub table: Option<String>,
    /// Chain.
    pub chain: Option<String>,
    /// The kernel's number of the rule in its table; `null` for a policy.
    pub handle: Option<u64>,
}

/// Whose rule it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// nftables, also for rules that iptables-nft made.
    Nft,
    /// iptables, ip6tables or arptables with the kernel's own tables ("legacy").
    Iptables,
    /// ebtables, likewise.
    Ebtables,
    /// Connection tracking.
    Conntrack,
    /// Address translation.
    Nat,
    /// A queue to user space.
    Nfqueue,
    /// A BPF program.
    Bpf,
    /// Another hook function, mostly of a kernel module.
    Module,
}

/// Of when the text of a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AsOf {
    /// Of the drop, as the generations of the rule set prove.
    Drop,
    /// Of the reading, mostly moments after the drop. A rule that was replaced
    /// in between has kept its handle and not its text.
    Reading,
}

/// How a rule was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// It stood on the kernel's stack when the packet was dropped.
    Frame,
    /// nftables' own functions were seen to decide.
    Hook,
    /// Its counter had risen when the packet was dropped.
    Counter,
    /// The rule set's own trace told it (`--allow-system-changes`).
    Trace,
    /// The kernel was asked afterwards.
    Lookup,
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
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

/// What became of a conversation, or of all conversations with a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// How it ended for whoever wanted it.
    pub outcome: Outcome,
    /// Why, as a stable name; `docs/verdicts.md` has them all.
    pub code: Code,
    /// One sentence in plain words.
    pub explanation: String,
    /// What speaks for it, the strongest first.
    pub evidence: Vec<String>,
    /// Whether the evidence was seen itself, or speaks by what is missing.
    pub confidence: Confidence,
    /// How many conversations it is about; 0 where none was seen.
    pub conversations: u64,
    /// How many of them had this outcome for this reason.
    pub affected: u64,
    /// Of a single conversation: what happened, in order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Step>,
    /// Steps that the timeline leaves out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub steps_left_out: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Something that happened in a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When: UTC, RFC 3339 with nanoseconds.
    pub time: String,
    /// What, in a few words.
    pub what: String,
}

/// How a conversation ended for whoever wanted it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It worked.
    Connected,
    /// It worked, and packets were lost.
    Degraded,
    /// It was established and then reset.
    Reset,
    /// It was answered with "no".
    Refused,
    /// There was no answer.
    Timeout,
    /// There is no way there.
    Unreachable,
}

/// Whether evidence was seen itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// What decided was seen.
    Observed,
    /// It follows from what was seen and what was not.
    Inferred,
}

/// Why a conversation ended as it did.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// Established, and nothing went wrong.
    Connected,
    /// Of UDP: an answer came.
    Answered,
    /// A rule of this machine dropped or rejected its packets on the way out, or as they
    /// came in for a listener of this machine.
    LocalRuleDrop,
    /// This machine has no route, or one that says no.
    LocalNoRoute,
    /// The next hop does not answer for its link address (ARP, neighbour discovery).
    LocalNoNeighbour,
    /// The connection tracking table is full.
    ConntrackFull,
    /// This machine dropped its packets for another reason.
    LocalDrop,
    /// The answer came, and this machine dropped it.
    ReturnPathDrop,
    /// Nothing listens on that port of this machine.
    NoListener,
    /// The listener's queue on this machine is full.
    ListenOverflow,
    /// An application of this machine broke the connection off.
    LocalAbort,
    /// This machine gave the connection up: keepalive or user timeout, memory.
    LocalGiveUp,
    /// The other end refused: nothing listens there.
    PeerRefused,
    /// The other end reset the established connection.
    PeerReset,
    /// A device on the path refused or reset in the other end's name.
    PathReset,
    /// It was refused or reset, and what was seen does not tell by whom.
    ResetOriginUnknown,
    /// A device on the path says that there is no way (ICMP).
    PathUnreachable,
    /// A device on the path says that it is forbidden (ICMP).
    PathProhibited,
    /// Its packets ran out of time to live on the path (ICMP), as in a loop.
    TtlExceeded,
    /// Its packets left this machine, and nothing came back.
    NoAnswer,
    /// Large packets are lost on the path, small ones pass.
    MtuBlackhole,
    /// A device on the path forgets idle connections.
    IdleTimeout,
    /// Some packets were lost outside this machine.
    PathLoss,
    /// Some packets were lost on this machine.
    LocalLoss,
    /// It is under way, and nothing went wrong so far.
    InProgress,
    /// Nothing of it was seen.
    NoTraffic,
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
