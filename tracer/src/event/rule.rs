//! The rule that decided, and how it was found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

impl Rule {
    /// Whether it is the same rule, or policy, whatever was known of it when: its text has
    /// the counters of the moment at which it was read.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let numbers = |rule: &Self| (rule.table_handle, rule.chain_handle, rule.handle);
        let place = |rule: &Self| (rule.number, rule.policy, rule.prog_id);
        self.engine == other.engine
            && self.family == other.family
            && self.table == other.table
            && self.chain == other.chain
            && numbers(self) == numbers(other)
            && place(self) == place(other)
            && self.function == other.function
    }
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
