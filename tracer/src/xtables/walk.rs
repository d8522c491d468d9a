//! The rules of a table, as they lie in the kernel's memory, one behind the other:
//! which chain and number each has, and which of them drop packets.
//!
//! Their form is part of the kernel's interface to `iptables`
//! ([`ipt_entry`](https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter_ipv4/ip_tables.h),
//! [`ip6t_entry`](https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter_ipv6/ip6_tables.h)).

/// Bytes of addresses and interfaces at the head of an `ipt_entry`.
pub const IPT_ADDRESSES: usize = 84;
/// And of an `ip6t_entry`.
pub const IP6T_ADDRESSES: usize = 136;

// Behind the addresses: `nfcache`, and then
const TARGET_OFFSET: usize = 4;
const NEXT_OFFSET: usize = 6;
const COMEFROM: usize = 8;
/// A `struct xt_counters`.
const COUNTERS: usize = 16;

// In `struct xt_entry_target`:
const TARGET: usize = 8;
const TARGET_DATA: usize = 32;

/// `XT_FUNCTION_MAXNAMELEN`
const CHAIN_NAME: usize = 30;
/// `-NF_DROP - 1`
const DROP: i32 = -1;
/// `XT_RETURN`
const RETURN: i32 = -5;
/// Every hook that there is.
const HOOKS: u32 = 0b11111;

/// The chains that have hooks, by the hook's number.
const BASE_CHAINS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// The head of a `struct xt_table_info`, and what its table says.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// [`IPT_ADDRESSES`] or [`IP6T_ADDRESSES`].
    pub addresses: usize,
    /// A bit for each hook that the table is at.
    pub hooks: u32,
    /// How many rules, policies and chain heads there are.
    pub number: u32,
    /// By hook, where its chain begins.
    pub entry: [u32; 5],
    /// By hook, where its chain's policy is.
    pub underflow: [u32; 5],
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    /// How many rules it has.
    pub len: usize,
}

/// A rule, or a policy, that can drop a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Index of its chain.
    pub chain: usize,
    /// Its number in the chain, from 1 on; 0 for the policy.
    pub number: usize,
    /// It sends an answer.
    pub rejects: bool,
    /// The hooks from which it can be reached, a bit each.
    pub hooks: u8,
    /// Where its counters stand in the table's memory.
    pub counters_at: usize,
    /// What stands there first: where each CPU has counters of its own, their
    /// address.
    pub counters: u64,
}

/// What a table has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    pub chains: Vec<Chain>,
    /// Those that can drop a packet.
    pub rules: Vec<Rule>,
    /// The policies that drop and have no counter.
    pub policies: Vec<Policy>,
    /// Where the counters of all stand in the table's memory.
    pub counters_at: Vec<usize>,
}

/// What drops a packet at a hook if no rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub hook: u8,
    /// Index of the chain whose policy it is.
    pub chain: usize,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target<'a> {
    /// The head of a chain, or the end of the table.
    Head(&'a str),
    Verdict(i32),
    Reject,
    Other,
}

/// Walks over a table's memory; `None` if it is not in order. `target_name` gives
/// the name of a `struct xt_target`, which is empty for a verdict.
#[must_use]
pub fn walk(
    head: &Head,
    table: &[u8],
    mut target_name: impl FnMut(u64) -> Option<String>,
) -> Option<Walked> {
    let mut walked = Walked::default();
    // The hook of the present chain; `None` in a chain of the user's.
    let mut base = None;
    let mut inside = false;
    let mut last = None;
    let mut at = 0;
    let mut number = 0;
    while at < table.len() {
        number += 1;
        let entry = Entry::at(head, table, at)?;
        let target = entry.target(&mut target_name)?;
        walked.counters_at.push(entry.counters_at);
        if let Target::Head(name) = target {
            walked.end_chain(inside && base.is_none(), last)?;
            if inside && base.is_some() {
                return None;
            }
            if at + entry.len == table.len() {
                return (number == head.number).then_some(walked);
            }
            walked.begin_chain(name);
            (base, inside, last) = (None, true, None);
            at += entry.len;
            continue;
        }
        let here = u32::try_from(at).ok()?;
        if let Some(hook) = head.chain_at(here) {
            if inside && base.is_some() {
                return None;
            }
            walked.end_chain(inside, last)?;
            walked.begin_chain(BASE_CHAINS[hook]);
            (base, inside) = (Some(hook), true);
        }
        if !inside {
            return None;
        }
        let is_policy = base.is_some_and(|hook| head.underflow[hook] == here);
        walked.add(&entry, target, is_policy)?;
        last = Some(target);
        if is_policy {
            (base, inside, last) = (None, false, None);
        }
        at += entry.len;
    }
    None
}

