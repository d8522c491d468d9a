//! The rules of a table of ebtables, as they lie in the kernel's memory, one behind
//! the other: which chain and number each has, and which of them drop frames.
//!
//! Their form is part of the
//! [kernel's interface](https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter_bridge/ebtables.h)
//! to `ebtables`. What is checked here is what the kernel itself
//! [checks](https://github.com/torvalds/linux/blob/v6.12/net/bridge/netfilter/ebtables.c)
//! when it takes a table.

use super::walk::{Chain, Policy, Rule, Walked, long, text, word};

/// Hooks of a bridge (`NF_BR_NUMHOOKS`).
pub const HOOKS: usize = 6;

// `NF_BR_*`
const LOCAL_OUT: u8 = 3;
const POST_ROUTING: u8 = 4;

/// The hooks, a bit each, at which `nf_hook_slow` frees what a table drops: not
/// prerouting, where the bridge does so itself, nor brouting, where to drop a frame
/// means to route it.
/// <https://github.com/torvalds/linux/blob/v6.12/net/bridge/br_input.c>
const DROPPING: u8 = 0b11110;

// In a `struct ebt_entries`, the head of a chain, whose first word is 0:
const CHAIN_NAME: usize = 4;
const CHAIN_COUNTERS: usize = 36;
const CHAIN_POLICY: usize = 40;
const CHAIN_LEN: usize = 44;
const CHAIN_HEAD: usize = 48;

// In a `struct ebt_entry`:
const TARGET_OFFSET: usize = 104;
const NEXT_OFFSET: usize = 108;
const ENTRY_HEAD: usize = 112;

// In a `struct ebt_entry_target`:
const TARGET_DATA: usize = 40;

/// `EBT_STANDARD_TARGET`
const STANDARD: &str = "standard";
/// `EBT_DROP`, of rules and of policies
const DROP: i32 = -2;
/// `struct ebt_counter`
pub const COUNTER: u32 = 16;

/// What a `struct ebt_table_info` says.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// How many rules there are.
    pub number: u32,
    /// By hook, where its chain begins.
    pub entry: [Option<usize>; HOOKS],
}

/// A chain and what it does.
struct Part {
    at: usize,
    /// The hook that it belongs to; `None` for a chain of the user's.
    hook: Option<usize>,
    /// How many rules it says that it has.
    len: u32,
    /// What becomes of a frame behind its last rule.
    policy: i32,
    /// What its rules do; `None` where that is not a verdict or a jump.
    verdicts: Vec<Option<i32>>,
    /// The hooks from which it can be reached, a bit each.
    hooks: u8,
    /// How many rules the chains before it have.
    before: usize,
}

/// Walks over a table's memory; `None` if it is not in order. `target_name` gives
/// the name of a `struct xt_target`.
#[must_use]
pub fn walk(
    head: &Head,
    table: &[u8],
    mut target_name: impl FnMut(u64) -> Option<String>,
) -> Option<Walked> {
    let mut chains = Vec::new();
    let mut parts: Vec<Part> = Vec::new();
    let mut total = 0;
    let mut at = 0;
    while at < table.len() {
        let rest = &table[at..];
        if word(rest, 0)? == 0 {
            if parts.last().is_some_and(|part| !part.is_complete()) {
                return None;
            }
            let part = Part::begin(head, rest, at, total)?;
            chains.push(Chain {
                name: text(rest.get(CHAIN_NAME..CHAIN_COUNTERS)?)?.to_owned(),
                len: part.len as usize,
            });
            parts.push(part);
            at += CHAIN_HEAD;
        } else {
            let target_at = word(rest, TARGET_OFFSET)? as usize;
            let len = word(rest, NEXT_OFFSET)? as usize;
            let target = rest.get(target_at..len)?;
            if target_at < ENTRY_HEAD || target.len() < TARGET_DATA {
                return None;
            }
            let verdict = match target_name(long(target, 0)?)?.as_str() {
                STANDARD => Some(word(target, TARGET_DATA)?.cast_signed()),
                _ => None,
            };
            parts.last_mut()?.verdicts.push(verdict);
            total += 1;
            at += len;
        }
    }
    let begun = parts.iter().filter(|part| part.hook.is_some()).count();
    let is_in_order = parts.last()?.is_complete()
        && begun == head.entry.iter().flatten().count()
        && total == head.number as usize;
    if !is_in_order {
        return None;
    }
    reach(&mut parts);
    Some(Walked {
        rules: dropping(&parts).collect(),
        policies: policies(&parts),
        chains,
        counters_at: Vec::new(),
    })
}

