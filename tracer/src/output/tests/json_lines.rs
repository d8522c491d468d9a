//! Records as JSON.

use super::*;

fn json(all: bool) -> Options {
    Options {
        format: Format::Json,
        all,
        ..options(None)
    }
}

fn records(text: &str) -> Vec<Event> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a record a line"))
        .collect()
}

#[test]
fn every_line_is_a_record() {
    let all = samples();
    assert_eq!(records(&show(json(true), std::slice::from_ref(&all))), all);
    let text = show(json(true), &[vec![by_rule()]]);
    let plain = serde_json::to_string(&by_rule()).expect("JSON");
    assert_eq!(text, plain + "\n");
}

#[test]
fn clean_up_is_left_out_but_counted() {
    let mut output = Output::new(Vec::new(), json(false));
    output.events(&samples()).expect("memory takes everything");
    output.finish(&totals()).expect("memory takes everything");
    assert_eq!(output.hidden(), 57);
    assert_eq!(records(&text(output)), samples()[..6]);
}

#[test]
fn repeats_are_not_folded_and_nothing_follows_the_records() {
    let many = vec![by_rule(); 5_000];
    let mut output = Output::new(Vec::new(), json(false));
    output.events(&many).expect("memory takes everything");
    output.events(&[]).expect("memory takes everything");
    output.finish(&totals()).expect("memory takes everything");
    assert_eq!(records(&text(output)).len(), 5_000);
}
