//! The words of single parts of a line.

use super::*;
use crate::output::text;

/// The line of one record, its column gaps made single.
fn line(changes: &serde_json::Value) -> String {
    let text = show(options(None), &[vec![event(changes)]]);
    let line = text.lines().nth(1).expect("a line after the titles");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
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
fn a_namespace_is_told_by_its_name_and_its_container() {
    let line =
        |place: serde_json::Value| show(options(None), &[vec![event(&json!({"where": place}))]]);
    assert!(line(json!({"netns": 7})).contains(" netns 7 "));
    assert!(line(json!({"netns": 7, "netns_name": "blue"})).contains(" netns blue "));
    let text = line(json!({"netns": 7, "container": "0123abcd"}));
    assert!(text.contains(" netns 7 (0123abcd) "), "{text}");
}

/// A record of [`by_rule`] with `changes` made to its rule.
fn by(changes: &serde_json::Value) -> Event {
    let mut record = serde_json::to_value(by_rule()).expect("JSON");
    merge(&mut record["rule"], changes);
    serde_json::from_value(record).expect("a record")
}

/// The lines after the one of the flow.
fn told(record: Event) -> Vec<String> {
    let text = show(options(None), &[vec![record]]);
    text.lines()
        .skip(2)
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn a_rule_is_told_as_the_cause_then_its_text_then_what_to_do() {
    let list = "→ list it with: nft -a list chain inet filter input";
    assert_eq!(
        told(by_rule()),
        [
            "nft rule: inet filter input handle 5",
            "tcp dport 443 counter packets 3 bytes 180 drop",
            list,
        ]
    );
    let deep = json!({
        "chain": "deep", "path": ["input", "deep"], "iptables": "-A deep -p tcp --dport 443 -j DROP"
    });
    assert_eq!(
        told(by(&deep))[..4],
        [
            "nft rule: inet filter deep handle 5",
            "input → deep",
            "tcp dport 443 counter packets 3 bytes 180 drop",
            "-A deep -p tcp --dport 443 -j DROP",
        ]
    );
    let inferred = told(by(&json!({"exact": false, "text": null})));
    assert_eq!(
        inferred,
        ["probably nft rule: inet filter input handle 5", list]
    );
    let nameless = told(by(&json!({"table": null, "chain": null, "text": null})));
    assert_eq!(
        nameless[0],
        "nft rule: inet table handle 1 chain handle 1 handle 5"
    );
    let policy = json!({
        "policy": true, "handle": null, "position": null,
        "text": "type filter hook input priority filter; policy drop;"
    });
    assert_eq!(
        told(by(&policy))[..2],
        [
            "nft policy: inet filter input",
            "type filter hook input priority filter; policy drop;",
        ]
    );
}

#[test]
fn different_rules_are_different_things() {
    let mut elsewhere = by_rule();
    elsewhere.r#where.as_mut().expect("a place").netns = Some(1);
    let others = [
        by(&json!({"handle": 6})),
        by(&json!({"table_handle": 2})),
        by(&json!({"family": "ip"})),
        by(&json!({"table": null, "chain": null})),
        by(&json!({"table": null, "chain": null, "chain_handle": 2})),
        elsewhere,
    ];
    let mut all = vec![by_rule()];
    all.extend(others);
    let text = show(options(None), std::slice::from_ref(&all));
    assert_eq!(text.matches("  DROP  ").count(), 7, "{text}");
    let text = sum_up(options(None), &all, &totals());
    assert_eq!(text.matches("  DROP ").count(), 7, "{text}");
    // Counters and positions do not make another rule.
    let same =
        by(&json!({"text": "tcp dport 443 counter packets 9 bytes 540 drop", "position": 3}));
    let text = sum_up(options(None), &[by_rule(), same], &totals());
    assert_eq!(text.matches("  DROP ").count(), 1, "{text}");
}

#[test]
fn another_flow_of_the_same_rule_names_it_again_without_its_text() {
    let mut other = by_rule();
    other.flow.as_mut().expect("a flow").dport = Some(444);
    let text = show(options(None), &[vec![by_rule()], vec![other]]);
    assert!(
        text.ends_with("\n              nft rule: inet filter input handle 5\n"),
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
