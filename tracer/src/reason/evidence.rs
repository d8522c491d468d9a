//! What a freed packet shows about why it was freed.

use std::{net::IpAddr, sync::Arc};

pub use droptrace_types::Sign;

/// Signs that were read, and which of them were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    seen: u32,
    read: u32,
}

impl Signs {
    /// From bits: those seen, and those that were looked for at all.
    #[must_use]
    pub const fn from_bits(seen: u32, read: u32) -> Self {
        Self { seen, read }
    }

    /// With this sign read.
    #[must_use]
    pub const fn with(self, sign: Sign, seen: bool) -> Self {
        let bit = sign.bit();
        Self {
            seen: if seen {
                self.seen | bit
            } else {
                self.seen & !bit
            },
            read: self.read | bit,
        }
    }

    /// Whether it was read and seen.
    #[must_use]
    pub const fn is(self, sign: Sign) -> bool {
        self.seen & self.read & sign.bit() != 0
    }

    /// Whether it was read and not seen.
    #[must_use]
    pub const fn is_not(self, sign: Sign) -> bool {
        !self.seen & self.read & sign.bit() != 0
    }
}

/// All that can tell a cause apart from others in the same function. What was not
/// read is `None`, false or empty, and then tells nothing.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Signs in the packet and around it.
    pub signs: Signs,
    /// Ethernet protocol number, 0 where it is not known.
    pub ethertype: u16,
    /// IP protocol number.
    pub proto: Option<u8>,
    /// Type of the ICMP or `ICMPv6` message.
    pub icmp_type: Option<u8>,
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// For an ICMP error: the IP protocol of the quoted packet, if that is quoted
    /// down to its ports.
    pub quoted: Option<u8>,
    /// From the IP header on.
    pub len: Option<u32>,
    /// The packet was freed in a list (`kfree_skb_list`), on behalf of the function.
    pub as_list: bool,
    /// The functions above the one that freed the packet, nearest first, without
    /// a compiler's suffix.
    pub callers: Arc<[String]>,
    /// The state of the TCP socket concerned.
    pub tcp_state: Option<&'static str>,
}
