//! The tables keep their promises: sorted, short, plain, complete.

use super::*;

/// Names of dropped packets that kernels from 5.17 on are known to use.
const DROP_NAMES: &str = include_str!("../../../tests/fixtures/drop_reasons.txt");

/// Functions that free packets in some kernel.
const FREEING: &str = include_str!("../../../tests/fixtures/freeing_functions.txt");

/// All of `enum sk_rst_reason` up to 7.3.
const RESET_NAMES: [&str; 25] = [
    "NOT_SPECIFIED",
    "NO_SOCKET",
    "TCP_INVALID_ACK_SEQUENCE",
    "TCP_RFC7323_PAWS",
    "TCP_TOO_OLD_ACK",
    "TCP_ACK_UNSENT_DATA",
    "TCP_FLAGS",
    "TCP_OLD_ACK",
    "TCP_ABORT_ON_DATA",
    "TCP_TIMEWAIT_SOCKET",
    "INVALID_SYN",
    "TCP_ABORT_ON_CLOSE",
    "TCP_ABORT_ON_LINGER",
    "TCP_ABORT_ON_MEMORY",
    "TCP_STATE",
    "TCP_KEEPALIVE_TIMEOUT",
    "TCP_DISCONNECT_WITH_DATA",
    "MPTCP_RST_EUNSPEC",
    "MPTCP_RST_EMPTCP",
    "MPTCP_RST_ERESOURCE",
    "MPTCP_RST_EPROHIBIT",
    "MPTCP_RST_EWQ2BIG",
    "MPTCP_RST_EBADPERF",
    "MPTCP_RST_EMIDDLEBOX",
    "ERROR",
];

/// Each table with its name.
const TABLES: [(&str, &[Text]); 8] = [
    ("drop_reasons", drop_reasons::TEXTS),
    ("openvswitch", openvswitch::TEXTS),
    ("qdisc", qdisc::TEXTS),
    ("wifi", wifi::TEXTS),
    ("reset_calls", reset_calls::TEXTS),
    ("reset_reasons", reset_reasons::TEXTS),
    ("functions", functions::TEXTS),
    ("function prefixes", functions::PREFIXES),
];

fn drop_names() -> impl Iterator<Item = &'static str> {
    names(DROP_NAMES)
}

/// The names in a list, without its comments.
fn names(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
}

#[test]
fn tables_are_sorted_and_unique() {
    for (table, texts) in TABLES {
        for pair in texts.windows(2) {
            assert!(
                pair[0].name < pair[1].name,
                "{table}: {} is not before {}",
                pair[0].name,
                pair[1].name
            );
        }
    }
}

#[test]
fn texts_are_short_plain_sentences() {
    let tables = TABLES
        .into_iter()
        .flat_map(|(table, texts)| texts.iter().map(move |text| (table, text)));
    let cases = derived::CASES
        .iter()
        .filter_map(|case| Some(("derived", case.text.as_ref()?)));
    for (table, text) in tables.chain(cases) {
        let at = format!("{table}: {}", text.name);
        let summary = text.summary;
        assert!(summary.chars().count() <= 90, "{at}: long summary");
        assert!(!starts_a_sentence(summary), "{at}: capital letter");
        for line in [Some(summary), text.advice].into_iter().flatten() {
            assert!(line.is_ascii() && line.trim() == line, "{at}: stray blank");
            assert!(
                !line.is_empty() && !line.contains("  "),
                "{at}: stray blank"
            );
            assert!(!line.ends_with(['.', '!', ';', ':']), "{at}: full stop");
        }
        let advice = text.advice.unwrap_or_default();
        assert!(advice.chars().count() <= 120, "{at}: long advice");
        assert!(!starts_a_sentence(advice), "{at}: capital letter");
    }
}

/// A capital letter at the start that is not part of a name such as `TCP`.
fn starts_a_sentence(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(char::is_uppercase)
        && letters.next().is_some_and(char::is_lowercase)
        && !["Wi-Fi", "Open vSwitch"]
            .iter()
            .any(|name| text.starts_with(name))
}

#[test]
fn every_name_of_every_kernel_has_a_text() {
    let missing: Vec<_> = drop_names()
        .filter(|name| drop_reason(name).is_none())
        .collect();
    assert!(missing.is_empty(), "no text: {missing:?}");
    let missing: Vec<_> = RESET_NAMES
        .into_iter()
        .filter(|name| reset_reason(name).is_none())
        .collect();
    assert!(missing.is_empty(), "no text: {missing:?}");
}

#[test]
fn no_text_is_for_a_name_that_no_kernel_has() {
    let known: Vec<_> = drop_names().collect();
    for texts in [
        drop_reasons::TEXTS,
        openvswitch::TEXTS,
        qdisc::TEXTS,
        wifi::TEXTS,
    ] {
        for text in texts {
            assert!(known.contains(&text.name), "{}", text.name);
        }
    }
    assert_eq!(reset_reasons::TEXTS.len(), RESET_NAMES.len());
}

#[test]
fn no_text_is_for_a_function_that_frees_nothing() {
    let known: Vec<_> = names(FREEING).collect();
    let cases = derived::CASES.iter().flat_map(|case| case.functions);
    let texts = functions::TEXTS.iter().map(|text| &text.name);
    for function in cases.chain(texts) {
        assert!(known.contains(function), "{function}");
    }
}

