//! How rules' counters are told to the kernel side: in blocks of those that lie
//! close together, so that one read shows them all.

use std::ops::Range;

use droptrace_types::{XT_BLOCKS, XT_COUNTERS, XT_NETNS_BLOCKS, XT_WINDOW, XtBlock, XtCounter};

/// Bytes of a counter.
const COUNTER: u64 = size_of::<XtCounter>() as u64;

/// A counter that is to be watched.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// Where it is.
    pub address: u64,
    /// The hooks from which its rule can be reached, a bit each.
    pub hooks: u8,
}

/// Blocks of the counters of one table, and for each one which of `watched` are in
/// it, in the block's order. `None` if that would be too many, or a counter is
/// where none can be.
#[must_use]
pub fn blocks(watched: &[Watched], template: &XtBlock) -> Option<Vec<(XtBlock, Vec<usize>)>> {
    let mut order: Vec<usize> = (0..watched.len()).collect();
    order.sort_by_key(|i| watched[*i].address);
    let mut blocks: Vec<(XtBlock, Vec<usize>)> = Vec::new();
    for i in order {
        let Watched { address, hooks } = watched[i];
        if address % 8 != 0 || address.checked_add(COUNTER).is_none() {
            return None;
        }
        let fits = blocks
            .last()
            .is_some_and(|(block, inside)| inside.len() < XT_COUNTERS && are_close(block, address));
        if !fits {
            if blocks.len() >= XT_NETNS_BLOCKS as usize {
                return None;
            }
            blocks.push((
                XtBlock {
                    address,
                    ..*template
                },
                Vec::new(),
            ));
        }
        let (block, inside) = blocks.last_mut()?;
        let at = address - block.address;
        block.at[inside.len()] = u16::try_from(at).ok()?;
        block.hooks[inside.len()] = hooks;
        block.len = u32::try_from(at + COUNTER).ok()?;
        block.count += 1;
        inside.push(i);
    }
    Some(blocks)
}

/// Whether a counter can be read together with those of a block. CPUs' counters
/// come in pieces of a page, and between two of them there may be nothing.
fn are_close(block: &XtBlock, address: u64) -> bool {
    let window = XT_WINDOW as u64;
    if block.per_cpu != 0 {
        return block.address / window == address / window;
    }
    address + COUNTER - block.address <= window
}

/// Which of the kernel side's blocks are in use.
#[derive(Debug)]
pub struct Slots {
    used: [bool; XT_BLOCKS],
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            used: [false; XT_BLOCKS],
        }
    }
}

impl Slots {
    /// Takes so many in a row; `None` where there is no such row.
    pub fn take(&mut self, count: usize) -> Option<Range<usize>> {
        let starts = 0..=XT_BLOCKS.checked_sub(count)?;
        let found = starts
            .map(|start| start..start + count)
            .find(|row| !self.used[row.clone()].contains(&true))?;
        self.used[found.clone()].fill(true);
        Some(found)
    }

    /// Gives them back.
    pub fn give_back(&mut self, row: Range<usize>) {
        if let Some(row) = self.used.get_mut(row) {
            row.fill(false);
        }
    }
}
