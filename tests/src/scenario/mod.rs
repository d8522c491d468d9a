//! What a scenario file says, and how it is read.

mod expect;
mod raw;
mod rule;
mod topology;
mod traffic;
mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use droptrace::event::EventKind;
use serde::Deserialize;

pub use self::expect::{Abilities, Absent, Allow, Count, Expect, NftCounter, Reading, Truth};
pub use self::raw::{Extension, Raw, RawProto};
pub use self::rule::{List, Rule};
pub use self::topology::{End, Topology, link_address};
pub use self::traffic::{
    Accepted, Connect, ConnectEnd, ConnectOutcome, DropByBpf, FillConntrack, SendOutcome,
    TcpListen, Traffic, UdpBind, UdpSend, Verb,
};
pub use self::verdict::{Bound, Told};

/// One scenario file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The sentence it proves.
    pub proves: String,
    /// Tools and kernel features without which it is skipped.
    #[serde(default)]
    pub needs: Vec<String>,
    /// What it proves does not depend on the kernel.
    #[serde(default)]
    pub one_kernel: bool,
    /// All its processes run on one CPU, so that packets keep their order.
    #[serde(default)]
    pub one_cpu: bool,
    /// Hosts and links.
    pub topology: Topology,
    /// What is done in the hosts before the tracer starts.
    #[serde(default)]
    pub setup: Vec<Setup>,
    /// How droptrace is called.
    #[serde(default)]
    pub tracer: Tracer,
    /// That droptrace makes an attempt itself, instead of `tracer`.
    pub probe: Option<Probe>,
    /// What happens while droptrace runs.
    #[serde(default)]
    pub traffic: Vec<Traffic>,
    /// What must hold when droptrace has ended.
    #[serde(default)]
    pub after: Vec<After>,
    /// Numbers from outside the tracer.
    #[serde(default)]
    pub truth: BTreeMap<String, Truth>,
    /// Rules as their own tools list them.
    #[serde(default)]
    pub rule: BTreeMap<String, Rule>,
    /// The codes of the verdicts about its hosts, where no pattern speaks of verdicts.
    #[serde(default)]
    pub verdicts: Vec<Told>,
    /// Records that must be there.
    #[serde(default)]
    pub expect: Vec<Expect>,
    /// Records that must not be there.
    #[serde(default)]
    pub absent: Vec<Absent>,
    /// Records that may be there.
    #[serde(default)]
    pub allow: Vec<Allow>,
}

/// One step of `[[setup]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The host.
    pub r#in: String,
    /// A rule set for `nft -f`.
    pub nft: Option<String>,
    /// A shell command.
    pub run: Option<String>,
    /// Sysctls by dotted name.
    pub sysctl: Option<BTreeMap<String, toml::Value>>,
}

/// One command of `[[after]]`, which must succeed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// The host.
    pub r#in: String,
    /// The shell command.
    pub run: String,
}

/// `[tracer]`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of a file"
)]
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracer {
    /// Arguments; `--format json` is always added.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its programs may run only for what the records tell.
    #[serde(default)]
    pub runs_only_for_records: bool,
    /// The kernel must have kept its program from packets, because it ran already;
    /// where it did, most are recorded all the same.
    #[serde(default)]
    pub is_interrupted: bool,
    /// It is ended by SIGKILL instead of Ctrl-C.
    #[serde(default)]
    pub killed: bool,
    /// It runs as a daemon, whose file has the records.
    #[serde(default)]
    pub daemon: bool,
    /// It gets these arguments and no others, whatever the runner is asked for.
    #[serde(default)]
    pub as_given: bool,
}

/// `[probe]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The host.
    pub r#in: String,
    /// Arguments; `--netns` of the host and `--format json` are always added.
    pub args: Vec<String>,
    /// The exit code that it must end with.
    pub exit: i32,
}

/// A file and what it says, or why it says nothing.
pub struct Loaded {
    /// The file's name without its ending.
    pub name: String,
    /// The scenario.
    pub scenario: anyhow::Result<Scenario>,
}

