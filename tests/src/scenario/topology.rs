//! Which hosts a scenario has and how they are linked.

use std::collections::BTreeMap;

use anyhow::bail;
use serde::Deserialize;
use serde::de::Error as _;

/// Hosts (network namespaces) and links (veth pairs).
#[derive(Debug, Clone)]
pub struct Topology {
    /// Hosts by name.
    pub hosts: BTreeMap<String, Host>,
    /// Links between them.
    pub links: Vec<Link>,
}

/// A network namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Whether it routes for others.
    #[serde(default)]
    pub forward: bool,
    /// Routes, as `ip route add` takes them.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Addresses of the loopback interface besides its own.
    #[serde(default)]
    pub loopback: Vec<String>,
}

/// A veth pair.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its two ends.
    pub ends: [End; 2],
    /// Largest packet of both ends.
    pub mtu: Option<u32>,
}

/// One end of a veth pair.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Its host.
    pub host: String,
    /// Interface name.
    pub dev: String,
    /// Addresses with prefix length. The link address follows from the first
    /// IPv4 address.
    pub addr: Vec<String>,
}

/// `topology = "alone"`: only `server`, 10.0.0.5 and `fd00::5` on its loopback.
const ALONE: &str = r#"
hosts.server.loopback = ["10.0.0.5/32", "fd00::5/128"]
"#;

/// `topology = "pair"`: `client` 10.0.0.2 – 10.0.0.5 `server`.
const PAIR: &str = r#"
hosts = { client = {}, server = {} }
links = [ { ends = [
    { host = "client", dev = "eth0", addr = ["10.0.0.2/24", "fd00::2/64"] },
    { host = "server", dev = "eth0", addr = ["10.0.0.5/24", "fd00::5/64"] },
] } ]
"#;

/// `topology = "routed"`: `client` 10.0.1.2 – `router` – 10.0.0.5 `server`.
const ROUTED: &str = r#"
links = [
    { ends = [
        { host = "client", dev = "eth0", addr = ["10.0.1.2/24", "fd01::2/64"] },
        { host = "router", dev = "eth0", addr = ["10.0.1.1/24", "fd01::1/64"] },
    ] },
    { ends = [
        { host = "router", dev = "eth1", addr = ["10.0.0.1/24", "fd00::1/64"] },
        { host = "server", dev = "eth0", addr = ["10.0.0.5/24", "fd00::5/64"] },
    ] },
]
[hosts]
router = { forward = true }
client.routes = ["default via 10.0.1.1", "default via fd01::1"]
server.routes = ["default via 10.0.0.1", "default via fd00::1"]
"#;

/// `topology = "path"`: `client` 10.0.1.2 – `r1` – `r2` – `r3` – 10.0.0.5 `server`.
/// What neither `r2` nor `r3` is linked to goes back and forth between them. A router
/// asks for IPv6 neighbours of packets that it forwards from its link-local address.
const PATH: &str = r#"
links = [
    { ends = [
        { host = "client", dev = "eth0", addr = ["10.0.1.2/24", "fd01::2/64"] },
        { host = "r1", dev = "eth0", addr = ["10.0.1.1/24", "fd01::1/64", "fe80::1/64"] },
    ] },
    { ends = [
        { host = "r1", dev = "eth1", addr = ["10.0.2.1/24", "fd02::1/64", "fe80::1/64"] },
        { host = "r2", dev = "eth0", addr = ["10.0.2.2/24", "fd02::2/64", "fe80::2/64"] },
    ] },
    { ends = [
        { host = "r2", dev = "eth1", addr = ["10.0.3.1/24", "fd03::1/64", "fe80::2/64"] },
        { host = "r3", dev = "eth0", addr = ["10.0.3.2/24", "fd03::2/64", "fe80::3/64"] },
    ] },
    { ends = [
        { host = "r3", dev = "eth1", addr = ["10.0.0.1/24", "fd00::1/64", "fe80::3/64"] },
        { host = "server", dev = "eth0", addr = ["10.0.0.5/24", "fd00::5/64"] },
    ] },
]
[hosts]
client.routes = ["default via 10.0.1.1", "default via fd01::1"]
r1 = { forward = true, routes = ["default via 10.0.2.2", "default via fd02::2"] }
r2 = { forward = true, routes = [
    "10.0.1.0/24 via 10.0.2.1", "fd01::/64 via fd02::1",
    "default via 10.0.3.2", "default via fd03::2",
] }
r3 = { forward = true, routes = ["default via 10.0.3.1", "default via fd03::1"] }
server.routes = ["default via 10.0.0.1", "default via fd00::1"]
"#;

/// The long form of `[topology]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Explicit {
    hosts: BTreeMap<String, Host>,
    #[serde(default)]
    links: Vec<Link>,
}

impl<'de> Deserialize<'de> for Topology {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        let explicit: Result<Explicit, _> = match value {
            toml::Value::String(preset) => match preset.as_str() {
                "alone" => toml::from_str(ALONE),
                "pair" => toml::from_str(PAIR),
                "routed" => toml::from_str(ROUTED),
                "path" => toml::from_str(PATH),
                other => {
                    return Err(D::Error::custom(format!(
                        "no topology `{other}` (there are: alone, pair, routed, path)"
                    )));
                }
            },
            value => value.try_into(),
        };
        let Explicit { hosts, links } = explicit.map_err(D::Error::custom)?;
        let topology = Self { hosts, links };
        topology.check().map_err(D::Error::custom)?;
        Ok(topology)
    }
}

impl Topology {
    /// The one host of [`Topology::scratch`].
    pub const SCRATCH_HOST: &str = "scratch";

    /// A host without links, to try something out.
    pub fn scratch() -> Self {
        let host = (Self::SCRATCH_HOST.to_owned(), Host::default());
        Self {
            hosts: BTreeMap::from([host]),
            links: Vec::new(),
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        for end in self.links.iter().flat_map(|link| &link.ends) {
            if !self.hosts.contains_key(&end.host) {
                bail!("links: no host `{}`", end.host);
            }
        }
        Ok(())
    }
}

impl End {
    /// A link address that follows from the first IPv4 address, so that raw
    /// frames can be addressed without asking: 02:00 and its four bytes.
    pub fn link_address(&self) -> Option<String> {
        self.addr
            .iter()
            .filter_map(|addr| addr.split('/').next()?.parse().ok())
            .map(link_address)
            .map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"))
            .next()
    }
}

/// The link address of the interface with this address.
pub fn link_address(addr: std::net::Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = addr.octets();
    [2, 0, a, b, c, d]
}
