//! The table of what this kernel and this user can have.

use super::*;
use crate::doctor::{Ability, Report, Row, SCHEMA, Status};

fn row(ability: Ability, label: &str, status: Status, texts: [Option<&str>; 2]) -> Row {
    let [means, remedy] = texts.map(|text| text.map(str::to_owned));
    Row {
        ability,
        label: label.to_owned(),
        status,
        means,
        remedy,
    }
}

/// One row of each status.
fn report() -> Report {
    Report {
        schema: SCHEMA.to_owned(),
        kernel: "5.10.0-46-amd64".to_owned(),
        can_trace: true,
        obstacles: Vec::new(),
        abilities: vec![
            row(
                Ability::Drops,
                "dropped packets",
                Status::Yes,
                [Some("BTF tracepoint kfree_skb"), None],
            ),
            row(
                Ability::DropReasons,
                "the kernel's reason for a drop",
                Status::Partly,
                [
                    Some("derived from the function that dropped the packet"),
                    Some("this kernel gives no reasons; newer ones do"),
                ],
            ),
            row(
                Ability::ConntrackState,
                "conntrack state",
                Status::Later,
                [
                    Some("the packet's entry"),
                    Some("nf_conntrack is not loaded"),
                ],
            ),
            row(
                Ability::ResetReasons,
                "the kernel's reason for a reset",
                Status::No,
                [None, Some("this kernel gives no reasons for resets")],
            ),
        ],
    }
}

/// Tracing is denied, and with it everything.
fn blocked() -> Report {
    let obstacle = "the capability CAP_BPF is missing; run it as root";
    let mut report = report();
    report.can_trace = false;
    report.obstacles = vec![obstacle.to_owned()];
    report.abilities.truncate(1);
    report.abilities[0].status = Status::No;
    report.abilities[0].remedy = Some(obstacle.to_owned());
    report
}

fn shown(options: &Options, report: &Report) -> String {
    let mut sink = Vec::new();
    crate::output::show_abilities(&mut sink, options, report).expect("memory takes everything");
    String::from_utf8(sink).expect("output is text")
}

#[test]
fn in_a_pipe_it_is_a_table() {
    let text = shown(&options(None), &report());
    assert_eq!(text, include_str!("expected/abilities-pipe.txt"));
}

#[test]
fn on_80_columns_the_means_wrap() {
    let text = shown(&options(Some(80)), &report());
    assert_eq!(text, include_str!("expected/abilities-80.txt"));
}

#[test]
fn on_40_columns_nothing_is_aligned() {
    let text = shown(&options(Some(40)), &report());
    assert_eq!(text, include_str!("expected/abilities-40.txt"));
}

#[test]
fn what_is_in_the_way_is_told_once() {
    let text = shown(&options(None), &blocked());
    assert_eq!(text.matches("CAP_BPF").count(), 1, "{text}");
    assert!(text.contains("cannot trace here"), "{text}");
    assert!(text.contains("no    dropped packets"), "{text}");
}

#[test]
fn colours_are_for_terminals() {
    let colored = Options {
        color: ColorChoice::Always,
        ..options(None)
    };
    assert!(shown(&colored, &report()).contains("\u{1b}[32myes"));
    assert!(!shown(&options(None), &report()).contains('\u{1b}'));
}