/// Reads every scenario of a folder, in the order of their names, those first
/// that must be.
pub fn load(dir: &Path) -> anyhow::Result<Vec<Loaded>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .with_context(|| format!("cannot list the scenarios in {}", dir.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    let mut all: Vec<Loaded> = paths.iter().map(|path| read(path)).collect();
    all.sort_by_key(|loaded| !loaded.scenario.as_ref().is_ok_and(Scenario::is_first));
    Ok(all)
}

fn read(path: &Path) -> Loaded {
    let scenario = std::fs::read_to_string(path)
        .map_err(anyhow::Error::from)
        .and_then(|text| parse(&text))
        .with_context(|| format!("bad scenario file {}", path.display()));
    Loaded {
        name: path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        scenario,
    }
}

/// Reads one scenario and checks what its types cannot say.
pub fn parse(text: &str) -> anyhow::Result<Scenario> {
    let scenario: Scenario = toml::from_str(text)?;
    scenario.check()?;
    Ok(scenario)
}

impl Scenario {
    /// Whether it must run before others, because one of them may load a kernel
    /// module that must not be loaded yet.
    pub fn is_first(&self) -> bool {
        self.needs.iter().any(|need| need.starts_with("unloaded:"))
    }

    /// Whether it expects that a rule of nftables is named.
    pub fn is_about_rules(&self) -> bool {
        self.expect.iter().any(Expect::is_about_a_rule)
    }

    /// The exit code that droptrace must end with; `None` where it is killed.
    pub fn exit(&self) -> Option<i32> {
        let of_probe = self.probe.as_ref().map_or(0, |probe| probe.exit);
        (!self.tracer.killed).then_some(of_probe)
    }

    /// Whether a pattern asks for records of this kind by name.
    pub fn speaks_of(&self, kind: EventKind) -> bool {
        let expected = self.expect.iter().map(|expect| &expect.record);
        let absent = self.absent.iter().map(|absent| &absent.record);
        let allowed = self.allow.iter().map(|allow| &allow.record);
        let kinds = expected.chain(absent).chain(allowed);
        kinds
            .filter_map(|record| record.get("kind"))
            .any(|named| match named {
                toml::Value::Array(several) => several.iter().any(|named| names(named, kind)),
                one => names(one, kind),
            })
    }

    fn check(&self) -> anyhow::Result<()> {
        if let Some(probe) = &self.probe {
            self.check_host(&probe.r#in, "probe")?;
            if self.tracer != Tracer::default() {
                bail!("`tracer` and `probe` exclude each other");
            }
        } else if self.traffic.is_empty() {
            bail!("needs `traffic` or a `probe`");
        }
        for (index, setup) in self.setup.iter().enumerate() {
            let at = format!("setup {}", index + 1);
            self.check_host(&setup.r#in, &at)?;
            let actions = [
                setup.nft.is_some(),
                setup.run.is_some(),
                setup.sysctl.is_some(),
            ];
            if actions.iter().filter(|is| **is).count() != 1 {
                bail!("{at}: needs exactly one of `nft`, `run`, `sysctl`");
            }
        }
        for (index, traffic) in self.traffic.iter().enumerate() {
            let at = format!("traffic {}", index + 1);
            self.check_host(&traffic.r#in, &at)?;
            traffic.verb().with_context(|| at.clone())?;
            if traffic.before && self.probe.is_some() {
                bail!("{at}: a `probe` comes after all traffic, `before` or not");
            }
            if let Some(name) = &traffic.until
                && !self.truth.contains_key(name)
            {
                bail!("{at}: there is no `[truth.{name}]`");
            }
        }
        for (index, after) in self.after.iter().enumerate() {
            self.check_host(&after.r#in, &format!("after {}", index + 1))?;
        }
        for (name, truth) in &self.truth {
            let at = format!("truth.{name}");
            self.check_host(&truth.source().with_context(|| at.clone())?.r#in, &at)?;
        }
        for (name, rule) in &self.rule {
            let at = format!("rule.{name}");
            rule.list().with_context(|| at.clone())?;
            self.check_host(&rule.r#in, &at)?;
        }
        if !self.verdicts.is_empty() && self.speaks_of(EventKind::Verdict) {
            bail!("`verdicts` and patterns of verdicts exclude each other");
        }
        if self.expect.is_empty() {
            bail!("needs an `expect`: without one a droptrace that sees nothing would pass");
        }
        let hosts = self
            .expect
            .iter()
            .map(|expect| &expect.host)
            .chain(self.absent.iter().map(|absent| &absent.host))
            .chain(self.allow.iter().map(|allow| &allow.host));
        for host in hosts.flatten() {
            self.check_host(host, "a record pattern")?;
        }
        for expect in &self.expect {
            let counts = [Some(&expect.packets), expect.bytes.as_ref()];
            for name in counts.into_iter().flatten().filter_map(Count::truth) {
                if !self.truth.contains_key(name) {
                    bail!("expect: there is no `[truth.{name}]`");
                }
            }
            if let Some(name) = &expect.rule
                && !self.rule.contains_key(name)
            {
                bail!("expect: there is no `[rule.{name}]`");
            }
        }
        Ok(())
    }

    fn check_host(&self, host: &str, at: &str) -> anyhow::Result<()> {
        if self.topology.hosts.contains_key(host) {
            return Ok(());
        }
        let known: Vec<&str> = self.topology.hosts.keys().map(String::as_str).collect();
        bail!(
            "{at}: no host `{host}` in the topology (there are: {})",
            known.join(", ")
        )
    }
}

/// Whether a value is the name of this kind.
fn names(value: &toml::Value, kind: EventKind) -> bool {
    value.clone().try_into::<EventKind>() == Ok(kind)
}

#[cfg(test)]
mod tests;
