//! Builds the network of a topology with as few calls of `ip` as possible.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::netns::NetNs;
use crate::scenario::Topology;

/// Makes the links, addresses and routes.
pub fn network(topology: &Topology, hosts: &BTreeMap<String, NetNs>) -> anyhow::Result<()> {
    for (name, netns) in hosts {
        let forward = topology.hosts[name].forward;
        netns.run(move || sysctls(forward))?;
    }
    // All links first: an address needs its interface, a route its address.
    for link in &topology.links {
        let [one, other] = &link.ends;
        let mtu = link.mtu.map_or(String::new(), |mtu| format!(" mtu {mtu}"));
        let mac = |end: &crate::scenario::End| {
            end.link_address()
                .map_or(String::new(), |mac| format!(" address {mac}"))
        };
        ip(
            &hosts[&one.host],
            &format!(
                "link add {}{}{mtu} type veth peer name {}{}{mtu} netns {}\n",
                one.dev,
                mac(one),
                other.dev,
                mac(other),
                hosts[&other.host].path(),
            ),
        )?;
    }
    for (name, netns) in hosts {
        let mut batch = String::from("link set lo up\n");
        for addr in &topology.hosts[name].loopback {
            writeln!(batch, "addr add {addr} dev lo")?;
        }
        for end in topology
            .links
            .iter()
            .flat_map(|link| &link.ends)
            .filter(|end| end.host == *name)
        {
            for addr in &end.addr {
                let nodad = if addr.contains(':') { " nodad" } else { "" };
                writeln!(batch, "addr add {addr} dev {}{nodad}", end.dev)?;
            }
            writeln!(batch, "link set {} up", end.dev)?;
        }
        ip(netns, &batch)?;
    }
    for (name, netns) in hosts {
        let routes = &topology.hosts[name].routes;
        if !routes.is_empty() {
            ip(
                netns,
                &routes.iter().fold(String::new(), |batch, route| {
                    batch + "route add " + route + "\n"
                }),
            )?;
        }
    }
    for end in topology.links.iter().flat_map(|link| &link.ends) {
        if end.addr.iter().any(|addr| addr.contains(':')) {
            hosts[&end.host].run(|| wait_for_ipv6(&end.dev))?;
        }
    }
    Ok(())
}

/// An interface that was up before its peer learns of its carrier a little
/// later. Only then IPv6 works on it, which its multicast route shows.
fn wait_for_ipv6(dev: &str) -> anyhow::Result<()> {
    const MULTICAST: &str = "ff000000000000000000000000000000 08 ";
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let routes = std::fs::read_to_string("/proc/thread-self/net/ipv6_route")?;
        if routes
            .lines()
            .any(|route| route.starts_with(MULTICAST) && route.ends_with(dev))
        {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("IPv6 did not come up on {dev}");
}

/// Keeps IPv6 quiet: no addresses, no probes, no solicitations of its own.
fn sysctls(forward: bool) -> anyhow::Result<()> {
    let set = |name: &str, value: &str| {
        let path = format!("/proc/sys/net/{name}");
        std::fs::write(&path, value).with_context(|| format!("cannot write {path}"))
    };
    for scope in ["all", "default"] {
        set(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
        set(&format!("ipv6/conf/{scope}/addr_gen_mode"), "1")?;
        set(&format!("ipv6/conf/{scope}/router_solicitations"), "0")?;
        // A host's own default may be the stricter one of a distribution.
        set(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
        if forward {
            set(&format!("ipv6/conf/{scope}/forwarding"), "1")?;
        }
    }
    if forward {
        set("ipv4/ip_forward", "1")?;
    }
    Ok(())
}

fn ip(netns: &NetNs, batch: &str) -> anyhow::Result<()> {
    let output = netns.run(|| {
        let mut child = Command::new("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start ip")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(batch.as_bytes())?;
        }
        Ok(child.wait_with_output()?)
    })?;
    if !output.status.success() {
        bail!(
            "ip: {}\n{batch}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
