//! Rule sets of namespaces that a shell makes and changes.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Instant,
};

use super::*;
use crate::owner::netns;

const INPUT: RuleAt = RuleAt {
    family: 1,
    chain: ChainAt::Handles { table: 1, chain: 1 },
    rule: 2,
    cookie: None,
    ns: 0,
};

/// A shell in a network namespace of its own.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Shell {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        let command = command.args(["-n", "sh"]).stderr(Stdio::null());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Whether the script succeeded.
    fn run(&mut self, script: &str) -> bool {
        let mut answer = String::new();
        let told = writeln!(self.stdin, "{script} && echo yes || echo no");
        told.is_ok() && self.stdout.read_line(&mut answer).is_ok() && answer == "yes\n"
    }

    fn netns(&self) -> u32 {
        netns::inode_of(&format!("/proc/{}/ns/net", self.child.id())).unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A packet that this rule dropped just now.
fn now(rule: u64) -> RuleAt {
    let ns = reading::now_ns();
    RuleAt { rule, ns, ..INPUT }
}

/// Asks until there is nothing more to be expected.
fn find(sets: &mut RuleSets, netns: u32, at: &RuleAt) -> Option<Found> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        sets.look_again();
        match sets.find(netns, at) {
            Answer::Now(found) => return found,
            Answer::Later(_) => assert!(Instant::now() < deadline, "{at:?}"),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn text(sets: &mut RuleSets, netns: u32, at: &RuleAt) -> Option<(String, bool)> {
    let found = find(sets, netns, at)?;
    Some((found.text?, found.then))
}

fn started() -> RuleSets {
    let mut sets = RuleSets::default();
    sets.start(Duration::from_secs(60));
    sets
}

/// Longer than a packet may be on its way while the rules change.
fn pause() {
    thread::sleep(Duration::from_millis(20));
}

#[test]
fn rules_are_told_as_they_were_when_the_packet_was_dropped() {
    let mut shell = Shell::new();
    let made = shell
        .run("nft 'table inet t { chain c { type filter hook input priority 0; policy drop; }; }'");
    if !made || !shell.run("nft add rule inet t c tcp dport 1 drop comment '\"why\"'") {
        eprintln!("not tested: it takes root, nft and a kernel with nf_tables");
        return;
    }
    let netns = shell.netns();
    let mut sets = started();
    let found = find(&mut sets, netns, &INPUT).unwrap();
    assert_eq!((&*found.table, &*found.chain), ("t", "c"));
    assert_eq!(
        found.text.as_deref(),
        Some("tcp dport 1 drop comment \"why\"")
    );
    assert_eq!(found.comment.as_deref(), Some("why"));
    assert_eq!(found.verdict.as_deref(), Some("drop"));
    assert_eq!(found.position, Some(1));
    let place = format!("/proc/{}/ns/net", shell.child.id());
    assert_eq!(found.namespace, Some(place.into()));
    let policy = find(&mut sets, netns, &RuleAt { rule: 0, ..INPUT }).unwrap();
    assert_eq!(
        policy.text.as_deref(),
        Some("type filter hook input priority filter; policy drop;")
    );
    assert_eq!((policy.verdict, policy.comment), (None, None));
    // Nobody looked at that time.
    assert!(!policy.then);

    pause();
    let first = now(2);
    let said = |text: &str, then| Some((text.to_owned(), then));
    let why = "tcp dport 1 drop comment \"why\"";
    assert_eq!(text(&mut sets, netns, &first), said(why, true));

    // The handle stays, the text does not. Nobody looked before the change.
    let unseen = now(2);
    assert!(shell.run("nft replace rule inet t c handle 2 tcp dport 2 drop"));
    pause();
    assert_eq!(text(&mut sets, netns, &first), said(why, true));
    assert_eq!(text(&mut sets, netns, &unseen), said(why, false));
    // The next reading may take a while to come.
    thread::sleep(Duration::from_millis(500));
    let second = now(2);
    assert_eq!(
        text(&mut sets, netns, &second),
        said("tcp dport 2 drop", true)
    );
    for (more, expected) in [(0, said("tcp dport 2 drop", true)), (1, None)] {
        let cookie = sets.reader.as_ref().unwrap().histories()[&netns].cookie;
        if cookie != 0 {
            let cookie = Some(cookie + more);
            let at = RuleAt {
                cookie,
                ..second.clone()
            };
            assert_eq!(text(&mut sets, netns, &at), expected);
        }
    }

    // A rule that is gone, and one that was not there before.
    let last = now(2);
    assert!(shell.run("nft 'delete rule inet t c handle 2; add rule inet t c drop'"));
    thread::sleep(Duration::from_millis(500));
    assert_eq!(
        text(&mut sets, netns, &second),
        said("tcp dport 2 drop", true)
    );
    assert_eq!(
        text(&mut sets, netns, &last),
        said("tcp dport 2 drop", true)
    );
    assert_eq!(text(&mut sets, netns, &now(3)), said("drop", true));

    // Elements of sets are no rules, and nothing is read again.
    assert!(shell.run("nft add set inet t s '{ type inet_service; }'"));
    thread::sleep(Duration::from_millis(500));
    let before = text(&mut sets, netns, &now(3));
    assert_eq!(before, said("drop", true));
    let middle = now(3);
    assert!(
        shell.run("nft add element inet t s '{ 1, 2 }' && nft delete element inet t s '{ 1 }'")
    );
    pause();
    assert_eq!(text(&mut sets, netns, &now(3)), said("drop", true));
    assert_eq!(text(&mut sets, netns, &middle), said("drop", true));

    // What is gone is let go.
    let after = now(3);
    drop(shell);
    thread::sleep(Duration::from_millis(2_500));
    assert_eq!(text(&mut sets, netns, &after).unwrap().0, "drop");
    assert!(netns::open(netns).is_none());
}

#[test]
fn what_is_not_there_has_no_rules() {
    let mut sets = RuleSets::default();
    assert_eq!(sets.find(1, &INPUT), Answer::Now(None));
    let mut sets = started();
    assert_eq!(find(&mut sets, 1, &INPUT), None);
    let unheard_of = RuleAt { family: 9, ..INPUT };
    assert_eq!(sets.find(1, &unheard_of), Answer::Now(None));
}
