//! What may stand after `--src`, `--dst`, `--host` and `--port`.

use std::net::IpAddr;

use droptrace_types::EndpointRule;
use ipnet::{IpNet, Ipv4Net};

use super::{FilterError, Lookup, Problem, error::visible};

/// A range of ports; `(0, 0)` stands for any.
type Ports = (u16, u16);

const ANY_PORT: Ports = (0, 0);

/// The rules that an endpoint makes: one for an address or network, one for
/// each address of a name. Their role is left open.
pub(super) fn rules(
    flag: &'static str,
    value: &str,
    lookup: Lookup,
) -> Result<Vec<EndpointRule>, FilterError> {
    let refuse = |(problem, example): Refusal| FilterError::value(flag, value, problem, &example);
    let (host, ports) = split(value).map_err(refuse)?;
    let ports = ports.map_or(Ok(ANY_PORT), range).map_err(|problem| {
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let shown = if plain(host) {
            shown
        } else {
            "10.0.0.5".to_owned()
        };
        refuse((problem, format!("{shown}:443")))
    })?;
    let networks = match place(host).map_err(refuse)? {
        Place::Anywhere if ports == ANY_PORT => {
            return Err(refuse((Problem::Everything, "10.0.0.5".to_owned())));
        }
        Place::Anywhere => vec![None],
        Place::Network(network) => vec![Some(network)],
        Place::Name(name) => addresses(flag, value, name, lookup)?,
    };
    Ok(networks
        .into_iter()
        .map(|network| rule(network, ports))
        .collect())
}

/// The rule of a port or range alone.
pub(super) fn port_rule(flag: &'static str, value: &str) -> Result<EndpointRule, FilterError> {
    let ports = range(value).map_err(|problem| FilterError::value(flag, value, problem, "443"))?;
    Ok(rule(None, ports))
}

/// A number written with decimal digits only: no sign, no blank.
pub(super) fn decimal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// What is wrong, and an example of what is right.
type Refusal = (Problem, String);

/// The host's part and, where there is a colon for it, the port's.
fn split(value: &str) -> Result<(&str, Option<&str>), Refusal> {
    let bracketed = || (Problem::Brackets, "[fd00::5]:443".to_owned());
    if let Some(rest) = value.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(bracketed)?;
        if !host.contains(':') {
            return Err(bracketed());
        }
        return match rest.strip_prefix(':') {
            Some(ports) => Ok((host, Some(ports))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(bracketed()),
        };
    }
    match value.split_once(':') {
        None => Ok((value, None)),
        // Two colons make an IPv6 address, which can have a port in brackets only.
        Some((_, ports)) if ports.contains(':') => Ok((value, None)),
        Some((host, ports)) => Ok((host, Some(ports))),
    }
}

/// Where an endpoint is.
enum Place<'a> {
    Anywhere,
    Network(IpNet),
    Name(&'a str),
}

fn place(host: &str) -> Result<Place<'_>, Refusal> {
    if host.is_empty() || host == "*" {
        return Ok(Place::Anywhere);
    }
    if host.contains('%') {
        return Err((
            Problem::Zone,
            host.split('%').next().unwrap_or_default().to_owned(),
        ));
    }
    if host.contains('/') {
        return network(host).map(Place::Network);
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(Place::Network(address.to_canonical().into()));
    }
    if host.contains(':') {
        return Err((Problem::Ipv6(visible(host)), "[fd00::5]:443".to_owned()));
    }
    if is_name(host) {
        return Ok(Place::Name(host));
    }
    Err((Problem::Endpoint(visible(host)), "10.0.0.5:443".to_owned()))
}

fn network(host: &str) -> Result<IpNet, Refusal> {
    let network: IpNet = host
        .parse()
        .map_err(|_| (Problem::Network(visible(host)), "10.0.0.0/8".to_owned()))?;
    let network = canonical(network);
    if network.trunc() == network {
        return Ok(network);
    }
    let problem = Problem::HostBits {
        address: network.addr(),
        network: network.trunc(),
    };
    Err((
        problem,
        format!("{} or {}", network.trunc(), network.addr()),
    ))
}

/// An IPv4 network in IPv6 clothes (`::ffff:10.0.0.0/104`) as what it is on the
/// wire.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let mapped = v6
        .addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(96));
    mapped
        .and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
        .map_or(network, IpNet::V4)
}

/// Whether this may be looked up. What looks like a number does not: the C
/// library would take `10.1` for 10.0.0.1.
fn is_name(host: &str) -> bool {
    let last = host
        .trim_end_matches('.')
        .rsplit('.')
        .next()
        .unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.starts_with("0x")
        || last.starts_with("0X");
    plain(host) && host.len() <= 253 && !number
}

/// Only characters that addresses and names are made of.
fn plain(host: &str) -> bool {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:/".contains(&byte);
    !host.is_empty() && host.bytes().all(usual)
}

/// All addresses of a name.
fn addresses(
    flag: &'static str,
    value: &str,
    name: &str,
    lookup: Lookup,
) -> Result<Vec<Option<IpNet>>, FilterError> {
    let unresolved = |cause| FilterError::Unresolved {
        flag,
        value: visible(value),
        name: visible(name),
        cause,
    };
    let addresses = lookup(name).map_err(unresolved)?;
    if addresses.is_empty() {
        return Err(unresolved(std::io::Error::other(
            "the name has no addresses",
        )));
    }
    Ok(addresses
        .into_iter()
        .map(|address| Some(address.to_canonical().into()))
        .collect())
}

/// `443` or `443-445`.
fn range(text: &str) -> Result<Ports, Problem> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        Err(Problem::Range)
    } else {
        Ok((first, last))
    }
}

/// A port from 1 to 65535: 0 is none, and stands for any in a rule.
fn port(text: &str) -> Result<u16, Problem> {
    let number = decimal(text).and_then(|number| u16::try_from(number).ok());
    number
        .filter(|port| *port != 0)
        .ok_or_else(|| Problem::Port(visible(text)))
}

/// As the kernel side compares it.
fn rule(network: Option<IpNet>, (port_first, port_last): Ports) -> EndpointRule {
    let (addr, mask, family) = network.map_or(([0; 2], [0; 2], 0), |network| {
        let family = if network.addr().is_ipv4() { 4 } else { 6 };
        (halves(network.network()), halves(network.netmask()), family)
    });
    EndpointRule {
        addr,
        mask,
        port_first,
        port_last,
        family,
        ..EndpointRule::NONE
    }
}

fn halves(address: IpAddr) -> [u64; 2] {
    let bytes = match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    };
    EndpointRule::halves(bytes)
}
