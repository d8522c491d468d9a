//! What crosses between the kernel programs and user space, byte for byte.
//!
//! Every struct is `#[repr(C)]` without implicit padding (checked at compile
//! time below), so that they can be map keys and be read from a ring buffer.

#![no_std]

use core::mem::offset_of;

mod filter;
mod layout;
mod sighting;
mod verdict;
mod xtables;

pub use layout::{
    ABSENT, Addresses, ChainPlaces, Config, ConntrackAt, ConntrackLayout, FILTER_BY_CGROUP,
    FILTER_BY_FLOW, FILTER_BY_INTERFACE, FILTER_BY_NETNS, FILTER_BY_REASON, FILTER_BY_SOCKET,
    HookAt, HookPlaces, Layout, Places, RuleAt, RuleHead, RuleLayout, STACK_WORDS,
    STACK_WORDS_BELOW, StackWords, kfunc,
};
pub use sighting::{Passed, PassedKey, Sighting, SightingKind, WATCH_ADDRESSES, WATCH_TROUBLES};
pub use verdict::{
    HeadForm, POLICY, TRIAL_MARK, VERDICT_HEADS, VERDICT_REGISTERS, VERDICT_WORDS, VerdictPlaces,
    VerdictWords,
};
pub use xtables::{
    XT_BLOCKS, XT_COUNTERS, XT_NETNS, XT_NETNS_BLOCKS, XT_PIECE, XT_WINDOW, XtBlock, XtCounter,
    XtGroup, XtRule,
};

/// What happened to the packet. The kernel side of a record's `kind`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `kfree_skb`: the kernel freed a packet that it did not deliver.
    Drop = 0,
    /// `tcp_send_reset`: this machine sent a TCP reset.
    ResetSent = 1,
    /// `tcp_receive_reset`: a connection of this machine received a TCP reset.
    ResetReceived = 2,
    /// `tcp_retransmit_skb` or `tcp_retransmit_synack`.
    Retransmit = 3,
}

impl Kind {
    /// The kind with this number, if there is one.
    #[must_use]
    pub const fn from_u8(kind: u8) -> Option<Self> {
        Some(match kind {
            0 => Self::Drop,
            1 => Self::ResetSent,
            2 => Self::ResetReceived,
            3 => Self::Retransmit,
            _ => return None,
        })
    }
}

/// The way a packet was going when it was dropped.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Not known.
    Unknown = 0,
    /// Received, for this machine or not routed yet.
    In = 1,
    /// Made on this machine.
    Out = 2,
    /// Received and being routed to another machine.
    Forward = 3,
    /// From this machine to itself, over loopback.
    Local = 4,
}

impl Direction {
    /// The direction with this number; unknown numbers are [`Direction::Unknown`].
    #[must_use]
    pub const fn from_u8(direction: u8) -> Self {
        match direction {
            1 => Self::In,
            2 => Self::Out,
            3 => Self::Forward,
            4 => Self::Local,
            _ => Self::Unknown,
        }
    }
}

/// Where a packet's flow was read from, or why it could not be.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decode {
    /// From the packet's own headers.
    Headers = 0,
    /// From the socket that owns the packet: it has no IP header yet.
    Socket = 1,
    /// An Ethernet protocol other than IP; [`Key::ethertype`] tells which.
    NotIp = 2,
    /// The headers lie in pages that cannot be reached from a kernel program.
    Paged = 3,
    /// The header offsets are unset or point outside the packet.
    NoHeaders = 4,
    /// The bytes where the IP header should be are none.
    BadHeaders = 5,
    /// A message of a socket family without packets (unix, netlink, …).
    Message = 6,
}

impl Decode {
    /// The outcome with this number; unknown numbers are [`Decode::NoHeaders`].
    #[must_use]
    pub const fn from_u8(decode: u8) -> Self {
        match decode {
            0 => Self::Headers,
            1 => Self::Socket,
            2 => Self::NotIp,
            3 => Self::Paged,
            5 => Self::BadHeaders,
            6 => Self::Message,
            _ => Self::NoHeaders,
        }
    }
}

