//! From the words of a command line to the packet filter.
//!
//! What the filter then selects is said at [`Filter::selects`].

mod endpoint;
mod error;
mod proto;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, ToSocketAddrs},
};

use droptrace_types::{
    EndpointRule, FILTER_RULES, Filter, IFNAME_LEN, IfName, ROLE_DST, ROLE_HOST, ROLE_PORT,
    ROLE_SRC,
};

pub use error::{FilterError, Problem};

/// The values of the flags that select packets, as they were typed. Each may
/// hold several separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `--src`: an endpoint (see `--dst`) that starts the conversation.
    pub src: Vec<String>,
    /// `--dst`: an endpoint the conversation is with: `10.0.0.5`, `10.0.0.0/8`,
    /// `10.0.0.5:443`, `10.0.0.5:443-445`, `fd00::5`, `[fd00::5]:443`, `fd00::/8`,
    /// `name`, `name:443`, `:443`.
    pub dst: Vec<String>,
    /// `--host`: an endpoint on either side, as `--dst`.
    pub host: Vec<String>,
    /// `--port`: a port or a range of ports on either side.
    pub port: Vec<String>,
    /// `--proto`: the name or number of an IP protocol.
    pub proto: Vec<String>,
    /// `--iface`: the name of a network interface.
    pub iface: Vec<String>,
    /// `--netns`: inode numbers of network namespaces.
    pub netns: Vec<u32>,
}

/// The filter that the selection asks for. Names are looked up once, now.
///
/// Whether an interface exists is not checked here: `ifindexes` and `ifnetns` of
/// the filter are left 0 for who knows the interfaces to fill in.
///
/// # Errors
///
/// The first value that cannot be used, or a list that is too long.
pub fn resolve(selection: &Selection) -> Result<Filter, FilterError> {
    resolve_with(selection, &|name| {
        let addresses = (name, 0).to_socket_addrs()?;
        Ok(addresses.map(|address| address.ip()).collect())
    })
}

/// As [`resolve`], for words that come from elsewhere than the command line: no name is
/// looked up for them.
///
/// # Errors
///
/// As [`resolve`], and at the first name.
pub fn resolve_numeric(selection: &Selection) -> Result<Filter, FilterError> {
    resolve_with(selection, &|_| {
        Err(io::Error::other("names are not looked up here"))
    })
}

/// The number of the IP protocol with this name or number; `None` where there is none.
#[must_use]
pub fn protocol(text: &str) -> Option<u8> {
    proto::number(text).ok()
}

/// Finds a host's addresses by its name.
type Lookup<'a> = &'a dyn Fn(&str) -> io::Result<Vec<IpAddr>>;

/// As [`resolve`], with another source of addresses.
fn resolve_with(selection: &Selection, lookup: Lookup) -> Result<Filter, FilterError> {
    let mut filter = Filter::ALL;
    let rules = endpoint_rules(selection, lookup)?;
    fill(
        &mut filter.endpoints,
        &rules,
        "--src, --dst, --host and --port",
    )?;
    filter.roles = rules.iter().fold(0, |roles, rule| roles | rule.role);
    for proto in each("--proto", &selection.proto, "tcp")? {
        let number = proto::number(proto)?;
        filter.protos[usize::from(number / 64)] |= 1 << (number % 64);
    }
    let mut names = Vec::new();
    for name in each("--iface", &selection.iface, "eth0")? {
        push_new(&mut names, interface(name)?);
    }
    fill(&mut filter.ifnames, &names, "--iface")?;
    let mut namespaces = Vec::new();
    for inode in &selection.netns {
        push_new(&mut namespaces, *inode);
    }
    fill(&mut filter.netns, &namespaces, "--netns")?;
    Ok(filter)
}

/// The rules of all flags that are about endpoints.
fn endpoint_rules(selection: &Selection, lookup: Lookup) -> Result<Vec<EndpointRule>, FilterError> {
    let mut rules = Vec::new();
    for (flag, role, values) in [
        ("--src", ROLE_SRC, &selection.src),
        ("--dst", ROLE_DST, &selection.dst),
        ("--host", ROLE_HOST, &selection.host),
    ] {
        for value in each(flag, values, "10.0.0.5:443")? {
            for rule in endpoint::rules(flag, value, lookup)? {
                push_new(&mut rules, EndpointRule { role, ..rule });
            }
        }
    }
    for value in each("--port", &selection.port, "443")? {
        let rule = endpoint::port_rule("--port", value)?;
        push_new(
            &mut rules,
            EndpointRule {
                role: ROLE_PORT,
                ..rule
            },
        );
    }
    Ok(rules)
}

/// The single values of a flag, split at commas.
fn each<'a>(
    flag: &'static str,
    values: &'a [String],
    example: &str,
) -> Result<Vec<&'a str>, FilterError> {
    let mut singles = Vec::new();
    for value in values {
        for single in value.split(',').map(str::trim) {
            if single.is_empty() {
                return Err(FilterError::value(flag, value, Problem::Empty, example));
            }
            singles.push(single);
        }
    }
    Ok(singles)
}

/// Said twice is said once.
fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Puts the items at the start of the filter's list.
fn fill<T: Copy>(
    list: &mut [T; FILTER_RULES],
    items: &[T],
    flags: &'static str,
) -> Result<(), FilterError> {
    let count = items.len();
    let room = list
        .get_mut(..count)
        .ok_or(FilterError::TooMany { flags, count })?;
    room.copy_from_slice(items);
    Ok(())
}

/// An interface's name, zero-padded. What the kernel takes for one:
/// [`dev_valid_name`](https://github.com/torvalds/linux/blob/v6.12/net/core/dev.c).
fn interface(name: &str) -> Result<IfName, FilterError> {
    let refuse = |problem| Err(FilterError::value("--iface", name, problem, "eth0"));
    let bytes = name.as_bytes();
    // One byte is for the zero at the end.
    if bytes.len() >= IFNAME_LEN {
        return refuse(Problem::LongInterface {
            max: IFNAME_LEN - 1,
        });
    }
    let invalid = |byte: &u8| matches!(byte, b'/' | b':' | 0) || byte.is_ascii_whitespace();
    if name == "." || name == ".." || bytes.iter().any(invalid) {
        return refuse(Problem::Interface);
    }
    let mut padded = IfName::default();
    for (to, byte) in padded.0.iter_mut().zip(bytes) {
        *to = *byte;
    }
    Ok(padded)
}