impl Head {
    /// Where a rule's counters stand, aligned to a word.
    const fn counters(&self) -> usize {
        (self.addresses + COMEFROM + 4).next_multiple_of(8)
    }

    /// The hook whose chain begins there.
    fn chain_at(&self, at: u32) -> Option<usize> {
        (0..BASE_CHAINS.len()).find(|hook| self.hooks >> hook & 1 != 0 && self.entry[*hook] == at)
    }
}

impl Walked {
    fn begin_chain(&mut self, name: &str) {
        self.chains.push(Chain {
            name: name.to_owned(),
            len: 0,
        });
    }

    /// Behind the rules of a user's chain stands one that returns, and that
    /// `iptables` does not show.
    fn end_chain(&mut self, is_users: bool, last: Option<Target<'_>>) -> Option<()> {
        if !is_users {
            return Some(());
        }
        let chain = self.chains.last_mut()?;
        chain.len = chain.len.checked_sub(1)?;
        (last == Some(Target::Verdict(RETURN))).then_some(())
    }

    fn add(&mut self, entry: &Entry<'_>, target: Target<'_>, is_policy: bool) -> Option<()> {
        let index = self.chains.len().checked_sub(1)?;
        let chain = &mut self.chains[index];
        if !is_policy {
            chain.len += 1;
        }
        let rejects = target == Target::Reject;
        // What no packet can reach is not of interest.
        let hooks = u8::try_from(entry.comefrom & HOOKS).ok()?;
        if (rejects || target == Target::Verdict(DROP)) && hooks != 0 {
            self.rules.push(Rule {
                chain: index,
                number: if is_policy { 0 } else { chain.len },
                rejects,
                hooks,
                counters_at: entry.counters_at,
                counters: entry.counters,
            });
        }
        Some(())
    }
}

/// A `struct ipt_entry` or `struct ip6t_entry`.
struct Entry<'a> {
    /// Bytes up to the next one.
    len: usize,
    /// Its `struct xt_entry_target`.
    target: &'a [u8],
    comefrom: u32,
    counters_at: usize,
    counters: u64,
}

impl<'a> Entry<'a> {
    fn at(head: &Head, table: &'a [u8], at: usize) -> Option<Self> {
        let rest = table.get(at..)?;
        let behind = head.addresses;
        let target_at = usize::from(half(rest, behind + TARGET_OFFSET)?);
        let len = usize::from(half(rest, behind + NEXT_OFFSET)?);
        if target_at < head.counters() + COUNTERS || len % 8 != 0 {
            return None;
        }
        Some(Self {
            len,
            target: rest.get(target_at..len)?,
            comefrom: word(rest, behind + COMEFROM)?,
            counters_at: at + head.counters(),
            counters: long(rest, head.counters())?,
        })
    }

    fn target(&self, target_name: &mut impl FnMut(u64) -> Option<String>) -> Option<Target<'a>> {
        let name = target_name(long(self.target, TARGET)?)?;
        Some(match name.as_str() {
            "" => Target::Verdict(word(self.target, TARGET_DATA)?.cast_signed()),
            "ERROR" => {
                let bytes = self.target.get(TARGET_DATA..TARGET_DATA + CHAIN_NAME)?;
                Target::Head(text(bytes)?)
            }
            "REJECT" => Target::Reject,
            _ => Target::Other,
        })
    }
}

/// A text that a zero ends.
#[must_use]
pub fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&bytes[..end]).ok()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Four bytes as a number.
#[must_use]
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Eight bytes as a number.
#[must_use]
pub fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
