//! Reading scenario files, without root.

use droptrace::event::EventKind;

use super::{Verb, parse};

const GOOD: &str = r#"
proves = "p"
topology = "pair"

[[traffic]]
in = "client"
tcp_connect = { to = "10.0.0.5:443", expect = "refused" }

[[expect]]
record = { kind = "drop", reason.name = "NO_SOCKET" }
packets = { at_least = 1 }
"#;

/// The complaint about the good file with one piece replaced.
fn complaint(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    format!("{:#}", parse(&GOOD.replace(from, to)).unwrap_err())
}

#[test]
fn a_good_file_is_read() {
    let scenario = parse(GOOD).unwrap();
    assert_eq!(scenario.topology.hosts.len(), 2);
    assert!(matches!(
        scenario.traffic[0].verb().unwrap(),
        Verb::TcpConnect(_)
    ));
}

#[test]
fn verbs_survive_the_way_to_their_process() {
    let verb = parse(GOOD).unwrap().traffic[0].verb().unwrap();
    let text = serde_json::to_string(&verb).unwrap();
    let read: Verb = serde_json::from_str(&text).unwrap();
    assert_eq!(text, serde_json::to_string(&read).unwrap());
}

#[test]
fn unknown_keys_are_named() {
    assert!(complaint("expect =", "expects =").contains("expects"));
    assert!(complaint("proves = \"p\"", "proves = \"p\"\nprofe = 1").contains("profe"));
}

#[test]
fn unknown_hosts_are_named() {
    assert!(complaint("in = \"client\"", "in = \"clint\"").contains("no host `clint`"));
}

#[test]
fn unknown_topologies_are_named() {
    assert!(complaint("\"pair\"", "\"ring\"").contains("no topology `ring`"));
}

#[test]
fn a_step_has_exactly_one_verb() {
    let two = complaint("tcp_connect", "wait_ms = 1\ntcp_connect");
    assert!(
        two.contains("traffic 1") && two.contains("exactly one verb"),
        "{two}"
    );
}

#[test]
fn a_truth_must_exist() {
    let missing = complaint("{ at_least = 1 }", "{ truth = \"rule\" }");
    assert!(missing.contains("[truth.rule]"), "{missing}");
}

#[test]
fn something_is_expected() {
    let nothing = GOOD.split("[[expect]]").next().unwrap();
    assert!(
        parse(nothing)
            .unwrap_err()
            .to_string()
            .contains("needs an `expect`")
    );
}

#[test]
fn a_count_is_explained() {
    assert!(complaint("{ at_least = 1 }", "\"some\"").contains("a count is a number"));
}

#[test]
fn a_rule_must_exist_and_be_listed_one_way() {
    assert!(complaint("packets", "rule = \"r\"\npackets").contains("[rule.r]"));
    let rule = |keys: &str| {
        let text = format!("{GOOD}rule = \"r\"\n[rule.r]\nin = \"server\"\n{keys}");
        parse(&text)
            .map(|_| ())
            .map_err(|error| format!("{error:#}"))
    };
    assert_eq!(rule("nft = \"inet filter input\""), Ok(()));
    assert_eq!(rule("iptables = \"iptables-nft -S INPUT\""), Ok(()));
    assert_eq!(rule("ebtables = \"filter INPUT\""), Ok(()));
    assert!(
        rule("ebtables = \"filter\"")
            .unwrap_err()
            .contains("a table and a chain")
    );
    assert!(
        rule("")
            .unwrap_err()
            .contains("rule.r: needs exactly one of")
    );
    assert!(
        rule("nft = \"input\"")
            .unwrap_err()
            .contains("a table and a chain")
    );
}

#[test]
fn a_probe_needs_no_traffic_and_no_tracer() {
    let probe = "[probe]\nin = \"client\"\nargs = []\nexit = 6\n";
    let without = GOOD.replace("[[traffic]]\nin = \"client\"\n", probe);
    let (head, rest) = without.split_once("tcp_connect").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    assert_eq!(parse(&format!("{head}{rest}")).unwrap().exit(), Some(6));
    assert!(
        complaint(
            "[[traffic]]",
            &format!("{probe}[tracer]\nargs = [\"--all\"]\n[[traffic]]")
        )
        .contains("exclude each other")
    );
    assert!(
        complaint("[[traffic]]", &format!("{probe}[[traffic]]\nbefore = true"))
            .contains("comes after all traffic")
    );
    assert!(
        parse(&format!("{head}{rest}").replace(probe, ""))
            .unwrap_err()
            .to_string()
            .contains("needs `traffic`")
    );
}

#[test]
fn a_scenario_speaks_of_the_kinds_that_its_patterns_name() {
    let scenario = parse(&GOOD.replace("\"drop\"", "[\"drop\", \"verdict\"]")).unwrap();
    assert!(scenario.speaks_of(EventKind::Verdict));
    assert!(!scenario.speaks_of(EventKind::IcmpSent));
}

#[test]
fn verdicts_are_listed_by_their_codes_or_by_patterns() {
    let listed = |verdicts: &str| {
        let with = format!("topology = \"pair\"\nverdicts = [{verdicts}]");
        GOOD.replace("topology = \"pair\"", &with)
    };
    let scenario = parse(&listed(
        "\"NO_LISTENER\", { code = \"NO_ANSWER\", without = \"tcp_own_drops\" }",
    ));
    assert_eq!(scenario.unwrap().verdicts.len(), 2);
    let wrong = |text: &str| format!("{:#}", parse(text).unwrap_err());
    assert!(wrong(&listed("\"NO_LISTENERS\"")).contains("a code of docs/verdicts.md"));
    let both = listed("\"NO_LISTENER\"").replace("\"drop\"", "\"verdict\"");
    assert!(wrong(&both).contains("exclude each other"));
}
