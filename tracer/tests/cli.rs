//! Bad input and bad surroundings get a clear message and the documented exit
//! code. None of these needs root; those that would trace never get that far.

use std::process::{Command, Output};

fn droptrace(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_droptrace"))
        .args(words)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

/// Runs and expects exit code 2 and a message with all `parts`.
fn refused(words: &[&str], parts: &[&str]) {
    let output = droptrace(words);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words:?}: {message}");
    assert!(output.stdout.is_empty(), "{words:?}");
    for part in parts {
        assert!(
            message.contains(part),
            "{words:?}: {part:?} is not in: {message}"
        );
    }
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn bad_filters_are_refused_with_an_example() {
    refused(
        &["--dst", "10.0.0.5:44x"],
        &["--dst 10.0.0.5:44x", "44x", "10.0.0.5:443"],
    );
    refused(&["--src", "10.0.0.300"], &["--src 10.0.0.300"]);
    refused(
        &["--host", "10.0.0.5/24"],
        &["--host 10.0.0.5/24", "10.0.0.0/24"],
    );
    refused(&["--port", "70000"], &["--port 70000"]);
    refused(&["--proto", "tpc"], &["--proto tpc"]);
    refused(&["--iface", "no such if"], &["--iface"]);
    refused(
        &["--iface", "nosuchif0"],
        &["--iface nosuchif0", "no such interface", "ip link"],
    );
    refused(&["--netns", "nosuchns"], &["--netns nosuchns", "ip netns"]);
    refused(&["--pid", "4194304"], &["--pid 4194304", "no such process"]);
    refused(
        &["--cgroup", "no/such/group"],
        &["--cgroup no/such/group", "no such control group"],
    );
}

#[test]
fn a_bad_configuration_is_refused_with_its_place() {
    refused(
        &["config", "check", "--set", "trace.intervall=1s"],
        &["--set trace.intervall=1s", "`interval`"],
    );
    refused(
        &["config", "check", "--config", "/nonexistent/droptrace.toml"],
        &["cannot read the configuration /nonexistent/droptrace.toml"],
    );
    // What the file may say is not all that there is: a filter is tried too.
    let filter = &["--set", "trace.dst=[\"10.0.0.300:1\"]"];
    for words in [&["config", "check"][..], &["daemon", "--dry-run"]] {
        refused(&[words, filter].concat(), &["[trace]", "10.0.0.300:1"]);
    }
}

#[test]
fn what_is_in_force_is_shown_by_flags_over_defaults() {
    let output = droptrace(&["config", "show", "--set", "limits.max_cpu=2%"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(shown.contains("[limits]\nmax_cpu = \"2%\"\n"), "{shown}");
    assert!(shown.contains("listen = \"127.0.0.1:9469\"\n"), "{shown}");
}

#[test]
fn without_a_daemon_the_status_is_not_well() {
    let output = droptrace(&["status", "--socket", "/nonexistent/events.sock"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("no daemon listens at /nonexistent/events.sock"));
}

#[test]
fn a_trace_of_every_packet_is_refused() {
    for filter in [&[][..], &["--iface", "lo"], &["--netns", "self"]] {
        refused(
            &[&["--allow-system-changes"], filter].concat(),
            &["--allow-system-changes", "--dst 10.0.0.5:443"],
        );
    }
}

#[test]
fn bad_flags_are_refused() {
    refused(&["--duration", "30"], &["--duration", "30s"]);
    refused(&["--interval", "1ms"], &["--interval", "20ms"]);
    refused(&["--format", "xml"], &["json"]);
    refused(&["--nonsense"], &["--nonsense"]);
}

#[test]
fn every_reason_of_the_running_kernel_has_a_line() {
    let output = droptrace(&["reasons", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0));
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let reason: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            reason["name"].is_string() && reason["code"].is_number(),
            "{line}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let command = format!(
        "{} reasons | head -n 1 >/dev/null; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_droptrace")
    );
    let status = Command::new("bash")
        .args(["-c", &command])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn help_tells_the_exit_codes() {
    let output = droptrace(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(
        help.contains("Exit codes:") && help.contains("--dst"),
        "{help}"
    );
}

/// Without root too, where it says what is missing.
#[test]
fn doctor_answers_whoever_asks() {
    let output = droptrace(&["doctor", "--json"]);
    let report: droptrace::doctor::Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.schema, droptrace::doctor::SCHEMA);
    assert_eq!(report.can_trace, report.obstacles.is_empty());
    let code = if report.can_trace { 0 } else { 3 };
    assert_eq!(output.status.code(), Some(code));
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message.is_empty(), report.can_trace, "{message}");
    let table = String::from_utf8(droptrace(&["doctor"]).stdout).unwrap();
    for row in report.abilities {
        assert!(table.contains(&row.label), "{table}");
    }
    assert!(!table.contains('\u{1b}'), "{table}");
}
