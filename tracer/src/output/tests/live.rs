//! Lines while the run goes on.

use super::*;

/// Thirty-one intervals of the same flow and cause, after one of everything.
fn going_on() -> Vec<Vec<Event>> {
    let mut intervals = vec![samples()];
    for second in 1..=31 {
        intervals.push(vec![event(&json!({
            "packets": 100, "time": format!("2026-11-22T01:30:{second:02}.5Z"),
            "rule": {
                "engine": "nft", "family": "inet", "table": "filter", "chain": "input",
                "table_handle": 1, "chain_handle": 1, "handle": 5, "text": null, "comment": null,
                "verdict": null, "via": "frame", "exact": true
            }
        }))]);
    }
    intervals
}

#[test]
fn in_a_pipe_a_line_is_as_long_as_it_is() {
    assert_eq!(
        show(options(None), &[samples()]),
        include_str!("expected/pipe.txt")
    );
}

#[test]
fn on_a_wide_terminal_the_place_has_a_line() {
    assert_eq!(
        show(options(Some(120)), &[samples()]),
        include_str!("expected/wide.txt")
    );
}

#[test]
fn on_80_columns_the_flow_has_a_line() {
    assert_eq!(
        show(options(Some(80)), &[samples()]),
        include_str!("expected/80.txt")
    );
}

#[test]
fn on_40_columns_lines_are_short_and_addresses_whole() {
    assert_eq!(
        show(options(Some(40)), &[samples()]),
        include_str!("expected/40.txt")
    );
}

#[test]
fn no_line_is_longer_than_any_terminal_is_wide() {
    for width in 40..=200 {
        let text = show(options(Some(width)), &[samples()])
            + &sum_up(options(Some(width)), &samples(), &totals());
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(width), "{width}: {text}");
    }
}

#[test]
fn without_unicode_all_is_ascii() {
    let ascii = Options {
        unicode: false,
        ..options(None)
    };
    let text = show(ascii, &[samples()]);
    assert!(text.is_ascii());
    assert_eq!(text, include_str!("expected/ascii.txt"));
}

#[test]
fn colors_come_when_always_wanted() {
    let always = Options {
        color: ColorChoice::Always,
        ..options(Some(120))
    };
    let text = show(always, &[samples()]);
    // The expected text shows escapes as ␛, so that it can be reviewed.
    assert_eq!(
        text.replace('\u{1b}', "␛"),
        include_str!("expected/colors.txt")
    );
    let plain = show(options(Some(120)), &[samples()]);
    assert_eq!(anstream::adapter::strip_str(&text).to_string(), plain);
}

#[test]
fn colors_come_by_themselves_on_a_terminal_only() {
    for (color, expected) in [
        (ColorChoice::Auto, true),
        (ColorChoice::Always, true),
        (ColorChoice::Never, false),
    ] {
        let mut output = Output::new(
            Terminal(Vec::new()),
            Options {
                color,
                ..options(None)
            },
        );
        output.events(&samples()).expect("memory takes everything");
        assert_eq!(output.sink.0.contains(&0x1b), expected, "{color:?}");
    }
    assert!(!show(options(None), &[samples()]).contains('\u{1b}'));
}

#[test]
fn a_terminal_of_unknown_width_is_taken_to_have_80_columns() {
    let never = Options {
        color: ColorChoice::Never,
        ..options(None)
    };
    let mut output = Output::new(Terminal(Vec::new()), never);
    output.events(&samples()).expect("memory takes everything");
    assert_eq!(
        String::from_utf8_lossy(&output.sink.0),
        include_str!("expected/80.txt")
    );
}

#[test]
fn repeats_come_as_short_lines_ever_more_rarely() {
    assert_eq!(
        show(options(Some(120)), &going_on()),
        include_str!("expected/repeats.txt")
    );
}

#[test]
fn a_repeat_after_a_pause_is_news_again() {
    let mut intervals = going_on();
    intervals.truncate(8);
    intervals.extend(vec![Vec::new(); 70]);
    let before = show(options(None), &intervals).lines().count();
    let mut again = by_rule();
    again.time = "2026-11-22T01:40:00Z".into();
    intervals.push(vec![again]);
    let after = show(options(None), &intervals);
    assert_eq!(after.lines().count(), before + 1);
    assert!(
        after
            .lines()
            .last()
            .is_some_and(|line| line.starts_with("02:40:00.000  DROP"))
    );
}

#[test]
fn client_ports_of_an_interval_share_a_line() {
    let from = |port: u16| event(&json!({"flow": {"sport": port}}));
    let text = show(options(None), &[(50_000..50_037).map(from).collect()]);
    assert!(text.contains("×37 "), "{text}");
    assert!(
        text.contains("tcp 10.0.0.2:* → 10.0.0.5:443 (37 ports)"),
        "{text}"
    );
    assert_eq!(text.matches("NETFILTER_DROP").count(), 1);
}

#[test]
fn a_flood_of_flows_does_not_flood_the_screen() {
    let from = |n: u32| {
        let source = std::net::Ipv4Addr::from(0x0a01_0000 + n).to_string();
        event(&json!({"flow": {"src": source}}))
    };
    let flood = |start: u32| (start..start + 1_000).map(from).collect();
    let mut intervals: Vec<Vec<Event>> = (0..20).map(|i| flood(i * 1_000)).collect();
    intervals.last_mut().expect("intervals").push(no_listener());
    let text = show(options(None), &intervals);
    // Titles, an explanation, 30 lines at once, then 3 an interval, and the
    // line about the rest every 10 intervals.
    assert_eq!(text.lines().count(), 2 + 30 + 19 * 3 + 2 + 3, "{text}");
    assert!(text.contains("×970 more    in lines left out here; the summary has them all"));
    assert!(
        text.contains("nobody listens on that port"),
        "a new cause is told in a flood"
    );
}

#[test]
fn the_titles_tell_the_local_day_when_it_changes() {
    let at = |time: &str| vec![event(&json!({"time": time}))];
    let text = show(
        options(None),
        &[
            at("2026-11-22T22:59:59Z"),
            vec![],
            at("2026-11-22T23:00:00Z"),
        ],
    );
    let days: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("2026"))
        .collect();
    assert!(
        days[0].starts_with("2026-11-22 ") && days[1].starts_with("2026-11-23 "),
        "{text}"
    );
    assert!(
        text.contains("\n23:59:59.000") && text.contains("\n00:00:00.000"),
        "{text}"
    );
}

#[test]
fn clean_up_is_shown_on_request() {
    let all = Options {
        all: true,
        ..options(None)
    };
    assert_eq!(show(options(None), &[vec![benign()]]), "");
    assert!(show(all, &[vec![benign()]]).contains("×57 "));
}

#[test]
fn lost_details_are_left_to_the_summary() {
    let details =
        json!({"packets": 0, "loss": {"what": "details", "why": "ring_full", "count": 9}});
    let mut lost = serde_json::to_value(lost()).expect("JSON");
    merge(&mut lost, &details);
    let lost: Event = serde_json::from_value(lost).expect("a record");
    assert_eq!(show(options(None), &[vec![lost]]), "");
}
