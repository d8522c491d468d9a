//! What nftables' own functions have in hand when they decide: in which register or
//! word of the stack the rule is, and where chains and tables have their handles.
//!
//! Then everything is tried once more as it will be used, and is used only if it
//! names who dropped each packet, policies too.

use std::{collections::HashSet, io, net::UdpSocket};

use droptrace_types::{
    HeadForm, POLICY, Places, StackWords, VERDICT_HEADS, VERDICT_WORDS, VerdictPlaces, VerdictWords,
};

use super::{
    ATTEMPTS, DROPPERS, Dropper, Handles, RULES, apart, drop_at, handle_of, marked_socket, nft,
};
use crate::{
    kernel::symbols,
    tracer::{RuleMaps, Tracer},
    xtables::Kernel,
};

/// Bytes of a chain and of a table in which their members are looked for.
const CHAIN_BYTES: usize = 192;
const TABLE_BYTES: usize = 1024;
/// Tables that are made and deleted before, so that the handles of those which are
/// looked at are no common numbers.
const TABLES_BEFORE: usize = 20;

/// Watches all of nftables' functions that decide, and finds out where rules are
/// then, if that is not known. `places` has what else the kernel side is told.
///
/// # Errors
///
/// If the kernel refuses, or there are no such places.
pub fn watch(tracer: &mut Tracer, places: &mut Places) -> io::Result<()> {
    let present = symbols::beginning_with("nft_")?;
    tracer.watch_verdicts(&present).map_err(io::Error::other)?;
    if places.verdict.is_known == 0 {
        let (maps, memory) = tracer.rules_and_memory();
        places.verdict = find(maps, memory, places)?;
    }
    Ok(())
}

/// Finds the places and tells the kernel side.
fn find(
    maps: &mut RuleMaps,
    memory: &mut impl Kernel,
    places: &Places,
) -> io::Result<VerdictPlaces> {
    let mut attempt = || {
        apart(|netns| {
            let mut trial = Trial {
                places: Places {
                    trial_netns: netns,
                    verdict: VerdictPlaces::default(),
                    ..*places
                },
                socket: marked_socket()?,
                maps,
                memory,
            };
            trial.find()
        })
    };
    let mut found = attempt();
    for _ in 1..ATTEMPTS {
        if found.is_ok() {
            break;
        }
        found = attempt();
    }
    let verdict = found.as_ref().copied().unwrap_or_default();
    maps.set_places(&Places { verdict, ..*places })?;
    found
}

struct Trial<'a, K> {
    places: Places,
    socket: UdpSocket,
    maps: &'a mut RuleMaps,
    memory: &'a mut K,
}

impl<K: Kernel> Trial<'_, K> {
    fn find(&mut self) -> io::Result<VerdictPlaces> {
        self.maps.set_places(&self.places)?;
        let numbered = |i| format!("add table ip droptrace_{i}; delete table ip droptrace_{i}; ");
        let before: String = (0..TABLES_BEFORE).map(numbered).collect();
        nft::add(&before).map_err(io::Error::other)?;
        nft::add(RULES).map_err(io::Error::other)?;
        let listing = nft::list().map_err(io::Error::other)?;
        let unknown = || io::Error::other("nft lists its rules in an unknown form");
        let mut rules = OfRules::default();
        let mut chains = OfChains::default();
        for dropper in &DROPPERS {
            let handles = Handles::of(&listing, dropper).ok_or_else(unknown)?;
            let Some(rule) = handles.rule else { continue };
            let stack = drop_at(self.maps, &self.socket, dropper.port)?;
            let words = self.maps.verdict()?;
            if words.packet == 0 || words.packet != stack.packet {
                return Err(io::Error::other("nothing was seen to decide"));
            }
            rules.keep(&words, rule);
            if is_base(dropper) {
                let table = table_of(&listing, dropper.chain).ok_or_else(unknown)?;
                chains.keep(self.memory, words.base, handles.chain, table)?;
            }
        }
        let none = |what| move || io::Error::other(format!("{what} stands nowhere"));
        let rule = rules.place().ok_or_else(none("the rule that decides"))?;
        let found = chains
            .places(rule)
            .ok_or_else(none("the handle of a chain or of its table"))?;
        log::debug!("what nftables decides is found at {found:?}");
        self.places.verdict = found;
        self.maps.set_places(&self.places)?;
        for dropper in &DROPPERS {
            let handles = Handles::of(&listing, dropper).ok_or_else(unknown)?;
            let stack = drop_at(self.maps, &self.socket, dropper.port)?;
            if !self.is_right(&stack, handles)? {
                return Err(io::Error::other(format!(
                    "what was seen to decide is not what did, at {found:?}"
                )));
            }
        }
        Ok(found)
    }

    /// Whether the kernel side says who dropped the packet.
    fn is_right(&mut self, stack: &StackWords, handles: Handles) -> io::Result<bool> {
        let places = &self.places.verdict;
        let is_policy = stack.verdict & POLICY != 0;
        match handles.rule {
            _ if stack.verdict == 0 => Ok(false),
            Some(rule) => Ok(!is_policy && places.head.handle(stack.verdict_head) == rule),
            None if !is_policy => Ok(false),
            None => {
                let base = stack.verdict & !POLICY;
                let at = u64::from(places.chain_handle);
                Ok(word(self.memory, base + at)? == handles.chain)
            }
        }
    }
}

