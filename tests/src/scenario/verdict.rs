//! The verdicts that a scenario leads to.

use droptrace::doctor::Ability;
use droptrace::event::Code;
use serde::Deserialize;

use super::Abilities;

/// A code that a verdict about the scenario's hosts has.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a code of docs/verdicts.md, or { code = \"CODE\" } with `ability`, `without` or `why`"
)]
pub enum Told {
    /// It must be told.
    Always(Code),
    /// It depends.
    Bound(Bound),
}

/// On what it depends whether a code is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// The code.
    pub code: Code,
    /// What it takes; where `droptrace doctor` denies it, no verdict may have the code.
    #[serde(default)]
    pub ability: Abilities,
    /// Only where `droptrace doctor` denies this, a verdict may have the code.
    pub without: Option<Ability>,
    /// Why there may be none at all.
    pub why: Option<String>,
}
