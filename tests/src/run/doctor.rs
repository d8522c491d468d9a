//! What `droptrace doctor` promises, and whether it was shown.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use droptrace::doctor::{Ability, Report, Row, SCHEMA, Status, WATCHED};

use super::Outcome;
use crate::scenario::{Abilities, Scenario};

/// The name under which it is reported that something was promised and not shown.
pub const PROMISES: &str = "every_ability_that_doctor_promises_is_shown";

/// droptrace's promises for this kernel.
pub struct Doctor {
    report: Report,
    shown: BTreeSet<Ability>,
}

impl Doctor {
    /// Asks droptrace.
    pub fn ask(droptrace: &Path) -> anyhow::Result<Self> {
        let output = Command::new(droptrace)
            .args(["doctor", "--json"])
            .output()
            .with_context(|| format!("cannot start {}", droptrace.display()))?;
        let report: Report = serde_json::from_slice(&output.stdout).with_context(|| {
            let error = String::from_utf8_lossy(&output.stderr);
            format!(
                "`droptrace doctor --json` printed no report: {}",
                error.trim()
            )
        })?;
        if report.schema != SCHEMA {
            bail!("the schema of `droptrace doctor --json` is not {SCHEMA}");
        }
        if !report.can_trace {
            bail!(
                "droptrace cannot trace here: {}",
                report.obstacles.join("; ")
            );
        }
        Ok(Self::new(report))
    }

    /// Asks again where what a scenario shows was still to come when it was asked:
    /// the scenario may have made it come.
    pub fn ask_again(&mut self, droptrace: &Path, scenario: &Scenario) -> anyhow::Result<()> {
        let is_open = |abilities: &Abilities| {
            let mut each = abilities.each().iter();
            each.any(|ability| self.status(*ability) == Status::Later)
        };
        let mut expects = scenario.expect.iter();
        if expects.any(|expect| is_open(&expect.ability) || is_open(&expect.ability_of_rule())) {
            self.report = Self::ask(droptrace)?.report;
        }
        Ok(())
    }

    pub(super) fn new(report: Report) -> Self {
        Self {
            report,
            shown: BTreeSet::new(),
        }
    }

    fn row(&self, ability: Ability) -> Option<&Row> {
        let mut rows = self.report.abilities.iter();
        rows.find(|row| row.ability == ability)
    }

    /// What it says of an ability.
    pub fn status(&self, ability: Ability) -> Status {
        self.row(ability).map_or(Status::No, |row| row.status)
    }

    /// The first of these that it denies, in its words. What comes later by
    /// itself is no denial: a scenario does what makes it come.
    pub fn denial(&self, abilities: &Abilities) -> Option<String> {
        let denied = |ability: &&Ability| self.status(**ability) == Status::No;
        let ability = abilities.each().iter().find(denied)?;
        let row = self.row(*ability);
        let why = row
            .and_then(|row| row.remedy.as_deref())
            .unwrap_or("unknown to it");
        Some(format!("doctor denies {}: {why}", name(*ability)))
    }

    /// Whether rules of nftables are named only while nftables' functions are watched,
    /// which begins after the first drop.
    pub fn rules_are_watched_for(&self) -> bool {
        let means = self
            .row(Ability::NetfilterRule)
            .and_then(|row| row.means.as_deref());
        means.is_some_and(|means| means.starts_with(WATCHED))
    }

    /// By which means rules of nftables are found, as a record says it.
    pub fn rules_are_found_by(&self) -> &'static str {
        if self.rules_are_watched_for() {
            "hook"
        } else {
            "frame"
        }
    }

    /// Its promise of these, in its words; empty if there are none.
    pub fn promise(&self, abilities: &Abilities) -> String {
        let rows = abilities
            .each()
            .iter()
            .filter_map(|ability| self.row(*ability));
        let promises = rows.map(|row| {
            let means = row.means.as_deref().unwrap_or("no means given");
            format!("\n  doctor promises {}: {means}", name(row.ability))
        });
        promises.collect()
    }

    /// Takes note of what a scenario that passed has shown.
    pub fn saw(&mut self, scenario: &Scenario) {
        for expect in &scenario.expect {
            if self.denial(&expect.ability).is_some() {
                continue;
            }
            for abilities in [&expect.ability, &expect.ability_of_rule()] {
                if self.denial(abilities).is_none() {
                    self.shown.extend(abilities.each());
                }
            }
        }
    }

    /// Whether all promises were shown by the scenarios that passed, and whether
    /// it denies only what it may deny, where that is known.
    pub fn judge(&self, may_deny: Option<&MayDeny>) -> Outcome {
        let rows = self.report.abilities.iter();
        let open =
            rows.filter(|row| row.status != Status::No && !self.shown.contains(&row.ability));
        let mut problems: Vec<String> = open
            .map(|row| {
                let means = row.means.as_deref().unwrap_or("no means given");
                let name = name(row.ability);
                format!("doctor promises {name} ({means}), but no scenario that passed showed it")
            })
            .collect();
        let rows = self.report.abilities.iter();
        let denied = rows.filter(|row| row.status == Status::No);
        problems.extend(
            denied
                .filter(|row| may_deny.is_some_and(|list| !list.0.contains(&row.ability)))
                .map(|row| {
                    let why = row.remedy.as_deref().unwrap_or("unknown to it");
                    let name = name(row.ability);
                    format!("doctor denies {name} ({why}), which this kernel should have")
                }),
        );
        if problems.is_empty() {
            Outcome::Pass
        } else {
            Outcome::Fail(problems)
        }
    }
}