impl Part {
    fn begin(head: &Head, chain: &[u8], at: usize, total: usize) -> Option<Self> {
        let hook = head.entry.iter().position(|entry| *entry == Some(at));
        let part = Self {
            at,
            hook,
            len: word(chain, CHAIN_LEN)?,
            policy: word(chain, CHAIN_POLICY)?.cast_signed(),
            verdicts: Vec::new(),
            hooks: hook.map_or(0, |hook| 1 << hook),
            before: total,
        };
        (word(chain, CHAIN_COUNTERS)? as usize == total).then_some(part)
    }

    /// Whether it can be reached, and only from hooks at which drops are seen.
    const fn is_watched(&self) -> bool {
        self.hooks != 0 && self.hooks & !DROPPING == 0
    }

    fn drops_unseen(&self) -> bool {
        let mut verdicts = self.verdicts.iter();
        verdicts.any(|verdict| verdict.is_none_or(|verdict| verdict == DROP && !self.is_watched()))
    }

    fn is_complete(&self) -> bool {
        self.verdicts.len() == self.len as usize
    }
}

/// Finds out from which hooks each chain can be reached. Each chain is followed once
/// for each hook at most.
fn reach(parts: &mut [Part]) {
    let mut open: Vec<usize> = (0..parts.len()).collect();
    while let Some(from) = open.pop() {
        let hooks = parts[from].hooks;
        let jumps = parts[from].verdicts.iter().flatten();
        let places: Vec<usize> = jumps
            .filter_map(|verdict| usize::try_from(*verdict).ok())
            .collect();
        for place in places {
            if let Ok(to) = parts.binary_search_by_key(&place, |part| part.at)
                && parts[to].hooks | hooks != parts[to].hooks
            {
                parts[to].hooks |= hooks;
                open.push(to);
            }
        }
    }
}

/// The rules that drop, and whose every match is seen when the frame is freed. Their
/// counters stand in the order of the table.
fn dropping(parts: &[Part]) -> impl Iterator<Item = Rule> {
    parts.iter().enumerate().flat_map(|(chain, part)| {
        let hooks = part.hooks;
        let rules = part.verdicts.iter().enumerate();
        rules
            .filter(move |(_, verdict)| **verdict == Some(DROP) && part.is_watched())
            .map(move |(index, _)| Rule {
                chain,
                number: index + 1,
                rejects: false,
                hooks: of_packets(hooks),
                counters_at: (part.before + index) * COUNTER as usize,
                counters: 0,
            })
    })
}

/// The policies that drop, at hooks at which nothing else drops unseen: no other
/// chain's policy, no rule whose counter is not watched, no target with a verdict of
/// its own.
fn policies(parts: &[Part]) -> Vec<Policy> {
    let hooks = (0..8).filter(|hook| DROPPING >> hook & 1 != 0);
    let policy = |hook: u8| {
        let here = parts.iter().enumerate();
        let here = here.filter(move |(_, part)| part.hooks >> hook & 1 != 0);
        if here.clone().any(|(_, part)| part.drops_unseen()) {
            return None;
        }
        let mut dropping = here.filter(|(_, part)| part.policy == DROP);
        let (chain, _) = dropping.next()?;
        dropping.next().is_none().then_some(Policy { hook, chain })
    };
    hooks.filter_map(policy).collect()
}

/// The hooks as the kernel side knows them, by where packets come from: what a
/// bridge sends out as its own (`NF_BR_LOCAL_OUT`) may have come in by another
/// interface and be routed, as what is about to leave (`NF_BR_POST_ROUTING`).
const fn of_packets(hooks: u8) -> u8 {
    if hooks >> LOCAL_OUT & 1 != 0 {
        hooks | 1 << POST_ROUTING
    } else {
        hooks
    }
}