fn is_base(dropper: &Dropper) -> bool {
    dropper.chain != "deep"
}

/// Handle of the table that a chain is in.
fn table_of(listing: &str, chain: &str) -> Option<u64> {
    let (before, _) = listing.split_once(&format!("chain {chain} {{"))?;
    let lines = before.rfind("\ntable ").map_or(0, |at| at + 1);
    handle_of(&before[lines..], |line| line.starts_with("table "))
}

fn word(memory: &mut impl Kernel, address: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    memory.read(address, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = (usize, u64)> {
    let (words, _) = bytes.as_chunks();
    let words = words.iter().map(|word| u64::from_ne_bytes(*word));
    words.enumerate().map(|(i, word)| (i * 8, word))
}

/// Candidates for the place of the rule: a word, how many words behind it points to
/// the head stands, and of which form that is.
struct OfRules(Vec<(usize, usize, HeadForm)>);

impl Default for OfRules {
    fn default() -> Self {
        let behind = |at| (0..VERDICT_HEADS).map(move |behind| (at, behind));
        let heads = (0..VERDICT_WORDS).flat_map(behind);
        let all = heads.flat_map(|(at, behind)| HeadForm::ALL.map(|form| (at, behind, form)));
        Self(all.collect())
    }
}

impl OfRules {
    /// Keeps those at which the rule of this handle is, which has the expression.
    fn keep(&mut self, seen: &VerdictWords, handle: u64) {
        self.0.retain(|(at, behind, form)| {
            let head = seen.heads[*behind][*at];
            let address = seen.words[*at].wrapping_add(*behind as u64 * 8);
            form.handle(head) == handle && form.has(head, address, seen.expression)
        });
    }

    fn place(&self) -> Option<VerdictPlaces> {
        let (at, behind, head) = *self.0.first()?;
        Some(VerdictPlaces {
            is_known: 1,
            rule_at: u32::try_from(at).ok()?,
            head_at: u32::try_from(behind * 8).ok()?,
            head,
            ..VerdictPlaces::default()
        })
    }
}

/// Candidates for where a chain has its handle, and its table; `None` before the
/// first chain.
#[derive(Default)]
struct OfChains {
    handles: Option<HashSet<usize>>,
    tables: Option<HashSet<(usize, usize)>>,
}

impl OfChains {
    /// Keeps those at which the chain at this address has these handles.
    fn keep(
        &mut self,
        memory: &mut impl Kernel,
        chain: u64,
        handle: u64,
        table: u64,
    ) -> io::Result<()> {
        let mut bytes = [0; CHAIN_BYTES];
        memory.read(chain, &mut bytes)?;
        let mut handles = HashSet::new();
        let mut tables = HashSet::new();
        for (at, word) in words(&bytes) {
            if word == handle {
                handles.insert(at);
            }
            let mut bytes = [0; TABLE_BYTES];
            // Not every word is an address.
            if word >> 56 == 0xff && memory.read(word, &mut bytes).is_ok() {
                let is_it = words(&bytes).filter(|(_, word)| *word == table);
                tables.extend(is_it.map(|(behind, _)| (at, behind)));
            }
        }
        narrow(&mut self.handles, handles);
        narrow(&mut self.tables, tables);
        Ok(())
    }

    /// The rest of the places, if they are certain.
    fn places(self, rule: VerdictPlaces) -> Option<VerdictPlaces> {
        let handle = only(self.handles?)?;
        let (table, of_table) = only(self.tables?)?;
        let offset = |at: usize| u32::try_from(at).ok();
        Some(VerdictPlaces {
            chain_table: offset(table)?,
            chain_handle: offset(handle)?,
            table_handle: offset(of_table)?,
            ..rule
        })
    }
}

fn narrow<T: Eq + std::hash::Hash>(all: &mut Option<HashSet<T>>, found: HashSet<T>) {
    match all {
        Some(all) => all.retain(|candidate| found.contains(candidate)),
        None => *all = Some(found),
    }
}

fn only<T>(found: HashSet<T>) -> Option<T> {
    let mut found = found.into_iter();
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use droptrace_types::{XtBlock, XtGroup};

    use super::*;
    use crate::xtables::Whereabouts;

    const OLD: HeadForm = HeadForm::ALL[0];
    const NEW: HeadForm = HeadForm::ALL[1];

    fn seen(words: &[(usize, u64, [u64; VERDICT_HEADS])], expression: u64) -> VerdictWords {
        let mut seen = VerdictWords {
            expression,
            ..VerdictWords::NONE
        };
        for (at, word, heads) in words {
            seen.words[*at] = *word;
            for (behind, head) in heads.iter().enumerate() {
                seen.heads[behind][*at] = *head;
            }
        }
        seen
    }

    #[test]
    fn the_place_of_the_rule_is_the_one_that_is_right_every_time() {
        let old = |handle: u64| handle | 0x40 << 44;
        let new = |handle: u64| handle << 13 | 0x40 << 1;
        let mut rules = OfRules::default();
        for (handle, next) in [(5, 6), (6, 9)] {
            rules.keep(
                &seen(
                    &[
                        // Another rule, and one of whose expressions this is none.
                        (3, 0x1000, [0, 0, old(next), 0]),
                        (4, 0x9000, [0, 0, old(handle), 0]),
                        (5, 0x1000, [0, 0, old(handle), 0]),
                        (6, 0x1000, [new(7), 0, 0, 0]),
                    ],
                    0x1000 + 16 + 8 + 0x3f,
                ),
                handle,
            );
        }
        assert_eq!(rules.0, [(5, 2, OLD)]);
        let place = rules.place().unwrap();
        assert_eq!((place.rule_at, place.head_at), (5, 16));
        let mut rules = OfRules::default();
        rules.keep(&seen(&[(50, 0x1000, [new(7), 0, 0, 0])], 0x1008), 7);
        assert_eq!(rules.0, [(50, 0, NEW)]);
        rules.keep(&seen(&[], 0), 7);
        assert_eq!(rules.place(), None);
    }

    /// Memory in which these words are not zero.
    struct Memory(HashMap<u64, u64>);

    impl Kernel for Memory {
        fn read(&mut self, address: u64, into: &mut [u8]) -> io::Result<()> {
            for (i, word) in into.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let at = address + i as u64 * 8;
                *word = self.0.get(&at).copied().unwrap_or_default().to_ne_bytes();
            }
            Ok(())
        }

        fn whereabouts(&mut self) -> io::Result<Whereabouts> {
            Err(io::Error::other("not asked"))
        }

        fn set_block(&mut self, _: u32, _: &XtBlock) -> io::Result<()> {
            Err(io::Error::other("not asked"))
        }

        fn settle(&mut self, _: &XtGroup, _: u64) -> io::Result<()> {
            Err(io::Error::other("not asked"))
        }

        fn set_group(&mut self, _: u32, _: Option<&XtGroup>) -> io::Result<()> {
            Err(io::Error::other("not asked"))
        }
    }

    #[test]
    fn handles_of_chains_and_tables_must_be_certain() {
        const CHAIN: u64 = 0xffff_8880_0000_1000;
        const TABLE: u64 = 0xffff_8880_0000_2000;
        let mut chains = OfChains::default();
        for (handle, table, other) in [(1, 21, 1), (4, 22, 9)] {
            let mut memory = Memory(HashMap::from([
                (CHAIN + 64, TABLE),
                (CHAIN + 72, handle),
                (CHAIN + 80, other),
                (TABLE + 216, other),
                (TABLE + 224, table),
            ]));
            chains.keep(&mut memory, CHAIN, handle, table).unwrap();
        }
        let places = chains.places(VerdictPlaces::default()).unwrap();
        assert_eq!((places.chain_table, places.chain_handle), (64, 72));
        assert_eq!(places.table_handle, 224);
        let mut ambiguous = OfChains::default();
        let mut memory = Memory(HashMap::from([
            (CHAIN, 1),
            (CHAIN + 8, 1),
            (CHAIN + 16, TABLE),
        ]));
        ambiguous.keep(&mut memory, CHAIN, 1, 21).unwrap();
        assert_eq!(ambiguous.places(VerdictPlaces::default()), None);
    }

    #[test]
    fn a_chain_is_in_the_table_above_it() {
        let listing = "table ip droptrace_before { # handle 21\n\tchain before { # handle 1\n\t}\n}\n\
            table ip droptrace { # handle 22\n\tchain deep { # handle 1\n\t}\n\
            \tchain output { # handle 3\n";
        assert_eq!(table_of(listing, "before"), Some(21));
        assert_eq!(table_of(listing, "output"), Some(22));
        assert_eq!(table_of(listing, "gone"), None);
    }
}
