//! That `docs/verdicts.md` has every code.

use crate::event::Code;

#[test]
fn every_code_is_documented() {
    let page = include_str!("../../../../docs/verdicts.md");
    let schema = serde_json::to_value(schemars::schema_for!(Code)).expect("a schema");
    let codes: Vec<&str> = schema["oneOf"]
        .as_array()
        .expect("variants")
        .iter()
        .filter_map(|variant| variant["const"].as_str())
        .collect();
    assert_eq!(codes.len(), 26);
    for code in codes {
        let heading = format!("### `{code}`");
        assert_eq!(page.matches(&heading).count(), 1, "{code}");
    }
}