#[test]
fn a_name_is_found_exactly() {
    assert_eq!(
        drop_reason("NETFILTER_DROP").map(|text| text.class),
        Some(Class::Policy)
    );
    assert_eq!(
        drop_reason("NO_SOCKET").map(|text| text.class),
        Some(Class::NoListener)
    );
    assert_eq!(
        drop_reason("OVS_DROP_METER").map(|text| text.class),
        Some(Class::Policy)
    );
    assert_eq!(
        drop_reason("___RX_DROP_U_REPLAY"),
        drop_reason("RX_DROP_U_REPLAY")
    );
    for name in [
        "",
        "_",
        "NETFILTER",
        "NETFILTER_DROPS",
        "netfilter_drop",
        "MAX",
        "\u{0}",
        "ä",
    ] {
        assert_eq!(drop_reason(name), None, "{name}");
        assert_eq!(reset_reason(name), None, "{name}");
    }
}

#[test]
fn a_function_is_found_with_a_compilers_suffix_and_by_family() {
    assert_eq!(
        by_function("nf_hook_slow").map(|text| text.class),
        Some(Class::Policy)
    );
    assert_eq!(
        by_function("nf_hook_slow.constprop.0"),
        by_function("nf_hook_slow")
    );
    for function in [
        "unix_stream_connect",
        "unix_gc",
        "__unix_gc",
        "netlink_unicast",
    ] {
        assert_eq!(
            by_function(function).map(|text| text.class),
            Some(Class::Benign),
            "{function}"
        );
    }
    for function in [
        "",
        ".",
        "nf_hook",
        "nf_hook_slower",
        "uni",
        "0xffffffff81000000",
    ] {
        assert_eq!(by_function(function), None, "{function}");
    }
}

#[test]
fn a_cause_that_is_not_told_is_never_given_a_class() {
    for name in ["NOT_SPECIFIED", "NOT_DROPPED_YET"] {
        assert_eq!(
            drop_reason(name).map(|text| text.class),
            Some(Class::Unknown)
        );
    }
    for function in ["tcp_v4_rcv", "tcp_v6_rcv", "ip_forward", "kfree_skb_list"] {
        assert_eq!(
            by_function(function).map(|text| text.class),
            Some(Class::Unknown)
        );
    }
}

fn by_calls(callers: &[&str], state: Option<&str>) -> Option<&'static str> {
    let callers: Vec<_> = callers.iter().map(|name| (*name).to_owned()).collect();
    reset_by_calls(&callers, state).map(|text| text.name)
}

#[test]
fn the_functions_that_led_to_a_reset_tell_what_the_kernel_would() {
    // Call chains of 6.18, with the reasons that it gave.
    let close = ["tcp_send_active_reset", "__tcp_close", "tcp_close"];
    let linger = ["tcp_send_active_reset", "tcp_disconnect", "__tcp_close"];
    let listener = [
        "tcp_disconnect",
        "inet_child_forget",
        "inet_csk_listen_stop",
        "__tcp_close",
    ];
    let disconnect = ["tcp_disconnect", "__inet_stream_connect"];
    let nobody = ["tcp_v4_send_reset", "tcp_v4_rcv"];
    let segment = ["tcp_v6_send_reset", "tcp_v6_do_rcv", "tcp_v6_rcv"];
    let fast_close = ["mptcp_do_fastclose", "__mptcp_close", "mptcp_close"];
    for (callers, state, reason) in [
        (&close[..], Some("CLOSE"), "CLOSED"),
        (&linger, Some("CLOSE"), "LINGER"),
        (&listener, Some("CLOSE"), "LISTENER_CLOSED"),
        (&disconnect, Some("CLOSE"), "DISCONNECTED"),
        (&["tcp_abort"], Some("ESTABLISHED"), "ENDED"),
        (&nobody, None, "NO_SOCKET"),
        (&nobody, Some("TIME_WAIT"), "TCP_TIMEWAIT_SOCKET"),
        (&segment, Some("CLOSE"), "TCP_ABORT_ON_DATA"),
        (&segment, Some("LISTEN"), "TCP_FLAGS"),
        (&segment, Some("SYN_SENT"), "TCP_INVALID_ACK_SEQUENCE"),
        (&fast_close, Some("ESTABLISHED"), "TCP_ABORT_ON_CLOSE"),
        (
            &["tcp_keepalive_timer", "call_timer_fn"],
            Some("ESTABLISHED"),
            "TCP_KEEPALIVE_TIMEOUT",
        ),
    ] {
        assert_eq!(by_calls(callers, state), Some(reason), "{callers:?}");
    }
    assert_eq!(by_calls(&[], None), None);
    assert_eq!(by_calls(&["tcp_send_active_reset"], Some("CLOSE")), None);
}

#[test]
fn what_brought_a_segment_did_not_send_the_reset_that_answers_it() {
    // The other end of the connection, on this machine too, closes: its FIN comes on.
    let brought = [
        "tcp_v4_rcv",
        "process_backlog",
        "tcp_send_fin",
        "__tcp_close",
    ];
    assert_eq!(by_calls(&brought, None), Some("NO_SOCKET"));
    let brought = ["tcp_v4_do_rcv", "tcp_v4_rcv", "__tcp_close"];
    assert_eq!(by_calls(&brought, Some("ESTABLISHED")), None);
}

#[test]
fn every_case_of_a_reset_has_a_text() {
    for case in reset_calls::CASES
        .iter()
        .filter(|case| !case.reason.is_empty())
    {
        assert!(reset_calls::text(case.reason).is_some(), "{}", case.reason);
    }
}
