//! Compares what droptrace printed with what the scenario expects.

use anyhow::{Context as _, bail};
use droptrace::doctor::{Ability, Status};
use droptrace::event::{Class, Event, EventKind, LossCause, LossOf, SCHEMA};
use serde_json::Value;

use super::doctor::Doctor;
use super::matcher::differences;
use super::stage::Seen;
use super::verdicts;
use crate::scenario::{Count, Scenario};

/// Where nftables' functions are watched, one packet in so many may be without its rule.
const SKIPPED_OF: u64 = 500;

/// Records that tell of a conversation, not of a packet that was lost: only scenarios
/// that speak of them are about them.
const OF_CONVERSATIONS: [EventKind; 3] = [
    EventKind::Verdict,
    EventKind::IcmpSent,
    EventKind::IcmpReceived,
];

/// How many records a complaint shows.
const NEAREST: usize = 3;

/// A line of droptrace's output.
pub(super) struct Record {
    pub(super) event: Event,
    pub(super) value: Value,
}

/// What a scenario came to.
#[derive(Default)]
pub struct Judgement {
    /// What is wrong; empty if nothing is.
    pub problems: Vec<String>,
    /// Packets without their rule where nftables' functions are watched, more of them
    /// than may be: the kernel has skipped a program, or something is wrong.
    pub skipped: u64,
}

/// What is wrong.
pub fn judge(scenario: &Scenario, seen: &Seen, doctor: &Doctor) -> Judgement {
    let mut problems = Vec::new();
    let mut skipped = 0;
    let code = scenario.exit();
    if seen.printed.code != code {
        problems.push(format!(
            "droptrace ended with code {:?}, expected {code:?}",
            seen.printed.code
        ));
    }
    let mut records = Vec::new();
    for line in seen.printed.stdout.lines() {
        match parse(line) {
            Ok(record) => records.push(record),
            Err(error) => problems.push(format!("{error:#}: {line}")),
        }
    }
    if !seen.printed.stdout.is_empty() && !seen.printed.stdout.ends_with('\n') {
        problems.push("the last line of droptrace's output is cut off".to_owned());
    }
    for (name, number) in &seen.truths {
        match scenario.truth[name].is {
            Some(wanted) if wanted != *number => problems.push(format!(
                "the traffic did not do what it should: truth.{name} is {number}, not {wanted}"
            )),
            None if *number == 0 => problems.push(format!("it did not happen: truth.{name} is 0")),
            _ => {}
        }
    }
    // Of the whole machine: a program runs for every packet that is dropped on it.
    let told: u64 = records.iter().map(|record| record.event.packets).sum();
    // None at all means that the statistics were not kept.
    if let Some(runs) = seen.runs.filter(|runs| *runs > told || *runs == 0) {
        problems.push(format!(
            "droptrace's programs ran {runs} times, for {told} packets that its records tell of"
        ));
    }
    let lost = records
        .iter()
        .filter_map(|record| record.event.loss.as_ref());
    let lost = lost.filter(|loss| loss.why == LossCause::Recursion);
    let lost: u64 = lost.map(|loss| loss.count).sum();
    match seen.skipped {
        Some(0) => {
            problems.push("it did not happen: no program was kept from a packet".to_owned());
        }
        Some(skipped) if lost > skipped / 2 => problems.push(format!(
            "the kernel kept the program from {skipped} packets, of which {lost} are lost"
        )),
        _ => {}
    }
    if !scenario.speaks_of(EventKind::Verdict) {
        let is_verdict = |record: &&Record| record.event.kind == EventKind::Verdict;
        let told = records.iter().filter(is_verdict);
        let own: Vec<&Record> = told.filter(|record| concerns(record, seen)).collect();
        problems.extend(verdicts::problems(&scenario.verdicts, &own, doctor));
    }
    records.retain(|record| {
        let kind = record.event.kind;
        !OF_CONVERSATIONS.contains(&kind) || scenario.speaks_of(kind)
    });
    let (records, elsewhere): (Vec<_>, Vec<_>) = records
        .into_iter()
        .partition(|record| concerns(record, seen));
    match compare(scenario, seen, &records, doctor) {
        Ok(more) => {
            problems.extend(more.problems);
            skipped = more.skipped;
        }
        Err(error) => problems.push(format!("{error:#}")),
    }
    if !problems.is_empty() {
        for record in elsewhere.iter().take(NEAREST) {
            problems.push(format!("not of these hosts: {}", record.value));
        }
        problems.push(format!(
            "droptrace's standard error:\n{}",
            seen.printed.stderr.trim_end()
        ));
    }
    Judgement { problems, skipped }
}

