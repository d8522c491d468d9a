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
pub const OF_HOOK_SLOW: u8 = 0b11110;
/// `NF_BR_PRE_ROUTING`
pub const PRE_ROUTING: u8 = 0b1;

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
    /// The hooks, a bit each, at which the kernel side sees every drop.
    pub seen: u8,
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
        rules: dropping(&parts, head.seen).collect(),
        policies: policies(&parts, head.seen),
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
    const fn is_watched(&self, seen: u8) -> bool {
        self.hooks != 0 && self.hooks & !seen == 0
    }

    fn drops_unseen(&self, seen: u8) -> bool {
        let is_seen = self.is_watched(seen);
        let mut verdicts = self.verdicts.iter();
        verdicts.any(|verdict| verdict.is_none_or(|verdict| verdict == DROP && !is_seen))
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
fn dropping(parts: &[Part], seen: u8) -> impl Iterator<Item = Rule> {
    parts.iter().enumerate().flat_map(move |(chain, part)| {
        let hooks = part.hooks;
        let rules = part.verdicts.iter().enumerate();
        rules
            .filter(move |(_, verdict)| **verdict == Some(DROP) && part.is_watched(seen))
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

/// The policies that drop, at hooks that the kernel side can tell, at which nothing
/// else drops unseen: no other chain's policy, no rule whose counter is not watched, no
/// target with a verdict of its own.
fn policies(parts: &[Part], seen: u8) -> Vec<Policy> {
    let hooks = (0..8).filter(|hook| OF_HOOK_SLOW >> hook & 1 != 0);
    let policy = |hook: u8| {
        let here = parts.iter().enumerate();
        let here = here.filter(move |(_, part)| part.hooks >> hook & 1 != 0);
        if here.clone().any(|(_, part)| part.drops_unseen(seen)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    // Addresses of targets.
    const VERDICT: u64 = 1;
    const MARK: u64 = 2;

    // `EBT_*`
    const ACCEPT: i32 = -1;
    const CONTINUE: i32 = -3;
    const RETURN: i32 = -4;

    // `NF_BR_*`
    const FIRST: usize = 0;
    const LOCAL_IN: usize = 1;
    const FORWARD: usize = 2;
    const OUT: usize = 3;
    const BROUTING: usize = 5;

    fn name(target: u64) -> Option<String> {
        let names = [(VERDICT, "standard"), (MARK, "mark")];
        let found = names.iter().find(|(address, _)| *address == target);
        found.map(|(_, name)| (*name).to_owned())
    }

    /// Makes tables.
    struct Maker {
        head: Head,
        memory: Vec<u8>,
        /// Where the present chain begins.
        chain: usize,
    }

    impl Maker {
        fn new() -> Self {
            Self {
                head: Head {
                    number: 0,
                    entry: [None; HOOKS],
                    seen: OF_HOOK_SLOW,
                },
                memory: Vec::new(),
                chain: 0,
            }
        }

        fn set(&mut self, at: usize, word: u32) {
            self.memory[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }

        /// Begins a chain, and says where.
        fn chain(&mut self, hook: Option<usize>, name: &str, policy: i32) -> i32 {
            self.chain = self.memory.len();
            if let Some(hook) = hook {
                self.head.entry[hook] = Some(self.chain);
            }
            self.memory.resize(self.chain + CHAIN_HEAD, 0);
            let name_at = self.chain + CHAIN_NAME;
            self.memory[name_at..name_at + name.len()].copy_from_slice(name.as_bytes());
            self.set(self.chain + CHAIN_COUNTERS, self.head.number);
            self.set(self.chain + CHAIN_POLICY, policy.cast_unsigned());
            i32::try_from(self.chain).unwrap()
        }

        /// Adds a rule with a match of 24 bytes to it, and says where its verdict is.
        fn rule(&mut self, target: u64, verdict: i32) -> usize {
            let at = self.memory.len();
            let target_at = at + ENTRY_HEAD + 24;
            self.memory.resize(target_at + TARGET_DATA + 8, 0);
            self.set(at, 1);
            self.set(at + TARGET_OFFSET, u32::try_from(target_at - at).unwrap());
            let len = self.memory.len() - at;
            self.set(at + NEXT_OFFSET, u32::try_from(len).unwrap());
            self.memory[target_at..target_at + 8].copy_from_slice(&target.to_ne_bytes());
            self.set(target_at + TARGET_DATA, verdict.cast_unsigned());
            self.head.number += 1;
            let len = word(&self.memory, self.chain + CHAIN_LEN).unwrap() + 1;
            self.set(self.chain + CHAIN_LEN, len);
            target_at + TARGET_DATA
        }

        fn walk(&self) -> Option<Walked> {
            walk(&self.head, &self.memory, name)
        }
    }

    /// Chains of three hooks and three of the user's, of which one is not used.
    fn table() -> Maker {
        let mut maker = Maker::new();
        maker.chain(Some(LOCAL_IN), "INPUT", DROP);
        maker.rule(VERDICT, ACCEPT);
        maker.rule(VERDICT, DROP);
        maker.chain(Some(FORWARD), "FORWARD", DROP);
        maker.rule(MARK, ACCEPT);
        let forward = maker.rule(VERDICT, 0);
        maker.chain(Some(OUT), "OUTPUT", ACCEPT);
        let output = maker.rule(VERDICT, 0);
        let deep = maker.chain(None, "deep", RETURN);
        maker.rule(VERDICT, CONTINUE);
        maker.rule(VERDICT, DROP);
        let onward = maker.rule(VERDICT, 0);
        let deeper = maker.chain(None, "deeper", RETURN);
        maker.rule(VERDICT, DROP);
        maker.chain(None, "unused", RETURN);
        maker.rule(VERDICT, DROP);
        for (at, to) in [(forward, deep), (output, deep), (onward, deeper)] {
            maker.set(at, to.cast_unsigned());
        }
        maker
    }

    fn short(walked: &Walked) -> Vec<(&str, usize, u8, usize)> {
        let rules = walked.rules.iter();
        rules
            .map(|rule| {
                let chain = walked.chains[rule.chain].name.as_str();
                (chain, rule.number, rule.hooks, rule.counters_at)
            })
            .collect()
    }

    #[test]
    fn rules_that_drop_have_chain_number_and_counter() {
        let walked = table().walk().unwrap();
        let chains: Vec<(&str, usize)> = walked
            .chains
            .iter()
            .map(|chain| (chain.name.as_str(), chain.len))
            .collect();
        assert_eq!(
            chains,
            [
                ("INPUT", 2),
                ("FORWARD", 2),
                ("OUTPUT", 1),
                ("deep", 3),
                ("deeper", 1),
                ("unused", 1)
            ]
        );
        // What leaves by a bridge may have come in before: it counts as both.
        assert_eq!(
            short(&walked),
            [
                ("INPUT", 2, 0b00010, 16),
                ("deep", 2, 0b11100, 6 * 16),
                ("deeper", 1, 0b11100, 8 * 16)
            ]
        );
        // FORWARD's policy may be what its target says instead.
        assert_eq!(walked.policies, [Policy { hook: 1, chain: 0 }]);
    }

    #[test]
    fn what_the_bridge_frees_or_routes_is_not_watched() {
        let mut maker = Maker::new();
        maker.chain(Some(FIRST), "PREROUTING", DROP);
        maker.rule(VERDICT, DROP);
        let before = maker.rule(VERDICT, 0);
        maker.chain(Some(OUT), "OUTPUT", DROP);
        maker.rule(VERDICT, DROP);
        let output = maker.rule(VERDICT, 0);
        let both = maker.chain(None, "both", RETURN);
        maker.rule(VERDICT, DROP);
        maker.set(before, both.cast_unsigned());
        maker.set(output, both.cast_unsigned());
        let walked = maker.walk().unwrap();
        assert_eq!(short(&walked), [("OUTPUT", 1, 0b11000, 2 * 16)]);
        assert_eq!(walked.policies, []);
        maker.head.seen |= PRE_ROUTING;
        let walked = maker.walk().unwrap();
        assert_eq!(
            short(&walked),
            [
                ("PREROUTING", 1, 0b00001, 0),
                ("OUTPUT", 1, 0b11000, 2 * 16),
                ("both", 1, 0b11001, 4 * 16)
            ]
        );
        assert_eq!(walked.policies, [Policy { hook: 3, chain: 1 }]);
        let mut routes = Maker::new();
        routes.chain(Some(BROUTING), "BROUTING", DROP);
        routes.rule(VERDICT, DROP);
        routes.head.seen |= PRE_ROUTING;
        let walked = routes.walk().unwrap();
        assert_eq!((walked.rules, walked.policies), (vec![], vec![]));
    }

    #[test]
    fn a_policy_is_told_if_it_is_the_only_one() {
        let forward_to = |policy: i32, of_users: i32| {
            let mut maker = Maker::new();
            maker.chain(Some(FORWARD), "FORWARD", policy);
            let jump = maker.rule(VERDICT, 0);
            let to = maker.chain(None, "users", of_users);
            maker.set(jump, to.cast_unsigned());
            maker.walk().unwrap().policies
        };
        assert_eq!(forward_to(DROP, RETURN), [Policy { hook: 2, chain: 0 }]);
        assert_eq!(forward_to(ACCEPT, DROP), [Policy { hook: 2, chain: 1 }]);
        assert_eq!(forward_to(DROP, DROP), []);
        assert_eq!(forward_to(ACCEPT, RETURN), []);
    }

    #[test]
    fn a_table_that_is_not_in_order_is_refused() {
        type Spoil = fn(&mut Maker);
        let spoilt: [Spoil; 7] = [
            |maker| maker.head.number += 1,
            |maker| maker.head.entry[BROUTING] = Some(8),
            |maker| maker.set(CHAIN_LEN, 1),
            |maker| maker.set(CHAIN_COUNTERS, 1),
            |maker| maker.set(CHAIN_HEAD + NEXT_OFFSET, 0),
            |maker| maker.set(CHAIN_HEAD + TARGET_OFFSET, 8),
            |maker| maker.memory.truncate(maker.memory.len() - 1),
        ];
        for (i, spoil) in spoilt.iter().enumerate() {
            let mut maker = table();
            spoil(&mut maker);
            assert_eq!(maker.walk(), None, "{i}");
        }
        assert_eq!(Maker::new().walk(), None);
        // A rule before all chains.
        let mut maker = table();
        maker.memory.drain(..CHAIN_HEAD);
        assert_eq!(maker.walk(), None);
    }

    /// Whatever stands there, the walk ends, and says nothing that is out of bounds.
    #[test]
    fn hostile_memory_does_no_harm() {
        for at in 0..table().memory.len() {
            for byte in [0, 1, 8, 0x7f, 0xff] {
                let mut bad = table();
                bad.memory[at] = byte;
                let Some(walked) = bad.walk() else { continue };
                for rule in &walked.rules {
                    assert!(rule.number <= walked.chains[rule.chain].len);
                    assert!(rule.counters_at < bad.head.number as usize * 16);
                }
                assert!(walked.policies.iter().all(|policy| policy.chain < 6));
            }
        }
        for len in 0..table().memory.len() {
            let mut short = table();
            short.memory.truncate(len);
            assert_eq!(short.walk(), None);
        }
    }
}
