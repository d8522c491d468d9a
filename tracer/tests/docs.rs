//! The reference of the record agrees with the code.
//!
//! `UPDATE_DOCS=1 cargo test --package droptrace --test docs` writes the schema
//! anew.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use droptrace::event::Event;
use serde_json::Value;

fn docs(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", file]
        .iter()
        .collect()
}

fn schema() -> Value {
    schemars::schema_for!(Event).to_value()
}

#[test]
fn the_schema_file_is_that_of_the_code() {
    let text = format!("{:#}\n", schema());
    let path = docs("events.schema.json");
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let file = fs::read_to_string(&path).unwrap();
    assert!(
        file == text,
        "docs/events.schema.json is not up to date; write it with UPDATE_DOCS=1"
    );
}

/// All names of fields and all values of enums in the schema.
fn names(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                found.extend(properties.keys().cloned());
            }
            if let Some(Value::String(constant)) = object.get("const") {
                found.insert(constant.clone());
            }
            if let Some(Value::Array(values)) = object.get("enum") {
                found.extend(
                    values
                        .iter()
                        .filter_map(|value| Some(value.as_str()?.to_owned())),
                );
            }
            object.values().for_each(|value| names(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

#[test]
fn the_reference_names_every_field_and_value() {
    let text = fs::read_to_string(docs("events.md")).unwrap();
    let mut found = BTreeSet::new();
    names(&schema(), &mut found);
    assert!(found.len() > 60, "{found:?}");
    let missing: Vec<_> = found
        .iter()
        .filter(|name| !text.contains(&format!("`{name}`")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/events.md does not name {missing:?}"
    );
}

#[test]
fn the_example_in_the_reference_is_a_valid_record() {
    let text = fs::read_to_string(docs("events.md")).unwrap();
    let blocks: Vec<&str> = text
        .split("```json\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let event: Event = serde_json::from_str(block).unwrap();
        let back = serde_json::to_value(&event).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(block).unwrap());
    }
}