/// [`Tuple::flags`]: the ports are known.
pub const TUPLE_PORTS: u8 = 1;
/// [`Tuple::flags`]: the ports hold an ICMP type and code.
pub const TUPLE_ICMP: u8 = 2;
/// [`Tuple::flags`]: a fragment (the first one has ports, later ones have not).
pub const TUPLE_FRAGMENT: u8 = 4;

/// Source and destination of a packet as they are on the wire. Aligned so that
/// the kernel programs can copy it in words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// IPv6 address, or an IPv4 address in the first four bytes. Network order.
    pub src: [u8; 16],
    /// As `src`.
    pub dst: [u8; 16],
    /// Host order. With [`TUPLE_ICMP`]: the ICMP type.
    pub src_port: u16,
    /// Host order. With [`TUPLE_ICMP`]: the ICMP code.
    pub dst_port: u16,
    /// 4, 6, or 0 where there is no tuple.
    pub family: u8,
    /// IP protocol number; for IPv6 that of the last header reached.
    pub proto: u8,
    /// `TUPLE_*`.
    pub flags: u8,
    /// Zero.
    pub pad: u8,
}

impl Tuple {
    /// No tuple.
    pub const NONE: Self = Self {
        src: [0; 16],
        dst: [0; 16],
        src_port: 0,
        dst_port: 0,
        family: 0,
        proto: 0,
        flags: 0,
        pad: 0,
    };

    /// Sets family and addresses; these in network order, as in the header.
    #[inline]
    pub const fn set_v4(&mut self, src: u32, dst: u32) {
        self.family = 4;
        [self.src[0], self.src[1], self.src[2], self.src[3]] = src.to_ne_bytes();
        [self.dst[0], self.dst[1], self.dst[2], self.dst[3]] = dst.to_ne_bytes();
    }

    /// Both addresses, which stand side by side as in an IPv6 header.
    #[inline]
    pub const fn addresses(&mut self) -> &mut [u8; 32] {
        const { assert!(offset_of!(Self, src) == 0 && offset_of!(Self, dst) == 16) };
        // SAFETY: the tuple begins with them.
        unsafe { &mut *core::ptr::from_mut(self).cast() }
    }

    /// The same for packets of both directions. Which end comes first means nothing.
    #[must_use]
    #[inline]
    pub fn of_both_ways(&self) -> Self {
        let src = (u128::from_ne_bytes(self.src), self.src_port);
        let dst = (u128::from_ne_bytes(self.dst), self.dst_port);
        let mut tuple = *self;
        if src > dst {
            tuple.src = self.dst;
            tuple.dst = self.src;
            tuple.src_port = self.dst_port;
            tuple.dst_port = self.src_port;
        }
        tuple
    }
}

/// Why and where: the part of the key that stays when the flow cannot be listed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    /// Kernel address of the instruction that freed the packet, 0 for other kinds.
    pub location: u64,
    /// Address of what decided that the packet is dropped: an nftables rule, not yet
    /// proven, or the policy of a chain ([`POLICY`]), an [`XtRule`], what a netfilter hook
    /// function was registered with, or that function; 0 where none is known.
    pub rule: u64,
    /// The kernel's reason number; [`NO_REASON`] where the kernel gives none.
    pub reason: u32,
    /// Inode number of the network namespace, 0 where it is not known.
    pub netns: u32,
    /// Interface index inside that namespace, 0 where there is none.
    pub ifindex: u32,
    /// A [`Kind`].
    pub kind: u8,
    /// A [`Direction`].
    pub direction: u8,
    /// A [`Decode`].
    pub decode: u8,
    /// Address family of the owning socket (`AF_*`), 0 without one.
    pub socket_family: u8,
    /// The [`Sign`]s that were seen, a bit each.
    pub signs: u32,
    /// Those that were looked for; none where the kernel gives a reason.
    pub signs_read: u32,
}

/// [`Cause::reason`] where the kernel gives none.
pub const NO_REASON: u32 = u32::MAX;

