//! What one view of the records came to: each record counted once, and set against what
//! was made.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::bursts::{Burst, number_of};

/// How many of one kind of complaint are told.
const TOLD: usize = 5;

/// What a record says, as far as it matters here.
pub struct Record {
    /// Its number.
    pub seq: u64,
    /// Of which start of the machine it is.
    pub boot_id: String,
    /// What happened.
    pub kind: String,
    /// How many packets it stands for.
    pub packets: u64,
    /// When, nanoseconds since 1970.
    pub time: u64,
    /// Where the packet went to.
    pub to: Option<(String, u16)>,
    /// The namespace it was in.
    pub netns: Option<u64>,
    /// The text of the rule that dropped it.
    pub rule: Option<String>,
    /// For a loss: what, and how many of them.
    pub loss: Option<(String, u64)>,
}

/// The same in JSON.
#[derive(Deserialize)]
struct Line {
    seq: u64,
    boot_id: String,
    kind: String,
    packets: u64,
    time: String,
    flow: Option<Flow>,
    rule: Option<Rule>,
    r#where: Option<Where>,
    loss: Option<Loss>,
}

#[derive(Deserialize)]
struct Flow {
    dst: String,
    dport: Option<u16>,
}

#[derive(Deserialize)]
struct Rule {
    text: Option<String>,
}

#[derive(Deserialize)]
struct Where {
    netns: Option<u64>,
}

#[derive(Deserialize)]
struct Loss {
    what: String,
    why: String,
    count: u64,
}

impl Record {
    /// The record that a line of JSON is.
    pub fn of_line(line: &str) -> anyhow::Result<Self> {
        let line: Line =
            serde_json::from_str(line).with_context(|| format!("no record: {line}"))?;
        let time: jiff::Timestamp = line.time.parse()?;
        Ok(Self {
            seq: line.seq,
            boot_id: line.boot_id,
            kind: line.kind,
            packets: line.packets,
            time: u64::try_from(time.as_nanosecond())?,
            to: line.flow.and_then(|flow| Some((flow.dst, flow.dport?))),
            netns: line.r#where.and_then(|place| place.netns),
            rule: line.rule.and_then(|rule| rule.text),
            loss: line
                .loss
                .map(|loss| (format!("{} {}", loss.what, loss.why), loss.count)),
        })
    }
}

/// What is known of one burst.
#[derive(Default)]
pub struct Seen {
    /// Packets that its records count.
    pub packets: u64,
    /// Of each record: its time, namespace and rule.
    pub records: Vec<(u64, Option<u64>, Option<String>)>,
}

/// A view's records.
#[derive(Default)]
pub struct Ledger {
    /// Numbers, for each start of the machine.
    numbers: HashMap<String, HashSet<u64>>,
    /// Records that came more than once.
    pub duplicates: u64,
    /// Different records.
    pub records: u64,
    bursts: HashMap<u32, Seen>,
    /// Packets of all drops.
    packets: u64,
    /// Packets of records that name no burst.
    unlisted: u64,
    /// What the last of these was: its destination, namespace and rule.
    unlisted_as: Option<String>,
    /// Packets that records say were lost, by what was lost and why.
    lost: BTreeMap<String, u64>,
    /// Times in which nothing was traced: from, to.
    pub gaps: Vec<(u64, u64)>,
    /// More may be in a burst's records than were dropped.
    pub may_repeat: bool,
    /// So many more there were.
    pub repeated: u64,
    /// What no record should be like.
    pub complaints: Vec<String>,
}

impl Ledger {
    /// Counts a record, if it has not come before.
    pub fn add(&mut self, record: Record) {
        if !self
            .numbers
            .entry(record.boot_id)
            .or_default()
            .insert(record.seq)
        {
            self.duplicates += 1;
            return;
        }
        self.records += 1;
        match (record.kind.as_str(), record.loss) {
            ("drop", _) => {
                self.packets += record.packets;
                let to = record.to.as_ref();
                let Some(number) = to.and_then(|(to, port)| number_of(to, *port)) else {
                    let Record {
                        to, netns, rule, ..
                    } = record;
                    self.unlisted += record.packets;
                    self.unlisted_as = Some(format!("{to:?} {netns:?} {rule:?}"));
                    return;
                };
                let seen = self.bursts.entry(number).or_default();
                seen.packets += record.packets;
                seen.records.push((record.time, record.netns, record.rule));
            }
            ("loss", Some((what, count))) if what == "time not_running" => {
                let from = record.time.saturating_sub(count * 1_000_000);
                self.gaps.push((from, record.time));
            }
            ("loss", Some((what, _))) => *self.lost.entry(what).or_default() += record.packets,
            (kind, _) => self.complaints.push(format!("a record of kind {kind}")),
        }
    }

