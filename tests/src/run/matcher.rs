//! Whether a record is what a pattern describes.
//!
//! A pattern names some fields of a record and what they must be:
//! a value, a list of allowed values, `"(null)"`, `"(any)"` (not null),
//! `{ at_least = N }`, `{ contains = "TEXT" }` (of a list: one of its texts, in tables too),
//! `{ is = [VALUE, …] }` (this list), `{ reads = "TEXT" }` (figures that go on
//! counting aside) or a table of further fields.

use serde_json::{Map, Value};

/// Where and how `record` differs from `pattern`; empty if it matches.
pub fn differences(pattern: &Value, record: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    compare(pattern, record, "", &mut differences);
    differences
}

fn compare(pattern: &Value, actual: &Value, path: &str, differences: &mut Vec<String>) {
    if let Value::Object(fields) = pattern {
        if let Some(matches) = operator(fields, actual) {
            if !matches {
                differences.push(format!("{path}: {actual}, wanted {pattern}"));
            }
            return;
        }
        for (name, wanted) in fields {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            let found = actual.get(name).unwrap_or(&Value::Null);
            compare(wanted, found, &path, differences);
        }
    } else if !matches(pattern, actual) {
        differences.push(format!("{path}: {actual}, wanted {pattern}"));
    }
}

/// The outcome of a table that is an operator, not a table of fields.
fn operator(fields: &Map<String, Value>, actual: &Value) -> Option<bool> {
    let (name, wanted) = fields.iter().next().filter(|_| fields.len() == 1)?;
    match name.as_str() {
        "at_least" => Some(
            actual
                .as_u64()
                .zip(wanted.as_u64())
                .is_some_and(|(is, least)| is >= least),
        ),
        "is" => Some(wanted == actual),
        "contains" => Some(wanted.as_str().is_some_and(|part| contains(actual, part))),
        "reads" => Some(
            wanted
                .as_str()
                .zip(actual.as_str())
                .is_some_and(|(wanted, actual)| still(wanted) == still(actual)),
        ),
        _ => None,
    }
}

/// Of a list or a table, whether one of its texts does.
fn contains(actual: &Value, part: &str) -> bool {
    match actual {
        Value::String(text) => text.contains(part),
        Value::Array(items) => items.iter().any(|item| contains(item, part)),
        Value::Object(fields) => fields.values().any(|field| contains(field, part)),
        _ => false,
    }
}

/// A rule's text without the figures of its counters (`packets 5 bytes 500`) and
/// quotas (`used 2 kbytes`, which is not there while it is nothing): they are those
/// of the moment when it was listed.
fn still(text: &str) -> Vec<&str> {
    let mut words = text.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match (word, kept.last()) {
            ("used", _) => drop(words.by_ref().take(2).last()),
            (figure, Some(&("packets" | "bytes"))) if figure.parse::<u64>().is_ok() => {}
            _ => kept.push(word),
        }
    }
    kept
}

fn matches(pattern: &Value, actual: &Value) -> bool {
    match pattern {
        Value::String(text) if text == "(null)" => actual.is_null(),
        Value::String(text) if text == "(any)" => !actual.is_null(),
        Value::Array(alternatives) => alternatives.iter().any(|pattern| matches(pattern, actual)),
        _ => pattern == actual,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::differences;

    #[test]
    fn a_pattern_may_leave_fields_out() {
        let record = json!({"kind": "drop", "flow": {"dport": 443, "src": "10.0.0.2"}});
        assert!(differences(&json!({"flow": {"dport": 443}}), &record).is_empty());
    }

    #[test]
    fn a_difference_is_told_with_its_path() {
        let record = json!({"flow": {"dport": 443}});
        assert_eq!(
            differences(&json!({"flow": {"dport": 80}}), &record),
            ["flow.dport: 443, wanted 80"]
        );
    }

    #[test]
    fn a_list_is_a_choice() {
        let pattern = json!({"name": ["NO_SOCKET", "(null)"]});
        assert!(differences(&pattern, &json!({"name": "NO_SOCKET"})).is_empty());
        assert!(differences(&pattern, &json!({"name": null})).is_empty());
        assert!(!differences(&pattern, &json!({"name": "TCP_RESET"})).is_empty());
    }

    #[test]
    fn an_absent_field_is_null() {
        assert!(differences(&json!({"flow": "(null)"}), &json!({})).is_empty());
        assert!(!differences(&json!({"flow": "(any)"}), &json!({})).is_empty());
        assert!(!differences(&json!({"flow": {"dport": 443}}), &json!({"flow": null})).is_empty());
    }

    #[test]
    fn operators() {
        let record = json!({"n": 5, "text": "tcp dport 443 drop"});
        assert!(differences(&json!({"n": {"at_least": 5}}), &record).is_empty());
        assert!(!differences(&json!({"n": {"at_least": 6}}), &record).is_empty());
        assert!(differences(&json!({"text": {"contains": "443"}}), &record).is_empty());
        assert!(!differences(&json!({"text": {"contains": "80"}}), &record).is_empty());
        let list = json!({"n": ["a", "b"]});
        assert!(differences(&json!({"n": {"is": ["a", "b"]}}), &list).is_empty());
        assert!(!differences(&json!({"n": {"is": ["a"]}}), &list).is_empty());
        let record = json!({"stack": ["nf_hook_slow+0x41", "ip_local_deliver+0xf0"]});
        assert!(differences(&json!({"stack": {"contains": "ip_local"}}), &record).is_empty());
        assert!(!differences(&json!({"stack": {"contains": "ip_rcv"}}), &record).is_empty());
        let record = json!({"timeline": [{"time": "now", "what": "SYN left"}]});
        assert!(differences(&json!({"timeline": {"contains": "SYN"}}), &record).is_empty());
        assert!(!differences(&json!({"timeline": {"contains": "RST"}}), &record).is_empty());
    }

    #[test]
    fn figures_that_go_on_counting_are_left_aside() {
        let pattern = json!({"text": {"reads": "udp dport 5 counter packets 0 bytes 0 drop"}});
        let is = |text: &str| differences(&pattern, &json!({"text": text})).is_empty();
        assert!(is("udp dport 5 counter packets 12 bytes 1200 drop"));
        assert!(!is("udp dport 6 counter packets 12 bytes 1200 drop"));
        assert!(!is("udp dport 5 counter packets 12 drop"));
        assert!(!is("udp dport 5 drop"));
        let pattern = json!({"text": {"reads": "quota over 3 kbytes drop"}});
        let is = |text: &str| differences(&pattern, &json!({"text": text})).is_empty();
        assert!(is("quota over 3 kbytes used 7 kbytes drop"));
        assert!(is("quota over 3 kbytes used 12 bytes drop"));
        assert!(!is("quota over 4 kbytes used 12 bytes drop"));
    }

    #[test]
    fn types_are_not_mixed() {
        assert!(!differences(&json!({"n": "5"}), &json!({"n": 5})).is_empty());
    }
}