fn parse(line: &str) -> anyhow::Result<Record> {
    let event: Event = serde_json::from_str(line).context("no record by the schema")?;
    if event.schema != SCHEMA {
        bail!("schema is not {SCHEMA}");
    }
    Ok(Record {
        event,
        value: serde_json::from_str(line)?,
    })
}

/// Whether a record is about a namespace of the scenario (or about the tracer).
fn concerns(record: &Record, seen: &Seen) -> bool {
    if record.event.kind == EventKind::Loss {
        return true;
    }
    let netns = record.event.r#where.as_ref().and_then(|place| place.netns);
    // Where nothing was seen, there is no place that a verdict could name.
    if record.event.kind == EventKind::Verdict && netns.is_none() {
        return true;
    }
    netns.is_some_and(|inode| seen.netns.values().any(|own| *own == u64::from(inode)))
}

fn compare(
    scenario: &Scenario,
    seen: &Seen,
    records: &[Record],
    doctor: &Doctor,
) -> anyhow::Result<Judgement> {
    let mut problems = Vec::new();
    let mut all_skipped = 0;
    let mut patterns = Vec::new();
    for expect in &scenario.expect {
        let mut pattern = pattern(&expect.record, expect.host.as_deref(), seen, doctor)?;
        let named = match &expect.rule {
            Some(name) => naming(&pattern, name, seen)?,
            None => pattern.clone(),
        };
        if let Some(denial) = doctor.denial(&expect.ability) {
            problems.extend(against(&denial, &named, records));
            continue;
        }
        let of_rule = expect.ability_of_rule();
        let promise = doctor.promise(&expect.ability) + &doctor.promise(&of_rule);
        if let Some(denial) = doctor.denial(&of_rule) {
            problems.extend(against(&denial, &named, records));
            pattern.as_object_mut().map(|fields| fields.remove("rule"));
        } else {
            pattern = named;
            if expect.rule.is_some() {
                let rule = &mut pattern["rule"];
                if rule.get("via").is_none() {
                    rule["via"] = doctor.rules_are_found_by().into();
                }
            }
        }
        let counted = records.iter().filter(|record| {
            matches(&pattern, record) || (expect.with_loss && is_lost_packets(&record.event))
        });
        let (mut packets, mut bytes) = sum(counted);
        if expect.rule.is_some() && doctor.rules_are_watched_for() {
            // A packet is without its rule where the kernel skipped a program.
            let unnamed = unnamed(&pattern);
            let skipped = records.iter().filter(|record| matches(&unnamed, record));
            let (more_packets, more_bytes) = sum(skipped);
            if more_packets * SKIPPED_OF > packets {
                all_skipped += more_packets;
            }
            packets += more_packets;
            bytes += more_bytes;
            patterns.push(unnamed);
        }
        let counts = [
            (packets, "packets", Some(&expect.packets)),
            (bytes, "bytes", expect.bytes.as_ref()),
        ];
        for (number, unit, count) in counts {
            let truth = count.and_then(Count::truth).map(|name| seen.truths[name]);
            if let Some(objection) = count.and_then(|count| count.objection(number, truth)) {
                let near = nearest(&pattern, records);
                problems.push(format!(
                    "expected {pattern}: {number} {unit}, {objection}{promise}{near}"
                ));
            }
        }
        patterns.push(pattern);
    }
    for absent in &scenario.absent {
        let pattern = pattern(&absent.record, absent.host.as_deref(), seen, doctor)?;
        for record in records.iter().filter(|record| matches(&pattern, record)) {
            problems.push(format!(
                "must not be there ({}): {}",
                absent.why, record.value
            ));
        }
    }
    for allow in &scenario.allow {
        if doctor.denial(&allow.ability).is_none() {
            patterns.push(pattern(&allow.record, allow.host.as_deref(), seen, doctor)?);
        }
    }
    let counts_loss = scenario.expect.iter().any(|expect| expect.with_loss);
    for record in records {
        let expected = match record.event.kind {
            EventKind::Loss if counts_loss || !is_lost_packets(&record.event) => true,
            _ => patterns.iter().any(|pattern| matches(pattern, record)),
        };
        if !expected {
            problems.push(format!("nobody expected: {}", record.value));
        }
        if !says_how_it_knows(&record.event) {
            problems.push(format!(
                "the kernel gave no reason, but `derived` is not true: {}",
                record.value
            ));
        }
    }
    Ok(Judgement {
        problems,
        skipped: all_skipped,
    })
}