/// A yes or no in the packet or its surroundings that tells why it was freed,
/// where the kernel gives no reason. The number is that of its bit.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// `skb->pkt_type` is `PACKET_OTHERHOST`.
    OtherHost = 0,
    /// `skb->pkt_type` is `PACKET_BROADCAST` or `PACKET_MULTICAST`.
    ToAll = 1,
    /// The kernel computed the checksum and found it wrong: `skb->ip_summed` is
    /// `CHECKSUM_COMPLETE`, `csum_complete_sw` set and `csum_valid` not. (The two
    /// bits alone are also seen on a sound packet that was forwarded.)
    BadChecksum = 2,
    /// `skb->data` lies behind `skb->transport_header`: the transport header was
    /// already taken off.
    HeaderTaken = 3,
    /// `skb->tc_at_ingress`: the packet went to the tc filters for ingress.
    TcIngress = 4,
    /// `skb->dev` hands its packets to a bond, team, bridge or the like, where it
    /// may be a port that is not in use.
    IsPort = 5,
    /// `skb->dev` has no IPv6, or it is switched off (`disable_ipv6`).
    Ipv6Off = 6,
    /// `devconf_all->forwarding` of IPv6 in the packet's namespace.
    Ipv6Forwarding = 7,
    /// IPv6 echo requests of some kind go unanswered (`icmpv6_echo_ignore_*`).
    EchoOff = 8,
    /// The namespace has `IPsec` policies or states: a policy may have refused the
    /// packet.
    Ipsec = 9,
    /// `tcp_v4_send_reset` or `tcp_v6_send_reset` was entered for this packet
    /// without a socket, as the last thing before.
    NoSocketReset = 10,
    /// The send queue that the packet was for (`skb->queue_mapping`) has a
    /// queueing discipline that queues (`qdisc->enqueue`).
    Queued = 11,
    /// Netfilter dropped the packet, and its rule set's own trace was on for it
    /// (`skb->nf_trace`). Seen also where the kernel gives a reason, and not among
    /// [`Cause::signs_read`].
    Traced = 12,
    /// The segment came for a TCP socket in `TIME_WAIT`, and has neither payload nor SYN
    /// nor RST. Where the kernel does not say which socket is to receive a packet, user space
    /// reads it from a [`Detail`].
    LastSegment = 13,

    // What follows, user space reads from a [`Detail`].
    /// The packet has a socket of its own (`skb->sk`).
    Owned = 16,
    /// The transport header is cut short, or its length is not that of the packet.
    BadLength = 17,
    /// A UDP datagram over IPv6 with checksum 0.
    NoChecksum = 18,
    /// Time to live or hop limit is at most 1.
    TtlEnded = 19,
    /// The IPv4 header has options.
    IpOptions = 20,
    /// The IPv4 header forbids fragmentation.
    DontFragment = 21,
    /// A TCP segment with neither payload nor any flag but ACK.
    BareAck = 22,
    /// A neighbour solicitation or advertisement without a fault of its own.
    SoundDiscovery = 23,
}

impl Sign {
    /// Its bit.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// What packets are counted by.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Why and where.
    pub cause: Cause,
    /// The packet's own flow.
    pub flow: Tuple,
    /// For an ICMP error: the flow that it is about.
    pub about: Tuple,
    /// VLAN identifier plus one, 0 for an untagged packet.
    pub vlan: u16,
    /// Ethernet protocol number in host order.
    pub ethertype: u16,
    /// In the map of causes: the cause's mark in the sketch of unlisted flows.
    pub sketch: u32,
}

/// How often a key was seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Packets (socket buffers, as netfilter's counters count them).
    pub packets: u64,
    /// Their lengths: of IP packets from the IP header on, else what the buffer
    /// held at the moment.
    pub bytes: u64,
    /// `CLOCK_MONOTONIC` of the first one, nanoseconds.
    pub first_ns: u64,
    /// `CLOCK_MONOTONIC` of the last one, nanoseconds.
    pub last_ns: u64,
}

/// What the maps of counts hold, each under a digest of its key.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// What was seen.
    pub key: Key,
    /// How often.
    pub counts: Counts,
}

/// Words of a [`Key`].
pub const KEY_WORDS: usize = size_of::<Key>() / 8;

/// Bytes of a packet's headers that a [`Detail`] carries at most.
pub const HEADER_LEN: usize = 128;
/// Length of an interface name, with its terminating zero (`IFNAMSIZ`).
pub const IFNAME_LEN: usize = 16;
/// An interface name, zero-terminated, aligned so that it can be compared in words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IfName(pub [u8; IFNAME_LEN]);

