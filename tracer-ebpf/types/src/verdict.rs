//! Of rules that are seen by nftables' own functions while these decide.

/// What nftables' functions have in hand when one of them is about to decide, and
/// where a chain says what it is called. Found by trial, as [`crate::Places`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerdictPlaces {
    /// 1 if all places are known.
    pub is_known: u32,
    /// The rule, as a word counted as in [`VerdictWords`].
    pub rule_at: u32,
    /// Bytes from there to the rule's head, behind which its expressions stand.
    pub head_at: u32,
    /// What the head looks like.
    pub head: HeadForm,
    /// Offset of the table in a chain.
    pub chain_table: u32,
    /// Offset of the handle in a chain.
    pub chain_handle: u32,
    /// Offset of the handle in a table.
    pub table_handle: u32,
}

/// Where a rule's head, one word, has the rule's handle and the length of its
/// expressions.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadForm {
    /// Bits below the handle, which has 42.
    pub handle_shift: u32,
    /// Bits below the length, which has 12.
    pub len_shift: u32,
}

impl HeadForm {
    /// Those that kernels have: `handle:42, genmask:2, dlen:12` of `struct nft_rule`
    /// where rules stand on their own (before Linux 5.17), and `is_last:1, dlen:12,
    /// handle:42` of `struct nft_rule_dp`.
    /// <https://github.com/torvalds/linux/blob/v5.10/include/net/netfilter/nf_tables.h>
    pub const ALL: [Self; 2] = [
        Self {
            handle_shift: 0,
            len_shift: 44,
        },
        Self {
            handle_shift: 13,
            len_shift: 1,
        },
    ];

    /// The handle in a head.
    #[must_use]
    #[inline]
    pub const fn handle(self, head: u64) -> u64 {
        head >> (self.handle_shift & 63) & ((1 << 42) - 1)
    }

    /// Whether the rule whose head stands at `at` has an expression at `expression`.
    #[must_use]
    #[inline]
    pub const fn has(self, head: u64, at: u64, expression: u64) -> bool {
        let first = at.wrapping_add(8);
        let len = head >> (self.len_shift & 63) & 0xfff;
        expression >= first && expression < first.wrapping_add(len)
    }
}

/// Registers that are searched, at most.
pub const VERDICT_REGISTERS: usize = 40;
/// Words that are searched: the registers, and what stands on the stack behind the
/// return address.
pub const VERDICT_WORDS: usize = VERDICT_REGISTERS + 88;
/// Words behind an address that may be the head of the rule there.
pub const VERDICT_HEADS: usize = 4;

/// What a function of nftables had in hand when it was about to decide.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictWords {
    /// Address of the packet.
    pub packet: u64,
    /// Address of the expression.
    pub expression: u64,
    /// Address of the base chain.
    pub base: u64,
    /// The words.
    pub words: [u64; VERDICT_WORDS],
    /// What stands at the addresses among them, and in the words behind.
    pub heads: [[u64; VERDICT_WORDS]; VERDICT_HEADS],
}

impl VerdictWords {
    /// Of no function.
    pub const NONE: Self = Self {
        packet: 0,
        expression: 0,
        base: 0,
        words: [0; VERDICT_WORDS],
        heads: [[0; VERDICT_WORDS]; VERDICT_HEADS],
    };
}

/// In [`crate::Cause::rule`], the address of a base chain plus this stands for its
/// policy.
pub const POLICY: u64 = 1;

/// Mark of the packets of a trial: `drop`.
pub const TRIAL_MARK: u32 = 0x6472_6f70;
