//! Which tool's tables there are.

/// Which tool's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `iptables`
    Ip,
    /// `ip6tables`
    Ip6,
    /// `ebtables`
    Bridge,
}

impl Family {
    /// All.
    pub const ALL: [Self; 3] = [Self::Ip, Self::Ip6, Self::Bridge];

    /// As nft calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Bridge => "bridge",
        }
    }

    /// `NFPROTO_*`
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ip => 2,
            Self::Ip6 => 10,
            Self::Bridge => 7,
        }
    }
}