/// The abilities that this kernel may lack.
#[derive(Clone, Debug)]
pub struct MayDeny(Vec<Ability>);

impl FromStr for MayDeny {
    type Err = String;

    /// Their names, separated by commas, or `none`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let read = |name: &str| {
            serde_json::from_value(name.into()).map_err(|_| format!("no ability is named `{name}`"))
        };
        text.split(',')
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// As the scenarios write it.
fn name(ability: Ability) -> String {
    serde_json::to_value(ability)
        .ok()
        .and_then(|name| Some(name.as_str()?.to_owned()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    const SCENARIO: &str = r#"
proves = "p"
topology = "alone"
[[traffic]]
in = "server"
wait_ms = 1
[[expect]]
record = {}
ability = "drops"
[[expect]]
record = {}
ability = ["drops", "process_of_receiver"]
"#;

    fn doctor(receiver: Status) -> Doctor {
        let row = |ability, status| Row {
            ability,
            label: "l".to_owned(),
            status,
            means: Some("kfree_skb".to_owned()),
            remedy: Some("too old".to_owned()),
        };
        Doctor::new(Report {
            schema: SCHEMA.to_owned(),
            kernel: "k".to_owned(),
            can_trace: true,
            obstacles: Vec::new(),
            abilities: vec![
                row(Ability::Drops, Status::Yes),
                row(Ability::ProcessOfReceiver, receiver),
            ],
        })
    }

    #[test]
    fn one_denied_ability_denies_the_expectation() {
        let scenario = parse(SCENARIO).unwrap();
        let doctor = doctor(Status::No);
        assert_eq!(doctor.denial(&scenario.expect[0].ability), None);
        assert_eq!(
            doctor.denial(&scenario.expect[1].ability).unwrap(),
            "doctor denies process_of_receiver: too old"
        );
    }

    #[test]
    fn a_promise_must_be_shown() {
        let scenario = parse(SCENARIO).unwrap();
        for status in [Status::Yes, Status::Partly, Status::Later] {
            let mut doctor = doctor(status);
            let Outcome::Fail(problems) = doctor.judge(None) else {
                panic!("nothing was shown yet");
            };
            assert!(
                problems[0].contains("doctor promises drops (kfree_skb)"),
                "{problems:?}"
            );
            assert_eq!(problems.len(), 2);
            doctor.saw(&scenario);
            assert!(matches!(doctor.judge(None), Outcome::Pass));
        }
    }

    #[test]
    fn a_denied_ability_need_not_be_shown_and_is_not() {
        let mut doctor = doctor(Status::No);
        doctor.saw(&parse(SCENARIO).unwrap());
        assert!(matches!(doctor.judge(None), Outcome::Pass));
        assert!(!doctor.shown.contains(&Ability::ProcessOfReceiver));
    }

    #[test]
    fn what_is_denied_must_be_on_the_list_where_there_is_one() {
        let mut doctor = doctor(Status::No);
        doctor.saw(&parse(SCENARIO).unwrap());
        let judge = |list: &str| doctor.judge(Some(&list.parse().unwrap()));
        assert!(matches!(doctor.judge(None), Outcome::Pass));
        assert!(matches!(
            judge("reset_reasons,process_of_receiver"),
            Outcome::Pass
        ));
        for list in ["none", "reset_reasons"] {
            let Outcome::Fail(problems) = judge(list) else {
                panic!("it denies what is not on the list");
            };
            assert_eq!(
                problems,
                ["doctor denies process_of_receiver (too old), which this kernel should have"]
            );
        }
        assert!("reset_reasons,rule".parse::<MayDeny>().is_err());
    }

    #[test]
    fn naming_a_rule_shows_that_rules_are_named() {
        let scenario = SCENARIO.replace("ability = \"drops\"", "rule = \"r\"")
            + "[rule.r]\nin = \"server\"\nnft = \"ip t c\"\n";
        let mut doctor = doctor(Status::No);
        doctor.report.abilities[1].ability = Ability::NetfilterRule;
        let scenario = parse(&scenario).unwrap();
        doctor.saw(&scenario);
        assert!(!doctor.shown.contains(&Ability::NetfilterRule));
        doctor.report.abilities[1].status = Status::Partly;
        doctor.saw(&scenario);
        assert!(doctor.shown.contains(&Ability::NetfilterRule));
    }
}
