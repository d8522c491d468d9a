//! How the rule that decided is written.

use serde_json::Value;

/// Where the rule stands: `nft inet filter input handle 5`, with `probably`
/// before it where that is inferred. Not safe to print.
///
/// It leaves out the rule's text, which has counters in it: the place stays
/// the same while packets go by.
pub(super) fn place(rule: &Value) -> Option<String> {
    let engine = text(rule, "engine")?;
    let mut words = Vec::new();
    if rule.get("exact") == Some(&Value::Bool(false)) {
        words.push("probably".into());
    }
    words.push(engine);
    for field in [
        "family", "table", "chain", "type", "prefix", "name", "attach",
    ] {
        words.extend(text(rule, field));
    }
    for (field, label) in [
        ("handle", "handle"),
        ("number", "rule"),
        ("prog_id", "program"),
    ] {
        words.extend(text(rule, field).map(|value| format!("{label} {value}")));
    }
    if rule.get("policy") == Some(&Value::Bool(true)) {
        words.push("policy".into());
    }
    Some(words.join(" "))
}

/// [`place`] with the rule's text. Not safe to print.
pub(super) fn whole(rule: &Value) -> Option<String> {
    let place = place(rule)?;
    Some(match text(rule, "text") {
        Some(text) => format!("{place}: {text}"),
        None => place,
    })
}

fn text(rule: &Value, field: &str) -> Option<String> {
    match rule.get(field)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
