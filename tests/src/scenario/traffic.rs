//! The verbs of `[[traffic]]`: what a host does while droptrace runs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::bail;
use serde::{Deserialize, Serialize};

use super::raw::Raw;

/// One step of `[[traffic]]`: a host and exactly one verb.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// The host.
    pub r#in: String,
    /// Name of the process, for patterns such as `"(pid of NAME)"`.
    pub name: Option<String>,
    /// User identifier that the process takes on.
    pub uid: Option<u32>,
    /// Whether it begins before droptrace does.
    #[serde(default)]
    pub before: bool,
    /// The truth that must have risen; until then the step is done again.
    pub until: Option<String>,
    tcp_listen: Option<TcpListen>,
    tcp_connect: Option<Connect>,
    udp_bind: Option<UdpBind>,
    udp_send: Option<UdpSend>,
    raw_send: Option<Raw>,
    fill_conntrack: Option<FillConntrack>,
    drop_by_bpf: Option<DropByBpf>,
    run: Option<String>,
    wait_ms: Option<u64>,
}

/// What a traffic process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Listens until the scenario ends.
    TcpListen(TcpListen),
    /// Connects, sends, closes.
    TcpConnect(Connect),
    /// Receives until the scenario ends.
    UdpBind(UdpBind),
    /// Sends datagrams.
    UdpSend(UdpSend),
    /// Sends frames made byte by byte.
    RawSend(Raw),
    /// Fills the namespace's connection tracking table.
    FillConntrack(FillConntrack),
    /// Drops packets in a BPF program until the scenario ends.
    DropByBpf(DropByBpf),
    /// Runs a shell command, which must succeed.
    Run(String),
    /// Waits.
    WaitMs(u64),
}

impl Traffic {
    /// The step's one verb.
    pub fn verb(&self) -> anyhow::Result<Verb> {
        let mut verbs = [
            self.tcp_listen.clone().map(Verb::TcpListen),
            self.tcp_connect.clone().map(Verb::TcpConnect),
            self.udp_bind.clone().map(Verb::UdpBind),
            self.udp_send.clone().map(Verb::UdpSend),
            self.raw_send.clone().map(Verb::RawSend),
            self.fill_conntrack.clone().map(Verb::FillConntrack),
            self.drop_by_bpf.clone().map(Verb::DropByBpf),
            self.run.clone().map(Verb::Run),
            self.wait_ms.map(Verb::WaitMs),
        ]
        .into_iter()
        .flatten();
        match (verbs.next(), verbs.next()) {
            (Some(verb), None) => Ok(verb),
            _ => bail!("needs exactly one verb (`tcp_connect`, `udp_send`, …)"),
        }
    }
}

impl Verb {
    /// The verb as it is done after `rounds` others: racers go on with new ports.
    pub fn after(self, rounds: u16) -> Self {
        match self {
            Self::RawSend(raw) => {
                let used = u16::try_from(raw.count).unwrap_or(u16::MAX);
                Self::RawSend(Raw {
                    sport: raw.sport.saturating_add(used.saturating_mul(rounds)),
                    ..raw
                })
            }
            other => other,
        }
    }

    /// Whether the next step starts as soon as this one is ready, and its outcome is
    /// checked at the end of the traffic.
    pub fn is_meanwhile(&self) -> bool {
        matches!(self, Self::TcpConnect(connect) if connect.meanwhile)
    }

    /// Whether it runs until the scenario ends, and the next step starts as soon as it
    /// is ready.
    pub fn is_background(&self) -> bool {
        match self {
            Self::TcpListen(_) | Self::UdpBind(_) | Self::DropByBpf(_) => true,
            Self::TcpConnect(connect) => connect.stay,
            Self::UdpSend(send) => send.stay,
            _ => false,
        }
    }
}

/// `drop_by_bpf`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropByBpf {
    /// The hook's number, as `NF_INET_*`.
    pub hook: u8,
    /// The program's priority on it.
    pub priority: i32,
}

/// `tcp_listen`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpListen {
    /// Address to bind.
    #[serde(default = "any")]
    pub addr: IpAddr,
    /// Port to bind.
    pub port: u16,
    /// Length of the listen queue.
    #[serde(default = "backlog")]
    pub backlog: i32,
    /// What happens with a connection.
    #[serde(default)]
    pub then: Accepted,
    /// Pause before each reading.
    #[serde(default)]
    pub delay_ms: u64,
}

/// What a listener does with a connection.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accepted {
    /// Sends back what it receives, until the other end closes.
    #[default]
    Echo,
    /// Closes at once.
    Close,
    /// Reads once, then closes with a reset.
    Reset,
    /// Closes as soon as there is something to read, and does not read it.
    Unread,
    /// Leaves it in the listen queue.
    NeverAccept,
}

