//! Names that others chose must not steer the terminal.

use super::*;
use crate::output::text::{is_hidden, safe};

/// A clear-screen sequence, line breaks, a C1 control, bidirectional controls,
/// a zero-width and a combining character.
const EVIL: &str = "\u{1b}[2J\r\n\t\u{9b}31m\u{202e}\u{2066}\u{200b}\u{301}\u{7f}é";

fn evil() -> Event {
    event(&json!({
        "flow": {"proto": EVIL},
        "reason": {"name": EVIL, "summary": EVIL},
        "rule": {
            "engine": "nft", "family": EVIL, "table": EVIL, "chain": EVIL, "table_handle": 1,
            "chain_handle": 1, "handle": 2, "text": EVIL, "comment": EVIL, "verdict": EVIL,
            "via": "frame", "exact": true
        },
        "where": {"ifname": EVIL, "function": EVIL, "hook": EVIL, "stack": [EVIL]},
        "process": {
            "pid": 1, "comm": EVIL, "uid": 0, "cgroup": format!("/a/{EVIL}.service"),
            "container": null
        },
        "conntrack": {"state": EVIL, "mark": 0, "zone": 0},
        "tcp": {"flags": EVIL, "seq": null, "ack": null, "state": EVIL},
        "advice": EVIL
    }))
}

#[test]
fn no_control_character_reaches_the_terminal() {
    let flowless = event(&json!({
        "flow": null, "undecoded": {"why": "not_ip", "ethertype": EVIL, "socket": EVIL}
    }));
    let totals = Totals {
        filter: Some(EVIL.into()),
        watched: vec![EVIL.into()],
        ..totals()
    };
    for unicode in [true, false] {
        let options = Options {
            unicode,
            ..options(None)
        };
        let events = [evil(), flowless.clone()];
        let mut text = show(options.clone(), &[events.to_vec()]);
        text.push_str(&sum_up(options.clone(), &events, &totals));
        text.push_str(&sum_up(options, &[], &totals));
        assert_eq!(text.chars().find(|c| *c != '\n' && is_hidden(*c)), None);
        assert_eq!(text.is_ascii(), !unicode);
    }
}

#[test]
fn escapes_show_what_was_there() {
    assert_eq!(
        safe(EVIL, true),
        r"\u{1b}[2J\r\n\t\u{9b}31m\u{202e}\u{2066}\u{200b}\u{301}\u{7f}é"
    );
    assert_eq!(safe("ngin\u{445} \"a\\b'", false), r#"ngin\u{445} "a\b'"#);
    assert_eq!(safe("日本 a", true), "日本 a");
}

#[test]
fn json_has_the_same_values_without_the_characters() {
    let json = Options {
        format: Format::Json,
        ..options(None)
    };
    let text = show(json, &[vec![evil()]]);
    assert_eq!(text.chars().find(|c| *c != '\n' && is_hidden(*c)), None);
    assert_eq!(text.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Event>(&text).expect("JSON"), evil());
}
