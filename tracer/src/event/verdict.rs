//! What became of a conversation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
