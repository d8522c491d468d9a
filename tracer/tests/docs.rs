//! The references of what droptrace prints agree with the code.
//!
//! `UPDATE_DOCS=1 cargo test --package droptrace --test docs` writes the schemas
//! anew.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use droptrace::{doctor::Report, event::Event};
use serde_json::Value;

fn docs(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", file]
        .iter()
        .collect()
}

fn schema() -> Value {
    schemars::schema_for!(Event).to_value()
}

fn doctors_schema() -> Value {
    schemars::schema_for!(Report).to_value()
}

#[test]
fn the_schema_files_are_those_of_the_code() {
    for (file, schema) in [
        ("events.schema.json", schema()),
        ("doctor.schema.json", doctors_schema()),
    ] {
        let text = format!("{schema:#}\n");
        let path = docs(file);
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap();
        assert!(
            written == text,
            "docs/{file} is not up to date; write it with UPDATE_DOCS=1"
        );
    }
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

/// Whether a document names every field and value of a schema, more than `least`.
fn names_all_of(document: &str, schema: &Value, least: usize) {
    let text = fs::read_to_string(docs(document)).unwrap();
    let mut found = BTreeSet::new();
    names(schema, &mut found);
    assert!(found.len() > least, "{found:?}");
    let missing: Vec<_> = found
        .iter()
        .filter(|name| !text.contains(&format!("`{name}`")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/{document} does not name {missing:?}"
    );
}

#[test]
fn the_references_name_every_field_and_value() {
    names_all_of("events.md", &schema(), 60);
    names_all_of("kernels.md", &doctors_schema(), 30);
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