/// Length of a task's name, with its terminating zero (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// [`ConntrackAt::info`] of a packet without a conntrack entry.
pub const CT_NONE: u32 = u32::MAX;

/// One packet seen closely: sent through the ring buffer for the first packets
/// of a key.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Detail {
    /// What the packet was counted under.
    pub key: Key,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Inode number of the owning socket, 0 where there is none.
    pub socket_inode: u64,
    /// Thread group (process) that was running. Without `socket_held` only
    /// a hint, since a packet may be freed in the time of any process.
    pub task_pid: u32,
    /// User who owns the socket; meaningful with `socket_inode`.
    pub socket_uid: u32,
    /// Entry of the stack map, negative where none could be had.
    pub stack_id: i32,
    /// The packet's mark.
    pub mark: u32,
    /// The packet's length in bytes.
    pub len: u32,
    /// TCP sequence number, host order.
    pub tcp_seq: u32,
    /// TCP acknowledgement number, host order.
    pub tcp_ack: u32,
    /// 1 if the kernel computed the transport checksum and found it wrong.
    pub bad_checksum: u32,
    /// Bytes of `header` that are valid.
    pub header_len: u32,
    /// TCP flag byte.
    pub tcp_flags: u8,
    /// State of the owning TCP socket (`TCP_ESTABLISHED` = 1 …), 0 without one.
    pub tcp_state: u8,
    /// IPv4 time to live or IPv6 hop limit.
    pub ttl: u8,
    /// 1 if the running process holds the socket open.
    pub socket_held: u8,
    /// The nftables rule that dropped the packet, as it stood on the stack.
    pub rule: RuleAt,
    /// The same, as nftables' own functions were seen to decide.
    pub verdict: RuleAt,
    /// The packet's conntrack entry.
    pub conntrack: ConntrackAt,
    /// The netfilter hook at which it was dropped.
    pub hook: HookAt,
    /// Name of the interface, zero-terminated; empty where there is none.
    pub ifname: IfName,
    /// Name of the running thread; as much a hint as `task_pid`.
    pub comm: [u8; COMM_LEN],
    /// The packet from its IP header on.
    pub header: [u8; HEADER_LEN],
}

/// How many details a CPU sends in the current second.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetailRate {
    /// When the second began, `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// Details sent since, those that were held back among them.
    pub sent: u64,
    /// How many may be sent in a second; user space sets it.
    pub allowed: u64,
}

/// Index into the per-CPU array of what the kernel side itself could not do.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Packets for which neither the flow map nor the cause map had room.
    Packets = 0,
    /// Their bytes.
    Bytes = 1,
    /// Details for which the ring buffer had no room.
    DetailRingFull = 2,
    /// Details held back by the rate limit.
    DetailRateLimited = 3,
    /// Drops that the kernel kept from the program, and that were recorded all the
    /// same.
    DropsNotSkipped = 4,
    /// What was seen of conversations, and for which the ring buffer had no room.
    Sightings = 5,
    /// Number of entries.
    Max = 6,
}

/// Slot of the outer map that holds the map of flows.
pub const COUNTS_FLOWS: u32 = 0;
/// Slot of the outer map that holds the map of causes, used when the other is full.
pub const COUNTS_CAUSES: u32 = 1;

/// Slots of the sketch that counts the flows which could not be listed.
pub const UNLISTED_SLOTS: usize = 1 << 16;

/// Rules of a packet filter at most, per list.
pub const FILTER_RULES: usize = 32;

/// [`EndpointRule::role`]: matches the source endpoint of a conversation.
pub const ROLE_SRC: u8 = 1;
/// [`EndpointRule::role`]: matches the destination endpoint of a conversation.
pub const ROLE_DST: u8 = 2;
/// [`EndpointRule::role`]: matches either endpoint, by its address.
pub const ROLE_HOST: u8 = 4;
/// [`EndpointRule::role`]: matches either endpoint, by its port (`--port`). A
/// role of its own since `--host` and `--port` are both required where given.
pub const ROLE_PORT: u8 = 8;

