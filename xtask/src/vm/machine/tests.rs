//! What is made of each way in which a machine can end. A shell stands in for
//! the machine: it writes what a guest would write, and ends or does not.

use super::*;

const LONG: Limits = Limits {
    whole: Duration::from_secs(60),
    silence: None,
};

struct Played {
    ran: Ran,
    out: String,
    err: String,
    /// How often the machine was started.
    starts: usize,
}

/// Runs the shell script as the machine.
fn play(name: &str, script: &str, limits: Limits) -> Played {
    let folder = std::env::temp_dir().join(format!("xtask-machine-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let machine = || {
        let mut shell = Command::new("sh");
        let script = format!("echo >> starts; {script}");
        shell.current_dir(&folder).args(["-c", &script]);
        shell
    };
    let mut outputs = Outputs {
        out: &mut out,
        err: &mut err,
    };
    let ran = run(machine, &folder, limits, &mut outputs).unwrap();
    let starts = fs::read_to_string(folder.join("starts")).unwrap();
    fs::remove_dir_all(folder).unwrap();
    Played {
        ran,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
        starts: starts.lines().count(),
    }
}

#[test]
fn exit_status_and_both_outputs_come_out() {
    let script = "echo booting > console; echo up > status; echo said; echo told >&2; \
                  echo end 3 >> status";
    let played = play("exit", script, LONG);
    assert_eq!(played.ran.end, End::Exited(3));
    assert_eq!((&*played.out, &*played.err), ("said\n", "told\n"));
    assert!(played.ran.start_took.is_some());
    assert_eq!(played.ran.starts, 1);
}

#[test]
fn panic_in_mid_command_is_told_and_the_command_is_not_run_again() {
    let script = "echo up > status; echo half; echo 'Kernel panic - not syncing: x' > console";
    let played = play("panic", script, LONG);
    let died = End::Died("Kernel panic - not syncing: x".to_owned());
    assert_eq!(played.ran.end, died);
    assert_eq!((&*played.out, played.starts), ("half\n", 1));
    assert!(played.ran.console.contains("Kernel panic"));
}

#[test]
fn machine_that_dies_before_its_command_is_started_again() {
    let script = "echo 'Kernel panic - early' > console; \
                  [ $(wc -l < starts) = 2 ] && echo up > status && echo end 0 >> status";
    let played = play("again", script, LONG);
    assert_eq!(played.ran.end, End::Exited(0));
    assert_eq!((played.ran.starts, played.starts), (2, 2));
    assert!(
        played
            .err
            .contains("Kernel panic - early; starting it again (1 of 3 failed)"),
        "{}",
        played.err
    );
}

#[test]
fn machine_that_never_starts_is_given_up() {
    let played = play("never", "echo 'Kernel panic - early' > console", LONG);
    assert_eq!(played.ran.end, End::Died("Kernel panic - early".to_owned()));
    assert_eq!((played.ran.starts, played.starts), (STARTS, 3));
    assert_eq!(played.ran.start_took, None);
}

#[test]
fn machine_that_refuses_its_options_is_not_started_again() {
    let played = play("refused", "echo bad option >&2; exit 1", LONG);
    assert!(matches!(played.ran.end, End::Died(_)));
    assert_eq!((&*played.err, played.starts), ("bad option\n", 1));
}

#[test]
fn command_without_an_end_is_stopped_at_the_limit() {
    let limits = Limits {
        whole: Duration::from_millis(500),
        silence: None,
    };
    let played = play("endless", "echo up > status; exec sleep 60", limits);
    assert_eq!(played.ran.end, End::TimedOut(limits.whole));
}

#[test]
fn machine_that_falls_silent_is_stopped() {
    let silence = Duration::from_millis(500);
    let limits = Limits {
        silence: Some(silence),
        ..LONG
    };
    let played = play(
        "silent",
        "echo up > status; echo last words; exec sleep 60",
        limits,
    );
    assert_eq!(played.ran.end, End::Silent(silence));
    assert_eq!(played.out, "last words\n");
}