    /// What the daemon's file and the older ones beside it say.
    pub fn of_file(path: &Path) -> anyhow::Result<Self> {
        let mut ledger = Self::default();
        for number in 0.. {
            let mut name = path.as_os_str().to_owned();
            if number > 0 {
                name.push(format!(".{number}"));
            }
            let file = match File::open(&name) {
                Ok(file) => file,
                Err(_) if number > 0 => break,
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", path.display()));
                }
            };
            for line in BufReader::new(file).lines() {
                ledger.add(Record::of_line(&line?)?);
            }
        }
        Ok(ledger)
    }

    /// What is known of a burst.
    pub fn burst(&self, number: u32) -> Option<&Seen> {
        self.bursts.get(&number)
    }

    /// Packets in records.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets that records say were lost.
    pub fn lost(&self) -> u64 {
        self.lost.values().sum()
    }

    /// The gaps, one for those that overlap.
    pub fn untraced(&self) -> Vec<(u64, u64)> {
        let mut gaps = self.gaps.clone();
        gaps.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (from, to) in gaps {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        merged
    }

    /// Sets it against the bursts that were made: one outside of all gaps has exactly its
    /// packets, one that touches a gap not more. Gives the packets that gaps took.
    pub fn compare(&mut self, view: &str, bursts: &[Burst]) -> u64 {
        let gaps = self.untraced();
        let mut taken = 0;
        let mut wrong = Vec::new();
        for burst in bursts {
            let seen = self
                .bursts
                .get(&burst.number)
                .map_or(0, |seen| seen.packets);
            let made = u64::from(burst.packets);
            let next = gaps.partition_point(|(_, to)| *to < burst.from);
            let in_gap = gaps.get(next).is_some_and(|(from, _)| *from <= burst.to);
            if (seen > made && !self.may_repeat) || (seen < made && !in_gap) {
                wrong.push(format!(
                    "{view}: burst {} of {made} packets has {seen} in records, {} a gap",
                    burst.number,
                    if in_gap { "in" } else { "not in" },
                ));
            }
            taken += made.saturating_sub(seen);
            self.repeated += seen.saturating_sub(made);
        }
        let made: HashSet<u32> = bursts.iter().map(|burst| burst.number).collect();
        let strange = self.bursts.keys().filter(|number| !made.contains(number));
        wrong.extend(strange.map(|number| format!("{view}: nobody made burst {number}")));
        let count = wrong.len();
        self.complaints.extend(wrong.into_iter().take(TOLD));
        if count > TOLD {
            self.complaints
                .push(format!("{view}: {} more like these", count - TOLD));
        }
        if self.numbers.len() > 1 {
            self.complaints
                .push(format!("{view}: more than one boot_id"));
        }
        // Of lost details no packet is missing.
        for (what, packets) in self.lost.iter().filter(|(_, packets)| **packets > 0) {
            self.complaints
                .push(format!("{view}: {packets} packets lost: {what}"));
        }
        if let Some(one) = &self.unlisted_as {
            let unlisted = self.unlisted;
            self.complaints
                .push(format!("{view}: {unlisted} packets of no burst: {one}"));
        }
        taken
    }

    /// Sets a view that may miss what a daemon had not sent against the bursts: none has
    /// more packets than were made.
    pub fn at_most(&mut self, view: &str, bursts: &[Burst]) {
        for burst in bursts {
            let seen = self
                .bursts
                .get(&burst.number)
                .map_or(0, |seen| seen.packets);
            if seen > u64::from(burst.packets) {
                self.complaints.push(format!(
                    "{view}: burst {} of {} packets has {seen} in records",
                    burst.number, burst.packets
                ));
            }
        }
        self.complaints.truncate(TOLD);
    }
}
