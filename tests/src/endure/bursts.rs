//! Drops whose number is known: bursts of datagrams that a rule drops, each burst to a
//! destination of its own.

use std::io::{IoSlice, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use nix::time::{ClockId, clock_gettime};

use crate::sandbox::NetNs;

/// Where they go to: a network that is for tests alone. All of it is the namespace's own.
pub const NETWORK: &str = "198.19.0.0/16";

/// Its first port.
const PORT: u16 = 1024;

/// Datagrams handed to the kernel at a time.
const BATCH: usize = 64;

/// Datagrams to one destination.
#[derive(Clone, Debug)]
pub struct Burst {
    /// Which; names its destination.
    pub number: u32,
    /// How many were sent.
    pub packets: u32,
    /// Before the first, nanoseconds since 1970.
    pub from: u64,
    /// After the last.
    pub to: u64,
}

/// Who sends them, in a namespace of its own.
pub struct Sender {
    /// Where everything is dropped.
    pub netns: NetNs,
    socket: UdpSocket,
}

impl Sender {
    /// Makes the namespace, in which these rules are in force.
    pub fn new(rules: &str) -> anyhow::Result<Self> {
        let netns = NetNs::new()?;
        let address = Ipv4Addr::from_bits(first().to_bits() + 1);
        let commands = format!("ip link set lo up && ip addr add {address}/16 dev lo && nft -f -");
        shell(&netns, &commands, rules)?;
        let socket = netns.run(|| Ok(UdpSocket::bind((address, 0))?))?;
        Ok(Self { netns, socket })
    }

    /// Puts other rules in force.
    pub fn replace(&self, rules: &str) -> anyhow::Result<()> {
        shell(&self.netns, "exec nft -f -", rules)
    }

    /// How many packets the rules with a counter have dropped, by nft's own account.
    pub fn counted(&self) -> anyhow::Result<u64> {
        let listing = shell_text(&self.netns, "nft list counters", "")?;
        let mut words = listing.split_whitespace();
        let mut sum = 0;
        while let Some(word) = words.next() {
            if word == "packets" {
                sum += words
                    .next()
                    .context("nft lists half a counter")?
                    .parse::<u64>()?;
            }
        }
        Ok(sum)
    }

    /// Sends one.
    pub fn send(&self, number: u32, packets: u32) -> anyhow::Result<Burst> {
        let from = now();
        self.send_all(&vec![number; packets as usize])?;
        Ok(Burst {
            number,
            packets,
            from,
            to: now(),
        })
    }

    /// Sends one datagram of each of these bursts.
    pub fn send_all(&self, numbers: &[u32]) -> anyhow::Result<()> {
        let payload = [IoSlice::new(b"endure")];
        let slices = [payload; BATCH];
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        let mut rest = numbers;
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(BATCH)];
            let to: Vec<Option<SockaddrStorage>> = some
                .iter()
                .map(|number| Some(destination(*number).into()))
                .collect();
            let socket = self.socket.as_raw_fd();
            let sent = sendmmsg(
                socket,
                &mut headers,
                &slices[..some.len()],
                &to,
                [],
                MsgFlags::empty(),
            )
            .context("cannot send")?
            .count();
            rest = &rest[sent..];
        }
        Ok(())
    }
}

fn shell(netns: &NetNs, line: &str, input: &str) -> anyhow::Result<()> {
    shell_text(netns, line, input).map(drop)
}

fn shell_text(netns: &NetNs, line: &str, input: &str) -> anyhow::Result<String> {
    let output = netns.run(|| {
        let mut child = Command::new("sh")
            .args(["-ec", line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start sh")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        Ok(child.wait_with_output()?)
    })?;
    if !output.status.success() {
        bail!(
            "`{line}`: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The rules of a namespace in which all of this is dropped, by a rule with this comment.
pub fn rules(comment: &str) -> String {
    format!(
        "table inet endure {{\n\
           counter dropped {{ }}\n\
           chain input {{\n\
             type filter hook input priority 0;\n\
             ip daddr {NETWORK} meta l4proto udp counter name dropped drop comment \"{comment}\"\n\
           }}\n\
         }}\n"
    )
}

/// Nanoseconds since 1970, by the clock on the wall.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| {
        i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec())
    });
    u64::try_from(time).unwrap_or(0)
}

fn first() -> Ipv4Addr {
    Ipv4Addr::new(198, 19, 0, 0)
}

/// Where a burst goes to: neither the network's first nor last address nor the sender's.
fn destination(number: u32) -> SocketAddr {
    let (high, low) = (number / HOSTS, number % HOSTS);
    let port = PORT.saturating_add(u16::try_from(high).unwrap_or(u16::MAX));
    SocketAddr::from((Ipv4Addr::from_bits(first().to_bits() + 2 + low), port))
}

/// Addresses that bursts go to.
const HOSTS: u32 = 65_000;

/// The burst that goes there.
pub fn number_of(to: &str, port: u16) -> Option<u32> {
    let to: Ipv4Addr = to.parse().ok()?;
    let low = to.to_bits().checked_sub(first().to_bits() + 2)?;
    let high = port.checked_sub(PORT)?;
    (low < HOSTS).then(|| u32::from(high) * HOSTS + low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_names_its_burst() {
        for number in [0, 1, 64_999, 65_000, 863_999] {
            let to = destination(number);
            assert_eq!(number_of(&to.ip().to_string(), to.port()), Some(number));
        }
        assert_eq!(number_of("198.19.0.1", 1024), None);
        assert_eq!(number_of("10.0.0.1", 1024), None);
    }
}
