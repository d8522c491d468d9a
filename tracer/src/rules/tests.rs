//! Rule sets of namespaces that a shell makes and changes.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::*;

const INPUT: RuleAt = RuleAt {
    family: 1,
    table: 1,
    chain: 1,
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
    let ns = u64::try_from(clock::read(libc::CLOCK_MONOTONIC)).unwrap();
    RuleAt { rule, ns, ..INPUT }
}

fn text(sets: &mut RuleSets, netns: u32, at: &RuleAt) -> Option<(String, bool)> {
    let found = sets.find(netns, at)?;
    Some((found.text?, found.then))
}

#[test]
fn rules_are_read_again_when_they_have_changed() {
    let mut shell = Shell::new();
    let made = shell
        .run("nft 'table inet t { chain c { type filter hook input priority 0; policy drop; }; }'");
    if !made || !shell.run("nft add rule inet t c tcp dport 1 drop comment '\"why\"'") {
        eprintln!("not tested: it takes root, nft and a kernel with nf_tables");
        return;
    }
    let netns = shell.netns();
    let mut sets = RuleSets::default();
    let found = sets.find(netns, &INPUT).unwrap();
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
    let policy = sets.find(netns, &RuleAt { rule: 0, ..INPUT }).unwrap();
    assert_eq!(
        policy.text.as_deref(),
        Some("type filter hook input priority filter; policy drop;")
    );
    assert_eq!((policy.verdict, policy.comment), (None, None));

    assert!(!policy.then);
    let first = Some(("tcp dport 1 drop comment \"why\"".to_owned(), true));
    assert_eq!(text(&mut sets, netns, &now(2)), first);

    // The handle stays, the text does not.
    let before = now(2);
    assert!(shell.run("nft replace rule inet t c handle 2 tcp dport 2 drop"));
    std::thread::sleep(Duration::from_secs(1));
    sets.look_again();
    let second = |then| Some(("tcp dport 2 drop".to_owned(), then));
    assert_eq!(text(&mut sets, netns, &before), second(false));
    assert_eq!(text(&mut sets, netns, &now(2)), second(true));
    let cookie = sets.remembered[&netns].generation.unwrap().cookie;
    for (told, expected) in [(cookie, second(true)), (cookie + 1, None)] {
        let cookie = Some(told).filter(|_| cookie != 0);
        let expected = cookie.map_or_else(|| second(true), |_| expected);
        assert_eq!(
            text(&mut sets, netns, &RuleAt { cookie, ..now(2) }),
            expected
        );
    }

    assert!(shell.run("nft delete rule inet t c handle 2 && nft add rule inet t c drop"));
    let before = now(3);
    assert_eq!(text(&mut sets, netns, &before), None);
    std::thread::sleep(Duration::from_secs(1));
    sets.look_again();
    let third = |then| Some(("drop".to_owned(), then));
    assert_eq!(text(&mut sets, netns, &before), third(false));
    assert_eq!(text(&mut sets, netns, &now(3)), third(true));
    let gone = sets.find(netns, &INPUT).unwrap();
    assert_eq!((&*gone.chain, gone.position, gone.text), ("c", None, None));

    // Changed again, with no time to read it.
    sets.remembered.get_mut(&netns).unwrap().not_before += Duration::from_secs(60);
    assert!(shell.run("nft add rule inet t c accept"));
    sets.look_again();
    assert_eq!(text(&mut sets, netns, &now(3)), third(false));

    drop(shell);
    sets.look_again();
    assert_eq!(sets.find(netns, &now(3)), None);
}

#[test]
fn what_is_not_there_has_no_rules() {
    let mut sets = RuleSets::default();
    assert_eq!(sets.find(1, &INPUT), None);
    assert_eq!(sets.find(1, &RuleAt { family: 9, ..INPUT }), None);
    assert!(sets.remembered.is_empty());
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut sets = RuleSets::default();
    for netns in 0..1_000 {
        sets.make_room(0);
        let set = RuleSet {
            path: PathBuf::new(),
            generation: None,
            since_ns: None,
            listing: None,
            round: netns.into(),
            not_before: Instant::now(),
        };
        sets.remembered.insert(netns, set);
    }
    assert_eq!(sets.remembered.len(), MAX_REMEMBERED);
    assert!(sets.remembered.contains_key(&999));
    sets.make_room(MAX_BYTES + 1);
    assert!(sets.remembered.is_empty());
}
