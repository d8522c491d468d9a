//! The words of single parts of a line.

use super::*;
use crate::output::text;

/// The line of one record, its column gaps made single.
fn line(changes: &serde_json::Value) -> String {
    let text = show(options(None), &[vec![event(changes)]]);
    let line = text.lines().nth(1).expect("a line after the titles");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// All that is printed for one record.
fn all(changes: &serde_json::Value) -> String {
    show(options(None), &[vec![event(changes)]])
}

#[test]
fn a_drop_without_a_reason_is_told_by_its_function() {
    let line = line(&json!({"reason": {"name": null, "code": null, "class": "unknown"}}));
    assert!(line.contains("DROP nft_do_chain tcp"), "{line}");
    assert!(line.ends_with("nft_do_chain+0x4d2"), "{line}");
}

#[test]
fn a_record_without_a_name_and_a_function_is_told_by_its_class_or_kind() {
    let without = |kind: &str| {
        line(&json!({
            "kind": kind, "reason": {"name": null, "code": null, "class": "peer"},
            "where": {"function": null, "offset": null},
            "tcp": {"flags": "PA", "seq": 1, "ack": 1, "state": "ESTABLISHED"}
        }))
    };
    assert!(without("reset_received").contains("RST IN the other end tcp"));
    let line = without("retransmit");
    assert!(line.contains("RETRANS no answer in time tcp"), "{line}");
    assert!(line.contains(":443 PSH+ACK in eth0"), "{line}");
    assert!(line.ends_with("ESTABLISHED"), "{line}");
}

#[test]
fn packets_without_a_flow_say_why() {
    let flowless = |more: serde_json::Value| {
        let mut changes = json!({"flow": null});
        merge(&mut changes, &more);
        line(&changes)
    };
    let undecoded = |why: &str, ethertype: Option<&str>, socket: Option<&str>| {
        flowless(json!({"undecoded": {"why": why, "ethertype": ethertype, "socket": socket}}))
    };
    assert!(undecoded("not_ip", Some("0x0806"), None).contains("DROP not IP: ARP eth0"));
    assert!(undecoded("not_ip", Some("0x1234"), None).contains("DROP not IP: 0x1234 eth0"));
    assert!(undecoded("message", None, Some("unix")).contains("message of a unix socket eth0"));
    assert!(undecoded("paged", None, None).contains("not decoded: headers out of reach eth0"));
    assert!(
        flowless(json!({"flows_unlisted": 1234}))
            .contains("many flows, not listed one by one (at least 1,234 flows) eth0")
    );
}

#[test]
fn rules_of_all_engines_are_told() {
    let rule = |rule: serde_json::Value| {
        let text = all(&json!({"rule": rule}));
        let rule = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("rule: "));
        rule.map(ToOwned::to_owned)
    };
    let iptables = json!({
        "engine": "iptables", "table": "filter", "chain": "INPUT", "number": 3,
        "text": "-A INPUT -j DROP", "exact": false
    });
    assert_eq!(
        rule(iptables).as_deref(),
        Some("probably iptables filter INPUT rule 3: -A INPUT -j DROP")
    );
    let policy = json!({
        "engine": "nft", "family": "ip", "table": "f", "chain": "c", "handle": null,
        "policy": true, "exact": true
    });
    assert_eq!(rule(policy).as_deref(), Some("nft ip f c policy"));
    let program = json!({"engine": "bpf", "prog_id": 12, "name": "guard", "attach": "xdp"});
    assert_eq!(rule(program).as_deref(), Some("bpf guard xdp program 12"));
    assert_eq!(rule(json!(null)), None);
    assert_eq!(rule(json!(["not", "a", "rule"])), None);
}

#[test]
fn another_flow_of_the_same_rule_names_it_again_without_its_text() {
    let mut other = by_rule();
    other.flow.as_mut().expect("a flow").dport = Some(444);
    let text = show(options(None), &[vec![by_rule()], vec![other]]);
    assert!(
        text.ends_with("\n              rule: nft inet filter input handle 5\n"),
        "{text}"
    );
}

#[test]
fn the_own_namespace_goes_without_saying() {
    let own = Options {
        netns: Some(4_026_532_281),
        ..options(None)
    };
    assert!(!show(own, &[vec![by_rule()]]).contains("netns"));
    let other = Options {
        netns: Some(1),
        ..options(None)
    };
    assert!(show(other, &[vec![by_rule()]]).contains("netns 4026532281"));
}

#[test]
fn an_address_longer_than_the_line_stays_whole() {
    let long = "2001:db8:1111:2222:3333:4444:5555:6666";
    let record = event(
        &json!({"flow": {"family": "ipv6", "src": long, "dst": "2001:db8::1", "fragment": true}}),
    );
    let text = show(options(Some(40)), &[vec![record]]);
    assert!(text.contains(&format!("  tcp [{long}]:53412\n")), "{text}");
}

#[test]
fn numbers_and_times_are_written_for_people() {
    let span = |millis| text::span(std::time::Duration::from_millis(millis));
    assert_eq!(
        [0, 999, 1_000, 1_234_567].map(text::number),
        ["0", "999", "1,000", "1,234,567"]
    );
    assert_eq!(
        [500, 3_000, 30_400, 67_000, 120_000, 3_725_000, 7_200_000].map(span),
        [
            "0.5 s",
            "3 s",
            "30 s",
            "1 min 7 s",
            "2 min",
            "1 h 2 min",
            "2 h"
        ]
    );
}

#[test]
fn the_first_locale_variable_that_is_set_decides() {
    let utf8 = |all, ctype, lang| text::is_utf8_locale([all, ctype, lang]);
    assert!(utf8(None, None, Some("de_DE.UTF-8")));
    assert!(utf8(Some(""), Some("C.utf8"), Some("C")));
    assert!(!utf8(Some("C"), None, Some("de_DE.UTF-8")));
    assert!(!utf8(None, None, None));
}
