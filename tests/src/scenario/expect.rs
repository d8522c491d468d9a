//! What a scenario expects: record patterns, counts, and numbers from outside
//! the tracer.

use anyhow::bail;
use droptrace::doctor::Ability;
use serde::Deserialize;

/// Records that must be there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// What the record must say; see `run/matcher.rs`.
    pub record: toml::Table,
    /// The host whose network namespace `where.netns` must name.
    pub host: Option<String>,
    /// How many packets all matching records stand for.
    #[serde(default)]
    pub packets: Count,
    /// How many bytes they stand for; not checked if absent.
    pub bytes: Option<Count>,
    /// Whether `loss` records count too.
    #[serde(default)]
    pub with_loss: bool,
    /// What it takes; where `droptrace doctor` denies it, no record may match.
    #[serde(default)]
    pub ability: Abilities,
    /// The `[rule.NAME]` that the record must name. Where `droptrace doctor`
    /// denies that, the rest holds, and no record may name it.
    pub rule: Option<String>,
}

impl Expect {
    /// Whether a rule of nftables must be named.
    pub fn is_about_a_rule(&self) -> bool {
        self.rule.is_some() || self.ability.each().contains(&Ability::NetfilterRule)
    }

    /// What it takes to name its rule.
    pub fn ability_of_rule(&self) -> Abilities {
        match self.rule {
            Some(_) => Abilities::One(Ability::NetfilterRule),
            None => Abilities::default(),
        }
    }
}

/// Records that must not be there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// As in [`Expect`].
    pub record: toml::Table,
    /// As in [`Expect`].
    pub host: Option<String>,
    /// Why it would be wrong.
    pub why: String,
}

/// Records that may be there, in any number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// As in [`Expect`].
    pub record: toml::Table,
    /// As in [`Expect`].
    pub host: Option<String>,
    /// Why it is no fault.
    #[expect(dead_code, reason = "asked of the author, for the reader of the file")]
    pub why: String,
    /// What it takes; where `droptrace doctor` denies it, it is not allowed.
    #[serde(default)]
    pub ability: Abilities,
}

/// What droptrace must be able to do: nothing in particular, one thing, several.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "an ability, or a list of them, as `droptrace doctor --json` names them"
)]
pub enum Abilities {
    /// This.
    One(Ability),
    /// All of these.
    All(Vec<Ability>),
}

impl Default for Abilities {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Abilities {
    /// Each of them.
    pub fn each(&self) -> &[Ability] {
        match self {
            Self::One(ability) => std::slice::from_ref(ability),
            Self::All(abilities) => abilities,
        }
    }
}

/// A condition on a number of packets or bytes.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a count is a number, { at_least = N }, { at_least = N, at_most = N } or { truth = \"NAME\" }"
)]
pub enum Count {
    /// This many.
    Exactly(u64),
    /// As many as the truth of this name.
    Truth(CountTruth),
    /// Within bounds.
    Range(CountRange),
}

/// `{ truth = "NAME" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountTruth {
    truth: String,
}

/// `{ at_least = N }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountRange {
    /// Lower bound.
    at_least: u64,
    /// Upper bound.
    at_most: Option<u64>,
}

impl Default for Count {
    fn default() -> Self {
        Self::Range(CountRange {
            at_least: 1,
            at_most: None,
        })
    }
}

impl Count {
    /// The truth it asks for.
    pub fn truth(&self) -> Option<&str> {
        match self {
            Self::Truth(count) => Some(&count.truth),
            Self::Exactly(_) | Self::Range(_) => None,
        }
    }

    /// Why this number is wrong, if it is. `truth` is the number for
    /// [`Count::truth`].
    pub fn objection(&self, number: u64, truth: Option<u64>) -> Option<String> {
        match self {
            Self::Exactly(wanted) if number != *wanted => Some(format!("expected {wanted}")),
            Self::Truth(count) if Some(number) != truth => {
                let says = truth.map_or("nothing".to_owned(), |truth| truth.to_string());
                Some(format!("but truth.{} says {says}", count.truth))
            }
            Self::Range(range) if number < range.at_least => {
                Some(format!("expected at least {}", range.at_least))
            }
            Self::Range(CountRange {
                at_most: Some(most),
                ..
            }) if number > *most => Some(format!("expected at most {most}")),
            Self::Exactly(_) | Self::Truth(_) | Self::Range(_) => None,
        }
    }
}

/// A number from outside the tracer: how much it rose during the traffic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    nft_counter: Option<NftCounter>,
    nstat: Option<Nstat>,
    command: Option<CommandTruth>,
    /// The number that the traffic must lead to, where it is known.
    pub is: Option<u64>,
}

/// A named counter of nft.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NftCounter {
    r#in: String,
    /// Family of its table.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Whether bytes are meant, not packets.
    #[serde(default)]
    pub bytes: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nstat {
    r#in: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandTruth {
    r#in: String,
    run: String,
}

/// Where and how a truth is read.
pub struct TruthSource {
    /// The host.
    pub r#in: String,
    /// How.
    pub reading: Reading,
}

/// How a truth is read.
pub enum Reading {
    /// By a shell command that prints the number.
    Shell(String),
    /// From what `nft list counters` prints.
    Nft(NftCounter),
    /// From `/proc/net/{snmp,netstat,snmp6}`, by the counter's name.
    Counter(String),
}

impl Truth {
    /// Where and how it is read.
    pub fn source(&self) -> anyhow::Result<TruthSource> {
        Ok(match (&self.nft_counter, &self.nstat, &self.command) {
            (Some(counter), None, None) => TruthSource {
                r#in: counter.r#in.clone(),
                reading: Reading::Nft(counter.clone()),
            },
            (None, Some(nstat), None) => TruthSource {
                r#in: nstat.r#in.clone(),
                reading: Reading::Counter(nstat.name.clone()),
            },
            (None, None, Some(command)) => TruthSource {
                r#in: command.r#in.clone(),
                reading: Reading::Shell(command.run.clone()),
            },
            _ => bail!("needs exactly one of `nft_counter`, `nstat`, `command`"),
        })
    }
}