/// `tcp_connect`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of a file"
)]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// Where to.
    pub to: SocketAddr,
    /// Own address and port; chosen by the kernel if absent.
    pub from: Option<SocketAddr>,
    /// How often, one after the other.
    #[serde(default = "one")]
    pub count: u32,
    /// Whether all connections stay open until the last one was made.
    #[serde(default)]
    pub hold: bool,
    /// Whether they stay open, idle, until the scenario ends.
    #[serde(default)]
    pub stay: bool,
    /// Whether the next step starts as soon as they are open.
    #[serde(default)]
    pub meanwhile: bool,
    /// What connecting must lead to.
    #[serde(default)]
    pub expect: ConnectOutcome,
    /// After this time connecting is given up, and waiting for what does not come.
    #[serde(default = "connect_timeout")]
    pub timeout_ms: u64,
    /// Bytes to send; where the connection is to be closed normally, as many
    /// are to be received.
    #[serde(default)]
    pub send: usize,
    /// How often they are sent. All but the last time they must come back.
    #[serde(default = "one")]
    pub rounds: u32,
    /// Pause before each time but the first.
    #[serde(default)]
    pub pause_ms: u64,
    /// How long sent data may be unacknowledged (`TCP_USER_TIMEOUT`).
    pub user_timeout_ms: Option<u64>,
    /// Whether the other end is asked for a sign of life after a second, twice.
    #[serde(default)]
    pub keepalive: bool,
    /// How the connection must end.
    #[serde(default)]
    pub end: ConnectEnd,
}

/// What connecting led to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectOutcome {
    /// A connection.
    #[default]
    Connected,
    /// A reset or a "port unreachable".
    Refused,
    /// No answer in time.
    Timeout,
    /// "Host unreachable", "network unreachable" or "invalid argument" (a blackhole
    /// route).
    Unreachable,
    /// "Permission denied" or "operation not permitted".
    Forbidden,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectEnd {
    /// This end closes and sees the other end close.
    #[default]
    Close,
    /// This end closes and does not wait for the other one.
    Leave,
    /// The other end resets it.
    Reset,
    /// This end sends, waits for nothing, and resets it.
    Abort,
    /// This end closes when the answer is there, and does not read it.
    Unread,
    /// What was sent last does not come back in time, and no error either.
    Silence,
    /// The kernel of this end gives it up ("connection timed out").
    GiveUp,
}

/// `udp_bind`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UdpBind {
    /// Address to bind.
    #[serde(default = "any")]
    pub addr: IpAddr,
    /// Port to bind.
    pub port: u16,
    /// Size of the receive buffer in bytes.
    pub rcvbuf: Option<usize>,
    /// Whether datagrams are taken from the buffer.
    #[serde(default = "yes")]
    pub read: bool,
    /// Whether datagrams are sent back.
    #[serde(default)]
    pub echo: bool,
    /// Whether a socket filter refuses every datagram.
    #[serde(default)]
    pub filter_all: bool,
}

/// `udp_send`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UdpSend {
    /// Where to.
    pub to: SocketAddr,
    /// Own address and port; chosen by the kernel if absent.
    pub from: Option<SocketAddr>,
    /// How many datagrams.
    #[serde(default = "one")]
    pub count: u32,
    /// Their size in bytes.
    #[serde(default = "datagram")]
    pub size: usize,
    /// Over how many destination ports, from that of `to` on, they are spread.
    #[serde(default = "one_port")]
    pub ports: u16,
    /// How many threads send at the same time, each with a socket of its own
    /// and its share of the datagrams.
    #[serde(default = "one")]
    pub threads: u32,
    /// Pause before each datagram, in microseconds.
    #[serde(default)]
    pub pause_us: u64,
    /// Time to live or hop limit.
    pub ttl: Option<u32>,
    /// Whether fragmenting is forbidden.
    #[serde(default)]
    pub dont_fragment: bool,
    /// Whether each datagram must come back.
    #[serde(default)]
    pub echoed: bool,
    /// What sending must lead to.
    #[serde(default)]
    pub expect: SendOutcome,
    /// Whether the process keeps its socket until the scenario ends.
    #[serde(default)]
    pub stay: bool,
}

/// What sending led to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendOutcome {
    /// The kernel took every datagram.
    #[default]
    Sent,
    /// "Operation not permitted" or "permission denied" for every datagram.
    Forbidden,
    /// "No route to host", "network unreachable" or "invalid argument" (a
    /// blackhole route) for every datagram.
    Unreachable,
}

/// `fill_conntrack`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FillConntrack {
    /// A table with more room than this is not filled, the step fails.
    pub at_most: u32,
}

fn any() -> IpAddr {
    Ipv4Addr::UNSPECIFIED.into()
}

fn backlog() -> i32 {
    128
}

fn one() -> u32 {
    1
}

fn one_port() -> u16 {
    1
}

fn connect_timeout() -> u64 {
    5_000
}

fn datagram() -> usize {
    100
}

fn yes() -> bool {
    true
}
