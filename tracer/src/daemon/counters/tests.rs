//! Records, and the numbers that they make.

use super::*;
use crate::event::{Confidence, Engine, Loss, Outcome, Reason, Verdict, Via};

fn drop(class: Class, name: &str, packets: u64) -> Event {
    let mut event = Event::bare(
        EventKind::Drop,
        crate::event::utc(jiff::Timestamp::UNIX_EPOCH),
    );
    event.packets = packets;
    event.bytes = packets * 60;
    event.reason = Some(Reason {
        name: Some(name.to_owned()),
        code: None,
        subsystem: "core".to_owned(),
        class,
        summary: String::new(),
        derived: false,
    });
    event
}

fn bare(kind: EventKind, packets: u64) -> Event {
    let mut event = Event::bare(kind, String::new());
    event.packets = packets;
    event
}

/// The number with these values of labels.
fn value(counters: &Counters, name: &str, unit: &str, labels: &[&str]) -> Option<Value> {
    let families = counters.families();
    let family = families
        .iter()
        .find(|family| family.name == name && family.unit == unit)?;
    let fits = |series: &&Series| {
        series
            .labels
            .iter()
            .map(|(_, of)| of.as_str())
            .eq(labels.iter().copied())
    };
    family.series.iter().find(fits).map(|series| series.value)
}

#[test]
fn drops_are_counted_under_each_view() {
    let counters = Counters::new(10);
    let mut event = drop(Class::Policy, "NETFILTER_DROP", 3);
    event.r#where = Some(Where {
        netns: Some(7),
        netns_name: Some("blue".to_owned()),
        ifname: Some("eth0".to_owned()),
        ..Where::default()
    });
    event.rule = Some(nft(Some(12), false));
    counters.count(&event);
    event.rule = Some(nft(None, true));
    counters.count(&event);
    counters.count(&drop(Class::NoListener, "NO_SOCKET", 2));
    let packets = |name, labels: &[&str]| value(&counters, name, "packets", labels);
    let count = |count| Some(Value::Count(count));
    assert_eq!(packets("droptrace_dropped", &["policy"]), count(6));
    assert_eq!(packets("droptrace_dropped", &["routing"]), count(0));
    assert_eq!(
        packets(
            "droptrace_reason_dropped",
            &["core", "NO_SOCKET", "no_listener"]
        ),
        count(2)
    );
    for (rule, packets_of) in [("12", 3), ("policy", 3)] {
        let labels = ["nft", "inet", "filter", "input", rule];
        assert_eq!(
            packets("droptrace_rule_dropped", &labels),
            count(packets_of)
        );
    }
    assert_eq!(packets("droptrace_netns_dropped", &["blue"]), count(6));
    assert_eq!(
        packets("droptrace_interface_dropped", &["blue", "eth0"]),
        count(6)
    );
    assert_eq!(packets("droptrace_interface_dropped", &["", ""]), count(2));
    assert_eq!(
        value(&counters, "droptrace_dropped", "bytes", &["policy"]),
        count(360)
    );
    assert_eq!(
        value(&counters, "droptrace_records", "", &["drop"]),
        count(3)
    );
}

fn nft(handle: Option<u64>, policy: bool) -> Rule {
    Rule {
        engine: Engine::Nft,
        family: Some("inet".to_owned()),
        table: Some("filter".to_owned()),
        chain: Some("input".to_owned()),
        path: Vec::new(),
        table_handle: None,
        chain_handle: None,
        handle,
        number: None,
        position: None,
        text: None,
        iptables: None,
        comment: None,
        verdict: None,
        as_of: None,
        policy,
        function: None,
        module: None,
        prog_id: None,
        name: None,
        via: Via::Frame,
        exact: true,
        compared: Vec::new(),
    }
}

#[test]
fn other_kinds_have_numbers_of_their_own() {
    let counters = Counters::new(10);
    counters.count(&bare(EventKind::Retransmit, 4));
    counters.count(&bare(EventKind::IcmpReceived, 2));
    counters.count(&bare(EventKind::ResetSent, 1));
    let mut verdict = bare(EventKind::Verdict, 0);
    verdict.verdict = Some(Verdict {
        outcome: Outcome::Timeout,
        code: Code::NoAnswer,
        explanation: String::new(),
        evidence: Vec::new(),
        confidence: Confidence::Inferred,
        conversations: 1,
        affected: 1,
        timeline: Vec::new(),
        steps_left_out: 0,
    });
    counters.count(&verdict);
    for (what, count) in [
        (LossOf::Details, 5),
        (LossOf::Details, 6),
        (LossOf::Time, 1500),
    ] {
        let mut loss = bare(EventKind::Loss, 0);
        let why = LossCause::RateLimit;
        loss.loss = Some(Loss { what, why, count });
        counters.count(&loss);
    }
    let count = |count| Some(Value::Count(count));
    for (name, unit, labels, expected) in [
        ("droptrace_retransmitted", "segments", &[][..], 4),
        ("droptrace_icmp_errors", "", &["received"], 2),
        ("droptrace_resets", "", &["sent", "none"], 1),
        ("droptrace_verdicts", "", &["NO_ANSWER"], 1),
        ("droptrace_losses", "", &["details", "rate_limit"], 11),
        ("droptrace_dropped", "packets", &["policy"], 0),
    ] {
        assert_eq!(
            value(&counters, name, unit, labels),
            count(expected),
            "{name}"
        );
    }
    assert_eq!(
        value(&counters, "droptrace_untraced", "seconds", &[]),
        Some(Value::Real(1.5))
    );
}
