//! How the kernel side is told where rules stand and what they look like.

use std::io;

use aya::{
    Ebpf,
    maps::{Array, MapData, MapError},
};
use droptrace_types::{RULE_STACK_WORDS, RuleLayout, RulePlace, RuleStack};

use super::{LoadError, take};

/// The maps of rule attribution.
pub struct RuleMaps {
    layout: Array<MapData, RuleLayout>,
    place: Array<MapData, RulePlace>,
    stack: Array<MapData, RuleStack>,
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
            place: Array::try_from(take(ebpf, "RULE_PLACE")?)?,
            stack: Array::try_from(take(ebpf, "RULE_STACK")?)?,
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

    /// Says where the rule stands, or in which namespace it is looked for.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn set_place(&mut self, place: &RulePlace) -> io::Result<()> {
        self.place.set(0, place, 0).map_err(io::Error::other)
    }

    /// Makes [`RuleMaps::stack`] empty.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn forget_stack(&mut self) -> io::Result<()> {
        let nothing = RuleStack {
            words: [0; RULE_STACK_WORDS],
            heads: [0; RULE_STACK_WORDS],
        };
        self.stack.set(0, nothing, 0).map_err(io::Error::other)
    }

    /// The stack at the last event in that namespace, zeros if there was none.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn stack(&mut self) -> io::Result<Box<RuleStack>> {
        let stack = self.stack.get(&0, 0).map_err(io::Error::other)?;
        Ok(Box::new(stack))
    }
}