/// One value of `--src`, `--dst`, `--host` or `--port`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointRule {
    /// Network address as two big-endian halves; IPv4 in the upper half of `addr[0]`.
    pub addr: [u64; 2],
    /// Network mask in the same form.
    pub mask: [u64; 2],
    /// First port, host order; 0 with `port_last` 0 for any.
    pub port_first: u16,
    /// Last port.
    pub port_last: u16,
    /// 4, 6, or 0 for any address.
    pub family: u8,
    /// `ROLE_*`; 0 ends the list.
    pub role: u8,
    /// Zero.
    pub pad: [u8; 2],
}

/// The packet filter. Lists end at their first empty entry; an empty list
/// selects everything.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `--src`, `--dst`, `--host`, `--port`.
    pub endpoints: [EndpointRule; FILTER_RULES],
    /// `--iface`, zero-padded.
    pub ifnames: [IfName; FILTER_RULES],
    /// What those names are called in the tracer's own namespace, 0 for none.
    pub ifindexes: [u32; FILTER_RULES],
    /// `--netns`, inode numbers.
    pub netns: [u32; FILTER_RULES],
    /// `--proto`: a bit a protocol number.
    pub protos: [u64; 4],
    /// The roles that occur in `endpoints`, a bit each.
    pub roles: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// Inode number of the namespace that `ifindexes` belong to.
    pub ifnetns: u32,
}

const _: () = {
    assert!(size_of::<Tuple>() == 40);
    assert!(size_of::<Cause>() == 40);
    assert!(size_of::<Key>() == 128);
    assert!(size_of::<Counts>() == 32);
    assert!(size_of::<Detail>() == 128 + 16 + 40 + 40 + 40 + 24 + 112 + 32 + HEADER_LEN);
    assert!(size_of::<ConntrackAt>() == 112);
    assert!(size_of::<VerdictWords>() == (3 + VERDICT_WORDS + VERDICT_HEADS * VERDICT_WORDS) * 8);
    assert!(size_of::<EndpointRule>() == 40);
    assert!(size_of::<Config>() == 112);
    assert!(size_of::<Filter>() == FILTER_RULES * (40 + 16 + 4 + 4) + 40);
};

#[cfg(feature = "user")]
mod user {
    use super::{
        Addresses, Config, ConntrackLayout, Counts, Detail, DetailRate, Filter, Key, Layout,
        Places, RuleLayout, StackWords, VerdictWords, XtBlock, XtGroup,
    };

    // SAFETY: all are `repr(C)`, `Copy`, free of padding (sizes are asserted
    // above) and of pointers, and every bit pattern of theirs is a valid value.
    unsafe impl aya::Pod for Key {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counts {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Detail {}
    // SAFETY: as above.
    unsafe impl aya::Pod for DetailRate {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Filter {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Layout {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Addresses {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ConntrackLayout {}
    // SAFETY: as above.
    unsafe impl aya::Pod for RuleLayout {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Places {}
    // SAFETY: as above.
    unsafe impl aya::Pod for StackWords {}
    // SAFETY: as above.
    unsafe impl aya::Pod for VerdictWords {}
    // SAFETY: as above.
    unsafe impl aya::Pod for XtGroup {}
    // SAFETY: as above.
    unsafe impl aya::Pod for XtBlock {}
}

#[cfg(test)]
mod tests {
    use super::{TUPLE_PORTS, Tuple};

    #[test]
    fn a_flow_is_the_same_in_both_ways_and_no_other_is() {
        let end = |last: u8| {
            let mut address = [0; 16];
            (address[0], address[3], address[15]) = (10, last, last);
            address
        };
        let flow = |(src, src_port), (dst, dst_port)| Tuple {
            src: end(src),
            dst: end(dst),
            src_port,
            dst_port,
            family: 6,
            proto: 6,
            flags: TUPLE_PORTS,
            pad: 0,
        };
        let ends = [(2, 40_000), (2, 443), (5, 443), (5, 40_000)];
        for one in ends {
            for other in ends {
                let both = flow(one, other).of_both_ways();
                assert_eq!(both, flow(other, one).of_both_ways());
                assert!([flow(one, other), flow(other, one)].contains(&both));
            }
        }
    }
}
