//! The verb `raw_send`: frames that no socket would send.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// `raw_send`: frames made byte by byte, from the interface `eth0`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Sender's address in the packet.
    pub from: IpAddr,
    /// Receiver's address in the packet.
    pub to: IpAddr,
    /// IPv4 address whose interface the frame is for, where it is not `to`.
    pub via: Option<Ipv4Addr>,
    /// What the packet carries.
    pub proto: RawProto,
    /// Sender's port.
    #[serde(default)]
    pub sport: u16,
    /// Receiver's port.
    #[serde(default)]
    pub dport: u16,
    /// How many frames.
    #[serde(default = "one")]
    pub count: u32,
    /// How many threads send each frame at the same moment, each time from the next
    /// port.
    pub racers: Option<u32>,
    /// Time to live or hop limit.
    #[serde(default = "ttl")]
    pub ttl: u8,
    /// TCP flags as letters of `FSRPAU`.
    #[serde(default = "syn")]
    pub flags: String,
    /// Whether the TCP or UDP checksum is wrong.
    #[serde(default)]
    pub bad_checksum: bool,
    /// Whether the checksum of the IPv4 header is wrong.
    #[serde(default)]
    pub bad_header_checksum: bool,
    /// Bytes that are left of what the IP header is followed by.
    pub truncate: Option<usize>,
    /// Ethernet protocol of a frame that carries no IP at all.
    pub ethertype: Option<u16>,
    /// Offset of the fragment in bytes.
    #[serde(default)]
    pub fragment_offset: u16,
    /// Whether more fragments follow.
    #[serde(default)]
    pub more_fragments: bool,
    /// VLAN tag.
    pub vlan: Option<u16>,
    /// IPv6 extension headers, outermost first.
    #[serde(default)]
    pub extensions: Vec<Extension>,
    /// For `icmp_unreachable`: the flow that it is about.
    pub quote: Option<Quote>,
}

/// What a raw packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawProto {
    /// A TCP segment without data.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// An SCTP INIT.
    Sctp,
    /// ICMP or `ICMPv6` "port unreachable".
    IcmpUnreachable,
    /// Protocol 253, which is for experiments (RFC 3692).
    Experiment,
}

/// An IPv6 extension header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extension {
    /// Hop-by-hop options.
    HopByHop,
    /// Destination options.
    DestinationOptions,
    /// Fragment header of a packet that is none.
    AtomicFragment,
}

/// The packet that an ICMP error is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quote {
    /// Its protocol.
    pub proto: RawProto,
    /// Its sender.
    pub from: IpAddr,
    /// Its receiver.
    pub to: IpAddr,
    /// Its sender's port.
    pub sport: u16,
    /// Its receiver's port.
    pub dport: u16,
}

fn one() -> u32 {
    1
}

fn syn() -> String {
    "S".to_owned()
}

fn ttl() -> u8 {
    64
}
