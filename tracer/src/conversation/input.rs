//! What conclusions are drawn from, beside records.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use crate::event::Process;

/// Something seen of a conversation that the filter selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When.
    pub at: Timestamp,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The filter selects this conversation, or the one that an ICMP error is about; else
    /// it is another one of an address that the filter names.
    pub is_selected: bool,
    /// What.
    pub what: Seen,
}

impl Sighting {
    /// Whether it is a selected connection's SYN that came in.
    #[must_use]
    pub fn is_syn_in(&self) -> bool {
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        let Seen::Packet(packet) = &self.what else {
            return false;
        };
        let is_syn = |tcp: &Segment| tcp.flags & (SYN | ACK) == SYN;
        let syn = matches!(&packet.content, Content::Tcp(tcp) if is_syn(tcp));
        self.is_selected && packet.way == Way::In && syn
    }
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A packet that entered or left an interface.
    Packet(Packet),
    /// A TCP socket that took another state.
    State(State),
}

/// A packet that entered or left an interface. Of a conversation's packets, those that
/// open or end it and ICMP errors are all seen, and of the others some a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The way through the interface.
    pub way: Way,
    /// Name of the interface; empty where it is not known.
    pub ifname: String,
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// IPv4 time to live or IPv6 hop limit.
    pub ttl: u8,
    /// IPv4 identification; `None` for IPv6.
    pub ip_id: Option<u16>,
    /// The IPv4 header forbids fragmentation. Always true for IPv6.
    pub dont_fragment: bool,
    /// Differentiated services code point: the upper six bits of IPv4's type of service
    /// or IPv6's traffic class.
    pub dscp: u8,
    /// Bytes from the IP header on. A large segment that is cut up later counts as a
    /// whole.
    pub len: u32,
    /// What it carries.
    pub content: Content,
    /// What of this flow passed here in this direction, up to this packet and with it.
    pub passed: Passed,
}

/// Through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Received.
    In,
    /// Sent.
    Out,
}

/// What of a flow passed through an interface in one direction, in total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Packets.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// The largest one's.
    pub largest: u32,
    /// When the packet before this one passed.
    pub previous: Option<Timestamp>,
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A TCP segment.
    Tcp(Segment),
    /// A UDP datagram.
    Udp {
        /// Sender's port.
        sport: u16,
        /// Receiver's port.
        dport: u16,
        /// Bytes behind the header.
        payload: u32,
    },
    /// An ICMP echo request.
    EchoRequest,
    /// An ICMP echo reply.
    EchoReply,
    /// An ICMP error.
    IcmpError(IcmpError),
    /// Anything else.
    Other,
}

/// A TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sender's port.
    pub sport: u16,
    /// Receiver's port.
    pub dport: u16,
    /// Flag byte: `FIN` 1, `SYN` 2, `RST` 4, `PSH` 8, `ACK` 16.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window, as in the header.
    pub window: u16,
    /// Window scale option (of a SYN).
    pub window_shift: Option<u8>,
    /// Bytes behind the header.
    pub payload: u32,
    /// Has the timestamps option.
    pub has_timestamps: bool,
    /// Maximum segment size option (of a SYN).
    pub mss: Option<u16>,
    /// Carries a Fast Open cookie, or asks for one.
    pub fast_open: bool,
    /// What it says of multipath TCP, if it has that option.
    pub multipath: Option<Multipath>,
}

/// The options of multipath TCP
/// ([RFC 8684](https://www.rfc-editor.org/rfc/rfc8684.html)) of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Multipath {
    /// `MP_FASTCLOSE`: it ends the whole connection at once.
    pub is_fast_close: bool,
    /// `MP_TCPRST`: the reason of a reset of this path.
    pub reset_reason: Option<u8>,
}

/// An ICMP error about a packet of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Type: of ICMP if the addresses are IPv4, of `ICMPv6` if they are IPv6.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The largest packet that fits, of "fragmentation needed" and "packet too big";
    /// `None` for others, and where a router does not say.
    pub mtu: Option<u32>,
    /// The flow of the packet that the error quotes.
    pub about: Endpoints,
    /// Its protocol number.
    pub proto: u8,
}

/// Who sent a packet to whom; ports are 0 where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
}

/// A TCP socket that took another state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its own end as `src`, the other end as `dst`.
    pub flow: Endpoints,
    /// The state before.
    pub from: TcpState,
    /// The state now.
    pub to: TcpState,
    /// The error that the application gets (`ECONNREFUSED` …); 0 for none.
    pub error: i32,
    /// Smoothed round-trip time, microseconds; 0 where none was measured.
    pub rtt_us: u32,
    /// Segments sent again so far.
    pub retransmitted: u32,
    /// Of those, how many the other end has reported as duplicates (DSACK): they were not
    /// lost. 0 also where this kernel does not count them.
    pub duplicates: u32,
    /// The process that holds the socket.
    pub process: Option<Process>,
}

/// A state of a TCP socket, as
/// [`tcp_states.h`](https://github.com/torvalds/linux/blob/v6.12/include/net/tcp_states.h)
/// numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// 1
    Established,
    /// 2
    SynSent,
    /// 3, and `TCP_NEW_SYN_RECV` (12)
    SynRecv,
    /// 4
    FinWait1,
    /// 5
    FinWait2,
    /// 6
    TimeWait,
    /// 7
    Close,
    /// 8
    CloseWait,
    /// 9
    LastAck,
    /// 10
    Listen,
    /// 11
    Closing,
}
