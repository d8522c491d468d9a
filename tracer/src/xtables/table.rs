//! A table as it was read, and whether it is still so.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hasher as _},
    path::PathBuf,
};

use droptrace_types::{XtBlock, XtCounter};

use super::{
    Found, Kernel, Trouble,
    blocks::{Watched, blocks},
    bridge,
    family::Family,
    locate::{Head, Place, Reader, Rules},
    text::{self, Text},
    walk::{self, Walked, walk},
};

/// In a `struct xt_target`, behind a list's links. So since before Linux 2.6.12;
/// every table proves it, by what its last entry is called.
const TARGET_NAME: u64 = 16;
/// `XT_EXTENSION_MAXNAMELEN`
const NAME: usize = 29;

/// A table as it was when it was registered.
#[derive(Debug)]
pub struct Table {
    pub place: Place,
    pub info: u64,
    /// Of its memory.
    hash: u64,
    walked: Walked,
    text: Option<Text>,
    /// As [`Rules::counters`] and [`Rules::stride`].
    counters: u64,
    stride: u32,
    /// How what the rules hang on begins.
    head: u64,
}

/// What dropped a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// Index of the rule.
    Rule(usize),
    /// The hook whose policy it was.
    Policy(u32),
}

/// Whether a table is still as it was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    Same,
    /// It was replaced.
    Replaced,
    /// It was replaced by one at the same place, perhaps before the drop.
    Uncertain,
}

impl Table {
    /// Reads a table that is there.
    pub fn read(
        place: Place,
        per_cpu: bool,
        reader: &mut Reader<'_, impl Kernel>,
    ) -> Result<Self, Trouble> {
        let rules = reader.rules(&place).map_err(Trouble::Memory)?;
        let mut rules = rules.ok_or(Trouble::Form)?;
        let mut names = HashMap::new();
        let target_name = |target| {
            let name = names.entry(target);
            name.or_insert_with(|| target_name(target, reader)).clone()
        };
        let walked = match &rules.head {
            Head::Ip(head) => walk(head, &rules.memory, target_name),
            Head::Bridge(head) => bridge::walk(head, &rules.memory, target_name),
        };
        let walked = walked.ok_or(Trouble::Form)?;
        let mut table = Self {
            info: rules.info,
            hash: hash(&mut rules, &walked, per_cpu),
            text: None,
            counters: rules.counters,
            stride: rules.stride,
            head: reader.long(rules.info).map_err(Trouble::Memory)?,
            place,
            walked,
        };
        if !table.walked.rules.is_empty() {
            table.text = table.text(per_cpu, reader);
        }
        Ok(table)
    }

    /// The table's text, if it is that of this very table.
    fn text(&self, per_cpu: bool, reader: &mut Reader<'_, impl Kernel>) -> Option<Text> {
        let listing = match text::list(self.place.family, &self.place.name) {
            Ok(listing) => listing,
            Err(error) => {
                log::info!(
                    "rules of the table {} have no text: {error}",
                    self.place.name
                );
                return None;
            }
        };
        let text = Text::parse(self.place.family, &self.place.name, &listing)
            .filter(|text| text.fits(&self.walked))?;
        (self.now(per_cpu, reader) == Now::Same).then_some(text)
    }

    /// Whether the table is still as it was registered.
    pub fn now(&self, per_cpu: bool, reader: &mut Reader<'_, impl Kernel>) -> Now {
        let Ok(Some(mut rules)) = reader.rules(&self.place) else {
            return Now::Uncertain;
        };
        if rules.info != self.info {
            Now::Replaced
        } else if hash(&mut rules, &self.walked, per_cpu) == self.hash {
            Now::Same
        } else {
            Now::Uncertain
        }
    }

    /// The counters of the rules that drop, and which rule each one is of. A table with
    /// policies that drop has at least one block, for those.
    pub fn blocks(&self, serial: u32, per_cpu: bool) -> Option<Vec<(XtBlock, Vec<usize>)>> {
        // Those of ebtables stand in a row for each CPU.
        let per_cpu = per_cpu && self.place.family != Family::Bridge;
        let watched = self.walked.rules.iter().map(|rule| Watched {
            address: if per_cpu {
                rule.counters
            } else {
                self.counters.wrapping_add(rule.counters_at as u64)
            },
            hooks: rule.hooks,
        });
        let template = XtBlock {
            owner: self.place.address,
            table: self.place.pointer,
            info: self.info,
            head: self.head,
            serial,
            per_cpu: u32::from(per_cpu),
            stride: self.stride,
            ..XtBlock::EMPTY
        };
        let mut blocks = blocks(&watched.collect::<Vec<_>>(), &template)?;
        let policies = self.walked.policies.iter();
        let policies = policies.fold(0, |hooks, policy| hooks | 1 << policy.hook);
        if policies != 0 && blocks.is_empty() {
            let nothing = XtBlock {
                // Memory that is there.
                address: self.place.pointer,
                len: 8,
                stride: 0,
                ..template
            };
            blocks.push((nothing, Vec::new()));
        }
        if let Some((block, _)) = blocks.first_mut() {
            block.policies = policies;
        }
        Some(blocks)
    }

    /// A rule or a policy in words; `None` if there is no such one.
    pub fn found(
        &self,
        decider: Decider,
        exact: bool,
        namespace: Option<PathBuf>,
    ) -> Option<Found> {
        let (chain, number, rejects) = match decider {
            Decider::Rule(rule) => {
                let rule = self.walked.rules.get(rule)?;
                (rule.chain, rule.number, rule.rejects)
            }
            Decider::Policy(hook) => {
                let mut policies = self.walked.policies.iter();
                let policy = policies.find(|policy| u32::from(policy.hook) == hook)?;
                (policy.chain, 0, false)
            }
        };
        let chain = &self.walked.chains[chain].name;
        let text = self.text.as_ref();
        let line = text.and_then(|text| text.line(chain, number));
        let option = |name| line.and_then(|line| text::option(line, name));
        let verdict = match option("--reject-with") {
            Some(with) => format!("reject with {with}"),
            None if rejects => "reject".to_owned(),
            None => "drop".to_owned(),
        };
        Some(Found {
            family: self.place.family,
            table: self.place.name.clone(),
            chain: chain.clone(),
            number: (number != 0).then_some(number),
            comment: option("--comment"),
            text: line.map(ToOwned::to_owned),
            verdict,
            exact,
            is_counted: matches!(decider, Decider::Rule(_)),
            namespace,
        })
    }
}

/// The name of a `struct xt_target`.
fn target_name(target: u64, reader: &mut Reader<'_, impl Kernel>) -> Option<String> {
    let mut bytes = [0; NAME];
    reader
        .kernel
        .read(target.checked_add(TARGET_NAME)?, &mut bytes)
        .ok()?;
    walk::text(&bytes).map(ToOwned::to_owned)
}

/// Of a table's memory, but for counters.
fn hash(rules: &mut Rules, walked: &Walked, per_cpu: bool) -> u64 {
    if !per_cpu {
        for at in &walked.counters_at {
            if let Some(counters) = rules.memory.get_mut(*at..*at + size_of::<XtCounter>()) {
                counters.fill(0);
            }
        }
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(&rules.memory);
    hasher.finish()
}
