//! Why the words of a command line make no filter, and what to write instead.

use std::{io, net::IpAddr};

use droptrace_types::FILTER_RULES;
use ipnet::IpNet;
use thiserror::Error;

/// Why a [`super::Selection`] makes no filter.
#[derive(Debug, Error)]
pub enum FilterError {
    /// A flag's value is not one that it takes.
    #[error("{flag} {value}: {problem}; write for example {flag} {example}")]
    Value {
        /// Such as `--dst`.
        flag: &'static str,
        /// What was written, with control characters made visible.
        value: String,
        /// What is wrong with it.
        problem: Problem,
        /// What would be right.
        example: String,
    },
    /// A host's name could not be turned into addresses.
    #[error(
        "{flag} {value}: cannot find the address of \"{name}\" ({cause}); \
         write its address, for example {flag} 10.0.0.5"
    )]
    Unresolved {
        /// Such as `--dst`.
        flag: &'static str,
        /// What was written.
        value: String,
        /// The name in it.
        name: String,
        /// What the resolver says.
        cause: io::Error,
    },
    /// More rules than the kernel side has room for.
    #[error(
        "{flags}: that makes {count} rules, and there is room for {FILTER_RULES}; \
         use a network or a range, for example 10.0.0.0/24 or 8000-8100"
    )]
    TooMany {
        /// The flags that share the room.
        flags: &'static str,
        /// How many rules they make.
        count: usize,
    },
}

impl FilterError {
    /// [`FilterError::Value`] of what was typed.
    pub(super) fn value(flag: &'static str, value: &str, problem: Problem, example: &str) -> Self {
        Self::Value {
            flag,
            value: visible(value),
            problem,
            example: visible(example),
        }
    }
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// Nothing, or nothing between two commas.
    #[error("an empty value selects nothing")]
    Empty,
    /// `*`: any address, any port.
    #[error("this selects everything, as leaving it out does")]
    Everything,
    /// Neither address nor network nor name.
    #[error("\"{0}\" is not an address, network or host name")]
    Endpoint(String),
    /// Several colons, but no IPv6 address.
    #[error("\"{0}\" is not an IPv6 address (with a port, it goes in brackets)")]
    Ipv6(String),
    /// `fe80::1%eth0`.
    #[error("an address here has no zone (%); name the interface with --iface")]
    Zone,
    /// A `[` without its `]`, or something between `]` and the port.
    #[error("the brackets do not enclose an IPv6 address")]
    Brackets,
    /// `10.0.0.0/33`.
    #[error("\"{0}\" is not a network")]
    Network(String),
    /// `10.0.0.5/8`.
    #[error("{address}/{prefix} has bits set beyond its prefix: {network} is the network", prefix = network.prefix_len())]
    HostBits {
        /// What was written.
        address: IpAddr,
        /// The network that it lies in.
        network: IpNet,
    },
    /// Not a number from 1 to 65535.
    #[error("\"{0}\" is not a port")]
    Port(String),
    /// `445-443`.
    #[error("the range ends before it starts")]
    Range,
    /// Neither the name nor the number of a protocol.
    #[error("\"{0}\" is not a protocol that is known by name, nor a number up to 255")]
    Proto(String),
    /// Longer than an interface's name can be.
    #[error("an interface name has at most {max} bytes")]
    LongInterface {
        /// How long it can be.
        max: usize,
    },
    /// Has characters that an interface's name cannot have.
    #[error("an interface name has no blanks, slashes or colons")]
    Interface,
}

/// What was typed, safe to print on a terminal.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\'' | '\\' => shown.push(letter),
            _ => shown.extend(letter.escape_debug()),
        }
    }
    shown
}
