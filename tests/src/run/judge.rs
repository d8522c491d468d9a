//! Compares what droptrace printed with what the scenario expects.

use anyhow::{Context as _, bail};
use droptrace::doctor::{Ability, Status};
use droptrace::event::{Event, EventKind, LossOf, SCHEMA};
use serde_json::Value;

use super::doctor::Doctor;
use super::matcher::differences;
use super::stage::Seen;
use crate::scenario::{Count, Scenario};

/// How many records a complaint shows.
const NEAREST: usize = 3;

/// A line of droptrace's output.
struct Record {
    event: Event,
    value: Value,
}

/// What is wrong; empty if nothing is.
pub fn problems(scenario: &Scenario, seen: &Seen, doctor: &Doctor) -> Vec<String> {
    let mut problems = Vec::new();
    if seen.printed.code != Some(0) {
        problems.push(format!(
            "droptrace ended with code {:?}, expected 0",
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
    let (records, elsewhere): (Vec<_>, Vec<_>) = records
        .into_iter()
        .partition(|record| concerns(record, seen));
    match compare(scenario, seen, &records, doctor) {
        Ok(more) => problems.extend(more),
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
    problems
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
    netns.is_some_and(|inode| seen.netns.values().any(|own| *own == u64::from(inode)))
}

fn compare(
    scenario: &Scenario,
    seen: &Seen,
    records: &[Record],
    doctor: &Doctor,
) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut patterns = Vec::new();
    for expect in &scenario.expect {
        let pattern = pattern(&expect.record, expect.host.as_deref(), seen, doctor)?;
        if let Some(denial) = doctor.denial(&expect.ability) {
            let shown = records.iter().filter(|record| matches(&pattern, record));
            problems.extend(shown.map(|record| format!("{denial}, but: {}", record.value)));
            continue;
        }
        let counted = records.iter().filter(|record| {
            matches(&pattern, record) || (expect.with_loss && is_lost_packets(&record.event))
        });
        let (packets, bytes) = counted.fold((0, 0), |(packets, bytes), record| {
            (packets + record.event.packets, bytes + record.event.bytes)
        });
        let counts = [
            (packets, "packets", Some(&expect.packets)),
            (bytes, "bytes", expect.bytes.as_ref()),
        ];
        for (number, unit, count) in counts {
            let truth = count.and_then(Count::truth).map(|name| seen.truths[name]);
            if let Some(objection) = count.and_then(|count| count.objection(number, truth)) {
                let near = nearest(&pattern, records);
                problems.push(format!(
                    "expected {pattern}: {number} {unit}, {objection}{}{near}",
                    doctor.promise(&expect.ability)
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
            EventKind::Loss => counts_loss || !is_lost_packets(&record.event),
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
    Ok(problems)
}

fn matches(pattern: &Value, record: &Record) -> bool {
    differences(pattern, &record.value).is_empty()
}

/// Whether the class of a drop is told as derived where the kernel gave no
/// reason for it.
fn says_how_it_knows(event: &Event) -> bool {
    let Some(reason) = &event.reason else {
        return true;
    };
    let is_named = !matches!(reason.name.as_deref(), None | Some("NOT_SPECIFIED"));
    event.kind != EventKind::Drop || is_named || reason.derived
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

/// Puts the identifier of a process in the place of `"(pid of NAME)"`, and numbers
/// in that of each `(truth NAME)` in a text.
fn fill_in(pattern: &mut Value, seen: &Seen) -> anyhow::Result<()> {
    match pattern {
        Value::String(text) => {
            for (name, number) in &seen.truths {
                *text = text.replace(&format!("(truth {name})"), &number.to_string());
            }
            let name = text
                .strip_prefix("(pid of ")
                .and_then(|rest| rest.strip_suffix(')'));
            if let Some(name) = name {
                let pid = seen
                    .pids
                    .get(name)
                    .with_context(|| format!("no traffic is named {name}"))?;
                *pattern = (*pid).into();
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
