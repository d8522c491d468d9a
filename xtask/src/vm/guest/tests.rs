//! How a guest ended, told from what it left.

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn exit_status_counts_more_than_how_the_machine_stopped() {
    assert_eq!(
        end(Stop::Deadline, "up\nend 3\n", "", LIMIT),
        End::Exited(3)
    );
    assert_eq!(end(Stop::Deadline, "up\n", "", LIMIT), End::TimedOut(LIMIT));
}

#[test]
fn panic_is_told_by_its_own_line() {
    let console = "[ 1.0] BUG: kernel NULL pointer\n[ 1.1] Kernel panic - not syncing: Oops\n";
    assert_eq!(
        end(Stop::Ended, "up\n", console, LIMIT).to_string(),
        "the guest died: Kernel panic - not syncing: Oops"
    );
    assert_eq!(death(""), "its machine stopped without a word");
}

#[test]
fn only_the_end_of_the_console_is_kept() {
    let long: Vec<_> = (0..100).map(|line| line.to_string()).collect();
    let kept = last_lines(&long.join("\n"));
    assert_eq!(kept.lines().count(), CONSOLE_LINES);
    assert!(kept.ends_with("99"));
    assert_eq!(
        last_lines("\x1bcSeaBIOS\nBooting from ROM..\npanic"),
        "Booting from ROM..\npanic"
    );
}
