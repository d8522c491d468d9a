//! The counters of xtables rules, as user space tells the kernel side of them.

/// Counters of a [`XtBlock`] at most.
pub const XT_COUNTERS: usize = 64;
/// Bytes of kernel memory that a [`XtBlock`]'s counters span at most.
pub const XT_WINDOW: usize = 4096;
/// Blocks of all namespaces at most.
pub const XT_BLOCKS: usize = 256;
/// Blocks of one namespace at most: those of 8,192 rules that stand in a row.
pub const XT_NETNS_BLOCKS: u32 = 128;
/// Namespaces at most.
pub const XT_NETNS: usize = 64;
/// Bytes of kernel memory that are read at once at most.
pub const XT_PIECE: usize = 32768;

/// A namespace whose rules' counters are watched.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XtGroup {
    /// The first of its blocks, which stand in a row.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Of this registration; never 0, and never used again.
    pub serial: u32,
    /// What comparing them costs, in some 10 ns.
    pub cost: u32,
    /// Not 0 if one of them has [`XtBlock::policies`].
    pub policies: u32,
}

/// Counters of rules of one table that lie close to each other.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XtBlock {
    /// Address of the first one; of all CPUs' counters, or of the first CPU's, if
    /// there are such.
    pub address: u64,
    /// Address of the table, as a hook has it.
    pub owner: u64,
    /// Address of the table's pointer to its rules.
    pub table: u64,
    /// What stands there as long as the rules are those that were registered.
    pub info: u64,
    /// How what that points to begins: its size, and how many rules it has.
    pub head: u64,
    /// As [`XtGroup::serial`].
    pub serial: u32,
    /// How many.
    pub count: u32,
    /// Bytes from the first to the end of the last.
    pub len: u32,
    /// 1 if each CPU has its own counters, in its per-CPU memory.
    pub per_cpu: u32,
    /// From one CPU's counters to the next one's, where they stand in rows.
    pub stride: u32,
    /// The hooks, a bit each, at which the table drops by a policy what none of its
    /// rules does. Of one block of each table.
    pub policies: u32,
    /// Where each one stands, from `address` on.
    pub at: [u16; XT_COUNTERS],
    /// The hooks from which each one's rule can be reached, a bit each.
    pub hooks: [u8; XT_COUNTERS],
}

impl XtBlock {
    /// Without counters.
    pub const EMPTY: Self = Self {
        address: 0,
        owner: 0,
        table: 0,
        info: 0,
        head: 0,
        serial: 0,
        count: 0,
        len: 0,
        per_cpu: 0,
        stride: 0,
        policies: 0,
        at: [0; XT_COUNTERS],
        hooks: [0; XT_COUNTERS],
    };
}

/// `struct xt_counters`.
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/x_tables.h>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XtCounter {
    /// Packets.
    pub packets: u64,
    /// Their bytes, as `skb->len` has them.
    pub bytes: u64,
}

/// A rule whose counter is watched, as [`crate::Cause::rule`] has it. Its highest
/// bit is not set, as that of a kernel address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XtRule {
    /// [`XtGroup::serial`].
    pub serial: u32,
    /// Index of the block.
    pub block: u32,
    /// Index in the block; from [`XtRule::POLICY`] on a hook, whose policy it was.
    pub index: u32,
}

impl XtRule {
    /// The highest serial number.
    pub const MAX_SERIAL: u32 = i32::MAX as u32;

    /// The index that stands for the policy at hook 0: none of a counter.
    pub const POLICY: u32 = 0x80;

    /// As a word.
    #[must_use]
    #[inline]
    pub const fn pack(self) -> u64 {
        (self.serial as u64) << 32 | (self.block as u64) << 8 | self.index as u64
    }

    /// From a word; `None` if it is none of these.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the halves of a word are taken apart"
    )]
    pub const fn unpack(word: u64) -> Option<Self> {
        if word >> 63 != 0 || word >> 32 == 0 {
            return None;
        }
        Some(Self {
            serial: (word >> 32) as u32,
            block: (word as u32) >> 8,
            index: word as u32 & 0xff,
        })
    }
}

const _: () = {
    assert!(XT_COUNTERS <= XtRule::POLICY as usize);
    assert!(size_of::<XtGroup>() == 20);
    assert!(size_of::<XtBlock>() == 64 + 3 * XT_COUNTERS);
    assert!(size_of::<XtCounter>() == 16);
};
