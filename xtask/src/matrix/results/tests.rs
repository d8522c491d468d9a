//! What is counted, and what is said about it.

use super::*;

const PASS: &str = r#"{"scenario":"a","outcome":"pass","seconds":1.5,"reason":null,"problems":[]}"#;
const SKIP: &str =
    r#"{"scenario":"b","outcome":"skip","seconds":0,"reason":"no nft","problems":[]}"#;
const FAIL: &str =
    r#"{"scenario":"b","outcome":"fail","seconds":2,"reason":null,"problems":["one\ntwo"]}"#;

fn column(kernel: &str, lines: &[&str]) -> Column {
    let entries = lines.iter().map(|line| Entry::parse(line).unwrap());
    Column {
        kernel: kernel.to_owned(),
        entries: entries
            .map(|entry| (entry.scenario.clone(), entry))
            .collect(),
        ..Column::default()
    }
}

#[test]
fn entry_is_read_from_the_runners_line() {
    let entry = Entry::parse(FAIL).unwrap();
    assert_eq!(entry.outcome, Outcome::Fail);
    assert_eq!(entry.text, ["one\ntwo"]);
    assert_eq!(Entry::parse(SKIP).unwrap().text, ["no nft"]);
    for other in ["1 passed, 0 failed, 0 skipped", "", "{}", "[]"] {
        assert_eq!(Entry::parse(other), None, "{other}");
    }
}

#[test]
fn kernels_stand_side_by_side() {
    let matrix = Matrix {
        columns: vec![column("5.10", &[PASS, SKIP]), column("6.12", &[PASS, FAIL])],
    };
    let text = matrix.to_string();
    let mut lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["scenario", "5.10", "6.12"]);
    assert_eq!(lines.next().unwrap(), ["a", "pass", "pass"]);
    assert_eq!(lines.next().unwrap(), ["b", "skip", "FAIL"]);
    assert!(text.contains("skip  5.10: b\n      no nft\n"), "{text}");
    assert!(
        text.ends_with("FAIL  6.12: b\n      one\n      two\n"),
        "{text}"
    );
    assert_eq!(matrix.summary(), "2 passed, 1 failed, 1 skipped");
    assert!(!matrix.passed());
}

#[test]
fn scenario_that_was_not_heard_of_has_failed() {
    let mut died = column("6.12", &[PASS]);
    died.failure = Some(("the guest died".to_owned(), "panic".to_owned()));
    died.complete(&["a".to_owned(), "b".to_owned()]);
    let matrix = Matrix {
        columns: vec![died],
    };
    assert_eq!(matrix.summary(), "1 passed, 1 failed, 0 skipped");
    let text = matrix.to_string();
    let whole =
        "FAIL  6.12: the guest died\n      not run to their end: 1, from b on\n      panic\n";
    assert!(text.ends_with(whole), "{text}");
}

#[test]
fn run_that_fails_behind_its_last_scenario_has_failed() {
    let mut died = column("6.12", &[PASS]);
    died.failure = Some(("the guest died".to_owned(), String::new()));
    died.complete(&["a".to_owned()]);
    let matrix = Matrix {
        columns: vec![died],
    };
    assert_eq!(matrix.summary(), "1 passed, 1 failed, 0 skipped");
}

#[test]
fn start_of_a_guest_is_told_with_its_failed_attempts() {
    let footer = |failed_before| {
        let guest = Column {
            release: "6.12.1".to_owned(),
            start: Some(Start {
                took: Duration::from_millis(4100),
                failed_before,
            }),
            first_after: Some(Duration::from_secs(6)),
            ..column("6.12", &[PASS])
        };
        let matrix = Matrix {
            columns: vec![guest],
        };
        matrix.to_string().lines().last().unwrap().to_owned()
    };
    assert!(
        footer(0).ends_with("(6.12.1, started in 4.1s, first scenario after 6.0s)"),
        "{}",
        footer(0)
    );
    assert!(footer(1).contains("started in 4.1s after 1 failed start, "));
    assert!(footer(2).contains("after 2 failed starts, "));
}
