//! How the kernel side is told where rules stand and what they look like.

use std::io;

use aya::{
    Ebpf,
    maps::{Array, MapData, MapError},
};
use droptrace_types::{Places, RuleLayout, STACK_WORDS, StackWords, VerdictWords};

use super::{LoadError, take};

/// The maps of rule attribution.
pub struct RuleMaps {
    layout: Array<MapData, RuleLayout>,
    places: Array<MapData, Places>,
    trial: Array<MapData, StackWords>,
    verdict_trial: Array<MapData, VerdictWords>,
}

impl RuleMaps {
    /// From the loaded object.
    ///
    /// # Errors
    ///
    /// If the object lacks one.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            layout: Array::try_from(take(ebpf, "RULE_LAYOUT")?)?,
            places: Array::try_from(take(ebpf, "PLACES")?)?,
            trial: Array::try_from(take(ebpf, "TRIAL")?)?,
            verdict_trial: Array::try_from(take(ebpf, "VERDICT_TRIAL")?)?,
        })
    }

    /// Says what rules look like.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn set_layout(&mut self, layout: &RuleLayout) -> Result<(), MapError> {
        self.layout.set(0, layout, 0)
    }

    /// Says where on the stack stands what tells who dropped a packet, or in which
    /// namespace that is looked for.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn set_places(&mut self, places: &Places) -> io::Result<()> {
        self.places.set(0, places, 0).map_err(io::Error::other)
    }

    /// Makes [`RuleMaps::stack`] and [`RuleMaps::verdict`] empty.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn forget_stack(&mut self) -> io::Result<()> {
        let nothing = StackWords {
            at: 0,
            words: [0; STACK_WORDS],
            heads: [0; STACK_WORDS],
            chains: [0; STACK_WORDS],
            packet: 0,
            location: 0,
            verdict: 0,
            verdict_head: 0,
        };
        self.trial.set(0, nothing, 0).map_err(io::Error::other)?;
        let set = self.verdict_trial.set(0, VerdictWords::NONE, 0);
        set.map_err(io::Error::other)
    }

    /// The stack at the last event in that namespace, zeros if there was none.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn stack(&mut self) -> io::Result<Box<StackWords>> {
        let stack = self.trial.get(&0, 0).map_err(io::Error::other)?;
        Ok(Box::new(stack))
    }

    /// What the last function had in hand that was about to decide in that namespace,
    /// zeros if there was none.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn verdict(&mut self) -> io::Result<Box<VerdictWords>> {
        let words = self.verdict_trial.get(&0, 0).map_err(io::Error::other)?;
        Ok(Box::new(words))
    }
}
