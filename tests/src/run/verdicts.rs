//! Compares the codes of verdicts with those that a scenario lists.

use std::collections::BTreeSet;

use droptrace::doctor::Status;
use droptrace::event::Code;

use super::doctor::Doctor;
use super::judge::Record;
use crate::scenario::{Bound, Told};

/// How many verdicts of a code a complaint shows.
const SHOWN: usize = 2;

/// What is wrong with the verdicts about a scenario's hosts.
pub(super) fn problems(listed: &[Told], verdicts: &[&Record], doctor: &Doctor) -> Vec<String> {
    let code_of = |record: &Record| record.event.verdict.as_ref().map(|verdict| verdict.code);
    let told: BTreeSet<Code> = verdicts.iter().filter_map(|one| code_of(one)).collect();
    let holding = || listed.iter().filter(|listed| holds(listed, doctor));
    let mut problems = Vec::new();
    for listed in holding().filter(|listed| is_due(listed)) {
        let code = code(listed);
        if !told.contains(&code) {
            let told = if told.is_empty() {
                "there is none".to_owned()
            } else {
                told_as(&told)
            };
            problems.push(format!("expected verdict {}: {told}", name(code)));
        }
    }
    for told in &told {
        if holding().any(|listed| code(listed) == *told) {
            continue;
        }
        let such = verdicts.iter().filter(|one| code_of(one) == Some(*told));
        for verdict in such.take(SHOWN) {
            problems.push(format!(
                "nobody expected verdict {}: {}",
                name(*told),
                verdict.value
            ));
        }
    }
    problems
}

fn told_as(told: &BTreeSet<Code>) -> String {
    let names: Vec<String> = told.iter().map(|code| name(*code)).collect();
    format!("there is {}", names.join(", "))
}

fn code(listed: &Told) -> Code {
    match listed {
        Told::Always(code) | Told::Bound(Bound { code, .. }) => *code,
    }
}

/// Whether a verdict may have the code here.
fn holds(listed: &Told, doctor: &Doctor) -> bool {
    let Told::Bound(bound) = listed else {
        return true;
    };
    let lacks = |ability| doctor.status(ability) == Status::No;
    doctor.denial(&bound.ability).is_none() && bound.without.is_none_or(lacks)
}

/// Whether one must.
fn is_due(listed: &Told) -> bool {
    matches!(
        listed,
        Told::Always(_) | Told::Bound(Bound { why: None, .. })
    )
}

/// A code as records have it.
fn name(code: Code) -> String {
    let name = serde_json::to_value(code).ok();
    name.and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}
