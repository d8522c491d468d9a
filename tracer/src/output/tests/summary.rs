//! The summary at the end.

use super::*;
use crate::event::LossOf;
use crate::output::aggregate::{Aggregate, MOST_ROWS};

fn from(source: u32, port: u16, packets: u64) -> Event {
    let source = std::net::Ipv4Addr::from(source).to_string();
    event(&json!({"packets": packets, "flow": {"src": source, "sport": port}}))
}

/// Records of everything that a summary tells.
fn everything() -> Vec<Event> {
    let mut events = samples();
    events.extend((50_000..50_037).map(|port| from(0x0a00_0007, port, 10)));
    events.push(event(
        &json!({"flow": null, "packets": 300, "flows_unlisted": 57}),
    ));
    events.push(event(&json!({
        "flow": null, "packets": 1_000,
        "undecoded": {"why": "not_ip", "ethertype": "0x0806", "socket": null}
    })));
    for (why, count) in [("ring_full", 7), ("rate_limit", 340)] {
        let mut details = lost();
        details.packets = 0;
        let mut value = serde_json::to_value(details).expect("JSON");
        let loss = json!({"loss": {"what": "details", "why": why, "count": count}});
        merge(&mut value, &loss);
        events.push(serde_json::from_value(value).expect("a record"));
    }
    events
}

#[test]
fn in_a_pipe_it_is_a_table() {
    let text = sum_up(options(None), &everything(), &totals());
    assert_eq!(text, include_str!("expected/summary-pipe.txt"));
}

#[test]
fn on_80_columns_the_flow_has_a_line() {
    let text = sum_up(options(Some(80)), &everything(), &totals());
    assert_eq!(text, include_str!("expected/summary-80.txt"));
}

#[test]
fn on_40_columns_lines_are_short() {
    let ascii = Options {
        unicode: false,
        ..options(Some(40))
    };
    let text = sum_up(ascii, &everything(), &totals());
    assert_eq!(text, include_str!("expected/summary-40-ascii.txt"));
}

#[test]
fn nothing_is_told_with_what_was_watched() {
    assert_eq!(
        sum_up(options(None), &[], &totals()),
        "no packet matching tcp and host 10.0.0.5 was dropped, reset or sent again here in 30 s\n\
         watched: kfree_skb, tcp_send_reset\n\
         drops 0 · resets sent 0 · resets received 0 · retransmits 0\n\
         hidden: 0 benign (show with --all)\n\
         lost: 0 packets, 0 details\n"
    );
}

#[test]
fn nothing_is_not_claimed_when_it_is_not_known() {
    let first = |events: &[Event], totals: &Totals| {
        let text = sum_up(options(None), events, totals);
        text.lines()
            .find(|line| !line.is_empty())
            .map(ToOwned::to_owned)
            .expect("a line")
    };
    let unfiltered = Totals {
        filter: None,
        ..totals()
    };
    let known = "no packet is known to have been dropped, reset or sent again here in 30 s";
    assert_eq!(first(&[lost()], &unfiltered), known);
    assert_eq!(
        first(&[benign()], &unfiltered),
        "no packet was dropped, reset or sent again here in 30 s, normal clean-up aside"
    );
}

#[test]
fn lost_resets_and_retransmits_are_told_apart_from_packets() {
    let mut resets = lost();
    resets.loss.as_mut().expect("a loss").what = LossOf::Events;
    let text = sum_up(options(None), &[lost(), resets], &totals());
    assert!(
        text.contains("\nlost: 12 packets, 12 resets or retransmits, 0 details\n"),
        "{text}"
    );
    assert!(text.contains("\n  12 resets or retransmits of which no more is known: "));
}

#[test]
fn only_the_first_twenty_rows_are_on_the_screen() {
    let events: Vec<_> = (0..25).map(|n| from(0x0a00_0100 + n, 1_000, 1)).collect();
    let text = sum_up(options(Some(120)), &events, &totals());
    assert_eq!(
        text.lines()
            .filter(|line| line.contains("NETFILTER_DROP"))
            .count(),
        20
    );
    assert!(
        text.contains("… and 5 more rows, 5 packets (use --format json for all)"),
        "{text}"
    );
    let text = sum_up(options(None), &events, &totals());
    assert_eq!(
        text.lines()
            .filter(|line| line.contains("NETFILTER_DROP"))
            .count(),
        25
    );
}

#[test]
fn a_run_over_midnight_tells_dates() {
    let late = event(&json!({"time": "2026-11-22T23:00:01Z"}));
    let text = sum_up(options(None), &[late], &totals());
    assert!(text.contains("11-22 02:29:59  11-23 00:00:01"), "{text}");
}

#[test]
fn a_port_scan_is_one_row() {
    let to = |port: u16| event(&json!({"flow": {"dport": port}}));
    let text = sum_up(
        options(None),
        &(1..=2_000).map(to).collect::<Vec<_>>(),
        &totals(),
    );
    assert!(text.contains("2,000  DROP"), "{text}");
    assert!(
        text.contains("tcp 10.0.0.2:53412 → 10.0.0.5:* (1,000+ ports)"),
        "{text}"
    );
}

#[test]
fn totals_stay_exact_beyond_the_rows() {
    let flows = u32::try_from(MOST_ROWS).expect("a small number") + 500;
    let mut aggregate = Aggregate::new(false);
    for round in 0..2 {
        for n in 0..flows {
            aggregate.add(&from(0x0b00_0000 + n, 1_000 + round, 3));
        }
    }
    assert_eq!(aggregate.packets[0], u64::from(flows) * 6);
    let rest = aggregate.other.packets;
    let rows = aggregate.rows();
    assert_eq!(rows.len(), MOST_ROWS);
    let in_rows: u64 = rows.iter().map(|(_, row)| row.packets).sum();
    assert_eq!(in_rows + rest, u64::from(flows) * 6);

    let events: Vec<_> = (0..flows)
        .map(|n| from(0x0b00_0000 + n, 1_000, 3))
        .collect();
    let text = sum_up(options(Some(120)), &events, &totals());
    assert!(text.contains("1,500  other"), "{text}");
    assert!(
        text.contains("everything beyond the first 4,000 rows"),
        "{text}"
    );
    assert!(
        text.contains("… and 3,980 more rows, 11,940 packets"),
        "{text}"
    );
}

#[test]
fn ports_are_folded_early_where_rows_run_out() {
    let mut aggregate = Aggregate::new(false);
    for port in 1_000..40_000 {
        aggregate.add(&from(0x0a00_0002, port, 1));
    }
    assert_eq!(aggregate.other.packets, 0);
    let rows = aggregate.rows();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].1.packets, 39_000);
}
