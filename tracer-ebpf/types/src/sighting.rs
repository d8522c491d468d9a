//! What is seen of the conversations that a filter selects, beside what is dropped.

use crate::{COMM_LEN, HEADER_LEN, IfName, Tuple};

/// [`crate::Config::watch`]: every address, port and protocol of the filter belongs to an
/// address, so packets are selected by the addresses alone.
pub const WATCH_ADDRESSES: u32 = 1;
/// [`crate::Config::watch`]: packets that pass are not watched. Flows that have trouble
/// are noted, and of sockets only states that tell how a connection with trouble went on
/// or failed are told.
pub const WATCH_TROUBLES: u32 = 2;

/// What was seen.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SightingKind {
    /// `netif_receive_skb`: a packet came in through an interface.
    PacketIn = 0,
    /// `net_dev_queue`: a packet goes out through an interface.
    PacketOut = 1,
    /// `inet_sock_set_state`: a TCP socket takes another state.
    State = 2,
}

impl SightingKind {
    /// The kind with this number, if there is one.
    #[must_use]
    pub const fn from_u8(kind: u8) -> Option<Self> {
        Some(match kind {
            0 => Self::PacketIn,
            1 => Self::PacketOut,
            2 => Self::State,
            _ => return None,
        })
    }
}

/// A packet that passes an interface, or a new state of a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// The packet's own flow; of a socket, that of the packets that it sends.
    pub flow: Tuple,
    /// For an ICMP error: the flow that it is about.
    pub about: Tuple,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Packets of this flow through this interface in this direction so far.
    pub packets: u64,
    /// Their lengths from the IP header on.
    pub bytes: u64,
    /// When the one before passed, 0 if this is the first.
    pub previous_ns: u64,
    /// Address of the socket, of a state.
    pub socket: u64,
    /// Inode number of the socket, of a state; 0 where it has no file.
    pub socket_inode: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Interface index.
    pub ifindex: u32,
    /// The packet's length from the IP header on.
    pub len: u32,
    /// The largest one's so far.
    pub largest: u32,
    /// User who owns the socket; meaningful with `socket_inode`.
    pub socket_uid: u32,
    /// Process that was running.
    pub task_pid: u32,
    /// `sk->sk_err`, of a state.
    pub error: u32,
    /// Smoothed round-trip time, microseconds, of a state.
    pub srtt_us: u32,
    /// Segments that the socket has sent again, of a state.
    pub retransmitted: u32,
    /// Of those, how many the other end has reported as duplicates (DSACK).
    pub duplicates: u32,
    /// Bytes of `header` that are valid.
    pub header_len: u32,
    /// A [`SightingKind`].
    pub kind: u8,
    /// State of the socket before (`TCP_ESTABLISHED` = 1 …).
    pub state_from: u8,
    /// State of the socket from now on.
    pub state_to: u8,
    /// 1 if the running process holds the socket open.
    pub socket_held: u8,
    /// Name of the interface, zero-terminated.
    pub ifname: IfName,
    /// Name of the running thread.
    pub comm: [u8; COMM_LEN],
    /// The packet from its IP header on.
    pub header: [u8; HEADER_LEN],
}

/// Which packets are counted together.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PassedKey {
    /// Their flow.
    pub flow: Tuple,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Interface index.
    pub ifindex: u32,
    /// A [`SightingKind`].
    pub kind: u32,
    /// Zero.
    pub pad: u32,
}

/// What of a flow passed an interface in a direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Packets.
    pub packets: u64,
    /// Their lengths from the IP header on.
    pub bytes: u64,
    /// When the last one passed, `CLOCK_MONOTONIC`.
    pub last_ns: u64,
    /// When one of them was last told to user space.
    pub told_ns: u64,
    /// The largest one's length.
    pub largest: u64,
}

const _: () = {
    assert!(size_of::<Sighting>() == 2 * 40 + 6 * 8 + 11 * 4 + 4 + 16 + COMM_LEN + HEADER_LEN);
    assert!(size_of::<PassedKey>() == 56);
    assert!(size_of::<Passed>() == 40);
};