/// Packets and bytes of these records. A verdict, which stands for no packet, counts
/// as one.
fn sum<'a>(records: impl Iterator<Item = &'a Record>) -> (u64, u64) {
    records.fold((0, 0), |(packets, bytes), Record { event, .. }| {
        let more = match event.kind {
            EventKind::Verdict => 1,
            _ => event.packets,
        };
        (packets + more, bytes + event.bytes)
    })
}

/// The pattern of the same packets without their rule.
fn unnamed(pattern: &Value) -> Value {
    let mut unnamed = pattern.clone();
    unnamed["rule"] = serde_json::json!({ "handle": "(null)", "policy": "(null)" });
    unnamed
}

/// The records that match although doctor says that none can.
fn against(denial: &str, pattern: &Value, records: &[Record]) -> Vec<String> {
    let shown = records.iter().filter(|record| matches(pattern, record));
    shown
        .map(|record| format!("{denial}, but: {}", record.value))
        .collect()
}

/// A pattern whose record must name this rule. What the scenario itself says of
/// the rule goes first.
fn naming(pattern: &Value, name: &str, seen: &Seen) -> anyhow::Result<Value> {
    let mut rule = seen.rules[name]
        .pattern()
        .with_context(|| format!("rule.{name}"))?;
    let own = pattern.get("rule").and_then(Value::as_object);
    for (field, wanted) in own.into_iter().flatten() {
        rule[field] = wanted.clone();
    }
    let mut named = pattern.clone();
    named["rule"] = rule;
    Ok(named)
}

fn matches(pattern: &Value, record: &Record) -> bool {
    differences(pattern, &record.value).is_empty()
}

/// Whether the class of a drop, or of a reset that was sent, is told as derived where the
/// kernel gave no reason for it.
fn says_how_it_knows(event: &Event) -> bool {
    let Some(reason) = &event.reason else {
        return true;
    };
    let is_named = !matches!(reason.name.as_deref(), None | Some("NOT_SPECIFIED"));
    match event.kind {
        EventKind::Drop => is_named || reason.derived,
        EventKind::ResetSent => is_named || reason.derived || reason.class == Class::Unknown,
        _ => true,
    }
}

fn is_lost_packets(event: &Event) -> bool {
    event
        .loss
        .as_ref()
        .is_some_and(|loss| loss.what == LossOf::Packets)
}

/// A pattern with what is known only now filled in.
fn pattern(
    record: &toml::Table,
    host: Option<&str>,
    seen: &Seen,
    doctor: &Doctor,
) -> anyhow::Result<Value> {
    let mut pattern = serde_json::to_value(record)?;
    fill_in(&mut pattern, seen)?;
    if let Some(host) = host {
        pattern["where"]["netns"] = seen.netns[host].into();
    }
    // Where the kernel gives no reasons, the class is expected all the same.
    let is_drop = pattern.get("kind").is_none_or(|kind| kind == "drop");
    let has_reasons = doctor.status(Ability::DropReasons) == Status::Yes;
    if is_drop && !has_reasons && pattern.pointer("/reason/name").is_some() {
        pattern["reason"]["name"] = Value::Null;
    }
    Ok(pattern)
}

