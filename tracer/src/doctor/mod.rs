//! What this kernel and this user can have: [`facts`] asks once, [`rows`] draws
//! the conclusions.

mod facts;
mod rows;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use facts::Facts;

/// Value of [`Report::schema`].
pub const SCHEMA: &str = "droptrace.doctor/1";

/// How [`Row::means`] begins where a rule is seen at nftables' functions, which are
/// watched only while that is needed.
pub const WATCHED: &str = "kprobes at nftables' functions";

/// Everything that `droptrace doctor` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// `droptrace.doctor/1`.
    pub schema: String,
    /// The running kernel, as `uname -r` names it.
    pub kernel: String,
    /// Whether tracing works here at all.
    pub can_trace: bool,
    /// What stands in the way of tracing, with what would change that; empty
    /// where nothing does.
    pub obstacles: Vec<String>,
    /// Each ability once.
    pub abilities: Vec<Row>,
}

/// One ability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its identifier, which stays.
    pub ability: Ability,
    /// What a user calls it.
    pub label: String,
    /// Whether it is there.
    pub status: Status,
    /// By which means it is there, or would be.
    pub means: Option<String>,
    /// Where the status is not `yes`: why, and what would change that.
    pub remedy: Option<String>,
}

/// Whether an ability is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is.
    Yes,
    /// It is, with less than elsewhere.
    Partly,
    /// It comes by itself while droptrace runs.
    Later,
    /// It is not.
    No,
}

/// What droptrace can do on some kernels and not on others.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Ability {
    /// A packet that was freed undelivered is a record.
    Drops,
    /// The record has the kernel's own reason.
    DropReasons,
    /// So is a segment that TCP itself drops, in a function of its own.
    TcpOwnDrops,
    /// A reset that a connection sends is a record.
    ResetsSent,
    /// So is a reset for a segment that no connection takes.
    ResetsSentWithoutSocket,
    /// The record of a sent reset has the kernel's reason.
    ResetReasons,
    /// A reset that a connection received is a record.
    ResetsReceived,
    /// A segment sent again is a record.
    Retransmits,
    /// So is a SYN-ACK sent again.
    RetransmitsOfSynack,
    /// The process whose socket owns the packet is named.
    Process,
    /// So is the process that was to receive it.
    ProcessOfReceiver,
    /// What connection tracking says of the packet.
    ConntrackState,
    /// Mark and zone of its connection.
    ConntrackMarkAndZone,
    /// The kernel function that freed the packet is named.
    FunctionNames,
    /// So are those that called it.
    CallChain,
    /// A packet whose headers lie in memory pages has a flow.
    PagedHeaders,
    /// What the tracer itself missed is counted exactly.
    ExactLossCount,
    /// `--cgroup` selects packets.
    FilterByCgroup,
    /// What became of the conversations that a filter selects (`verdict`).
    Conversations,
    /// The nftables rule that dropped the packet is named.
    NetfilterRule,
    /// The netfilter hook is named, and the hook function that dropped the packet.
    NetfilterHook,
    /// So is that of iptables' legacy backend.
    XtablesRule,
    /// And that of ebtables'.
    EbtablesRule,
}

/// Asks the kernel and judges.
#[must_use]
pub fn examine() -> Report {
    Report::from(&Facts::gather())
}

impl From<&Facts> for Report {
    fn from(facts: &Facts) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            kernel: facts.kernel.clone(),
            can_trace: facts.obstacles.is_empty(),
            obstacles: facts.obstacles.clone(),
            abilities: rows::rows(facts),
        }
    }
}
