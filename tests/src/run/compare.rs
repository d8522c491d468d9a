//! `--compare-rules`: droptrace names rules by all means that it has, and says how
//! often they agree.

use std::fmt;

use crate::sandbox::Sandbox;
use crate::scenario::Scenario;

/// Filters that droptrace asks for before it has a rule set tell.
const BY_FLOW: [&str; 5] = ["--src", "--dst", "--host", "--port", "--proto"];

/// The arguments that a scenario's droptrace gets beside its own: none where it is
/// to have its own alone, or its filter does not say which packets are meant.
pub fn arguments(scenario: &Scenario, sandbox: &Sandbox) -> anyhow::Result<Vec<String>> {
    let own = &scenario.tracer.args;
    let has = |flag: &str| own.iter().any(|arg| arg == flag);
    if scenario.tracer.as_given || !BY_FLOW.iter().any(|flag| has(flag)) {
        return Ok(Vec::new());
    }
    let mut added = vec!["--compare-rules".to_owned()];
    if !has("--allow-system-changes") {
        added.push("--allow-system-changes".to_owned());
    }
    if !has("--netns") {
        for host in scenario.topology.hosts.keys() {
            let inode = sandbox.host(host)?.inode;
            added.extend(["--netns".to_owned(), inode.to_string()]);
        }
    }
    Ok(added)
}

/// How many rules were named by two means, and by both alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    named: u64,
    agreed: u64,
}

impl Share {
    /// What droptrace says at its end; `None` where it compared nothing.
    pub fn read(stderr: &str) -> Option<Self> {
        let line = stderr.lines().rev();
        let mut lines = line.filter_map(|line| line.strip_prefix("droptrace: rules: "));
        let (named, rest) = lines.next()?.split_once(" named by two means, ")?;
        let (agreed, _) = rest.split_once(" agree ")?;
        Some(Self {
            named: named.parse().ok()?,
            agreed: agreed.parse().ok()?,
        })
    }

    /// Adds that of another run.
    pub fn add(&mut self, other: Self) {
        self.named += other.named;
        self.agreed += other.agreed;
    }

    /// Whether there was something to compare, and no difference.
    pub fn is_whole(self) -> bool {
        self.named > 0 && self.agreed == self.named
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { named, agreed } = self;
        let share = (agreed * 100).checked_div(*named).unwrap_or(100);
        write!(
            f,
            "rules: {named} named by two means, {agreed} agree ({share} %)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_what_droptrace_says() {
        let said = "droptrace: tracing --proto udp; Ctrl-C ends\n\
            droptrace: rules: 107 named by two means, 106 agree (99 %)\n";
        let mut share = Share::read(said).unwrap();
        assert_eq!(
            share,
            Share {
                named: 107,
                agreed: 106
            }
        );
        assert!(!share.is_whole());
        share.add(share);
        assert_eq!(
            share.to_string(),
            "rules: 214 named by two means, 212 agree (99 %)"
        );
        assert_eq!(Share::read("droptrace: tracing\n"), None);
        assert!(!Share::default().is_whole());
    }
}