/// Puts what is meant in the place of `"(pid of NAME)"` (of a process) and
/// `"(handle of NAME)"`, `"(number of NAME)"`, `"(text of NAME)"` (of a rule), and
/// numbers in that of each `(truth NAME)` in a text.
fn fill_in(pattern: &mut Value, seen: &Seen) -> anyhow::Result<()> {
    match pattern {
        Value::String(text) => {
            for (name, number) in &seen.truths {
                *text = text.replace(&format!("(truth {name})"), &number.to_string());
            }
            let words = text
                .strip_prefix('(')
                .and_then(|rest| rest.strip_suffix(')'))
                .and_then(|inner| inner.split_once(" of "));
            if let Some((what, name)) = words {
                *pattern = match what {
                    "pid" => seen.pids.get(name).map(|pid| (*pid).into()),
                    _ => seen.rules.get(name).and_then(|rule| rule.field(what)),
                }
                .with_context(|| format!("there is no {what} of {name}"))?;
            }
        }
        Value::Array(items) => {
            for item in items {
                fill_in(item, seen)?;
            }
        }
        Value::Object(fields) => {
            for field in fields.values_mut() {
                fill_in(field, seen)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The records that come nearest to a pattern, with what differs.
fn nearest(pattern: &Value, records: &[Record]) -> String {
    let mut ranked: Vec<(Vec<String>, &Record)> = records
        .iter()
        .map(|record| (differences(pattern, &record.value), record))
        .collect();
    ranked.sort_by_key(|(differences, _)| differences.len());
    if ranked.is_empty() {
        return "; there is no record".to_owned();
    }
    ranked
        .iter()
        .take(NEAREST)
        .fold(String::new(), |text, (differences, record)| {
            let verdict = if differences.is_empty() {
                "matches".to_owned()
            } else {
                differences.join("; ")
            };
            format!("{text}\n  near: {}\n        {verdict}", record.value)
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use droptrace::doctor::{self, Report, Row};

    use super::*;
    use crate::run::rule::Listed;
    use crate::run::tracer::Printed;
    use crate::scenario::parse;

    const SCENARIO: &str = r#"
proves = "p"
topology = "alone"
[[traffic]]
in = "server"
wait_ms = 1
[rule.first]
in = "server"
nft = "inet filter input"
[[expect]]
host = "server"
packets = 3
record = { kind = "drop", rule.comment = "(null)" }
rule = "first"
"#;

    const LISTING: &str = "\t\tudp dport 5 counter name \"first\" drop # handle 4\n";

    /// What is wrong with three drops that name the rule of this handle, or none.
    fn complaints(named: Option<u64>, promised: Status) -> Vec<String> {
        let rule = named.map(|handle| {
            serde_json::json!({
                "engine": "nft", "family": "inet", "table": "filter", "chain": "input",
                "table_handle": 1, "chain_handle": 1, "handle": handle, "position": 1,
                "text": "udp dport 5 counter name \"first\" drop", "comment": null,
                "verdict": "drop", "as_of": "drop", "via": "frame", "exact": true,
            })
        });
        let record = serde_json::json!({
            "schema": SCHEMA, "kind": "drop", "time": "t", "first_seen": "t", "flow": null,
            "packets": 3, "bytes": 99, "reason": null, "rule": rule,
            "where": {
                "function": null, "offset": null, "hook": null, "netns": 7, "ifname": null,
                "ifindex": null,
            },
            "process": null, "conntrack": null, "tcp": null, "advice": null,
        });
        judged(SCENARIO, &record, promised)
    }

    /// What is wrong with the one record that a scenario led to.
    fn judged(scenario: &str, record: &Value, promised: Status) -> Vec<String> {
        let seen = Seen {
            printed: Printed {
                stdout: format!("{record}\n"),
                stderr: String::new(),
                code: Some(0),
            },
            truths: BTreeMap::new(),
            runs: None,
            skipped: None,
            rules: BTreeMap::from([(
                "first".to_owned(),
                Listed::in_input(LISTING, "counter name"),
            )]),
            netns: BTreeMap::from([("server".to_owned(), 7)]),
            pids: BTreeMap::new(),
        };
        let doctor = Doctor::new(Report {
            schema: doctor::SCHEMA.to_owned(),
            kernel: "k".to_owned(),
            can_trace: true,
            obstacles: Vec::new(),
            abilities: vec![Row {
                ability: Ability::NetfilterRule,
                label: "l".to_owned(),
                status: promised,
                means: None,
                remedy: None,
            }],
        });
        judge(&parse(scenario).unwrap(), &seen, &doctor).problems
    }

    #[test]
    fn the_rule_must_be_the_one_that_is_listed() {
        assert_eq!(complaints(Some(4), Status::Yes), Vec::<String>::new());
        for named in [Some(5), None] {
            let complaints = complaints(named, Status::Yes);
            assert!(
                complaints[0].contains("0 packets, expected 3"),
                "{complaints:?}"
            );
        }
    }

    #[test]
    fn where_doctor_denies_rules_the_drop_counts_and_no_rule_may_be_named() {
        assert_eq!(complaints(None, Status::No), Vec::<String>::new());
        let complaints = complaints(Some(4), Status::No);
        assert!(
            complaints[0].starts_with("doctor denies netfilter_rule"),
            "{complaints:?}"
        );
    }

    /// What is wrong with a verdict of this code, where a scenario has this expectation.
    fn of_verdict(expect: &str, code: &str) -> Vec<String> {
        of_verdict_in(SCENARIO, expect, code)
    }

    fn of_verdict_in(scenario: &str, expect: &str, code: &str) -> Vec<String> {
        let (head, _) = scenario.split_once("[rule.first]").unwrap();
        let record = serde_json::json!({
            "schema": SCHEMA, "kind": "verdict", "time": "t", "first_seen": "t", "flow": null,
            "packets": 0, "bytes": 0, "reason": null, "rule": null, "where": null,
            "process": null, "conntrack": null, "tcp": null, "advice": null,
            "verdict": {
                "outcome": "timeout", "code": code, "explanation": "e", "evidence": ["a", "b"],
                "confidence": "inferred", "conversations": 1, "affected": 1,
            },
        });
        judged(&format!("{head}{expect}"), &record, Status::Yes)
    }

    #[test]
    fn verdicts_are_counted_where_a_scenario_speaks_of_them() {
        let expect = "[[expect]]\npackets = 1\nrecord = { kind = \"verdict\", verdict = \
            { code = \"NO_ANSWER\", evidence = { contains = \"b\" } } }";
        assert_eq!(of_verdict(expect, "NO_ANSWER"), Vec::<String>::new());
        let wrong = of_verdict(expect, "PATH_LOSS");
        assert!(wrong[0].contains("0 packets, expected 1"), "{wrong:?}");
        assert!(wrong[1].starts_with("nobody expected"), "{wrong:?}");
    }

    #[test]
    fn elsewhere_the_codes_that_are_listed_are_told_and_no_others() {
        let with = |verdicts: &str| {
            let head = SCENARIO.split_once("[[traffic]]").unwrap().0;
            let listed = format!("{head}verdicts = [{verdicts}]\n[[traffic]]");
            let silent = "[[expect]]\npackets = 0\nrecord = { kind = \"drop\" }";
            of_verdict_in(
                &SCENARIO.replacen(&format!("{head}[[traffic]]"), &listed, 1),
                silent,
                "PATH_LOSS",
            )
        };
        let denied = "netfilter_hook";
        for right in [
            "\"PATH_LOSS\"",
            "{ code = \"PATH_LOSS\", ability = \"netfilter_rule\" }",
            "{ code = \"PATH_LOSS\", why = \"it depends\" }",
            &format!("{{ code = \"PATH_LOSS\", without = \"{denied}\" }}"),
            &format!("\"PATH_LOSS\", {{ code = \"NO_ANSWER\", ability = \"{denied}\" }}"),
            "\"PATH_LOSS\", { code = \"NO_ANSWER\", why = \"it depends\" }",
        ] {
            assert_eq!(with(right), Vec::<String>::new(), "{right}");
        }
        for (wrong, complaint) in [
            ("", "nobody expected verdict PATH_LOSS"),
            ("\"NO_ANSWER\"", "nobody expected verdict PATH_LOSS"),
            ("\"PATH_LOSS\", \"NO_ANSWER\"", "expected verdict NO_ANSWER"),
            (
                &format!("{{ code = \"PATH_LOSS\", ability = \"{denied}\" }}"),
                "nobody expected verdict PATH_LOSS",
            ),
            (
                "{ code = \"PATH_LOSS\", without = \"netfilter_rule\" }",
                "nobody expected verdict PATH_LOSS",
            ),
            (
                &format!("\"PATH_LOSS\", {{ code = \"NO_ANSWER\", without = \"{denied}\" }}"),
                "expected verdict NO_ANSWER",
            ),
        ] {
            let complaints = with(wrong);
            let is_there = complaints.iter().any(|told| told.starts_with(complaint));
            assert!(is_there, "{wrong}: {complaints:?}");
        }
    }
}
