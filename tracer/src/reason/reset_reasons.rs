//! The reasons of `enum sk_rst_reason`: why this machine sent a TCP reset.
//!
//! [Where the kernel uses them](https://github.com/torvalds/linux/blob/v6.18/include/net/rstreason.h).

use super::{Text, texts};

/// Sorted by name.
pub(super) static TEXTS: &[Text] = texts! {
    "ERROR" Unknown
        "the kernel reset the connection because of an internal error";
    "INVALID_SYN" Protocol
        "a SYN came in the middle of a connection";
    "MPTCP_RST_EBADPERF" Peer
        "this path of the multipath connection performed too badly";
    "MPTCP_RST_EMIDDLEBOX" Peer
        "something on the path changed the multipath TCP signalling";
    "MPTCP_RST_EMPTCP" Protocol
        "the multipath TCP options could not be used";
    "MPTCP_RST_EPROHIBIT" Policy
        "this machine does not allow another path for the multipath connection"
        => "see the limits: ip mptcp limits show";
    "MPTCP_RST_ERESOURCE" Resource
        "this machine has no means for another path of the multipath connection"
        => "see the limits: ip mptcp limits show";
    "MPTCP_RST_EUNSPEC" Unknown
        "this path of the multipath connection is no longer available";
    "MPTCP_RST_EWQ2BIG" Resource
        "too much data waits on this path of the multipath connection";
    "NOT_SPECIFIED" Unknown
        "the kernel gives no reason for the reset";
    "NO_SOCKET" NoListener
        "nothing listens on the port, or the connection is gone"
        => "see who listens, on which address: ss -ltn";
    "TCP_ABORT_ON_CLOSE" Protocol
        "the program closed the connection while received data was still unread"
        => "see the counter: nstat -az TcpExtTCPAbortOnClose";
    "TCP_ABORT_ON_DATA" Protocol
        "data came after the program had closed the connection"
        => "see the counter: nstat -az TcpExtTCPAbortOnData";
    // The program asked for it: TCP_LINGER2 below 0. SO_LINGER with time 0 is TCP_STATE.
    "TCP_ABORT_ON_LINGER" Policy
        "the program closed the connection and asked for a reset instead of a normal end"
        => "see the counter: nstat -az TcpExtTCPAbortOnLinger";
    "TCP_ABORT_ON_MEMORY" Resource
        "memory for TCP, or the number of closed but unfinished connections, is at its limit"
        => "compare: cat /proc/net/sockstat; sysctl net.ipv4.tcp_mem net.ipv4.tcp_max_orphans";
    "TCP_ACK_UNSENT_DATA" Protocol
        "the other end acknowledges data that this machine never sent";
    "TCP_DISCONNECT_WITH_DATA" Protocol
        "the program disconnected while data was still to be sent";
    "TCP_FLAGS" Protocol
        "the received segment's flags do not fit the state of the connection";
    "TCP_INVALID_ACK_SEQUENCE" Protocol
        "the reply to a connection attempt acknowledges something that was not sent"
        => "look for an old connection on the same ports or a middlebox: ss -tan";
    "TCP_KEEPALIVE_TIMEOUT" Peer
        "the other end did not answer keepalive probes any more"
        => "see the timing: sysctl net.ipv4.tcp_keepalive_time net.ipv4.tcp_keepalive_probes";
    "TCP_OLD_ACK" Protocol
        "an outdated acknowledgement came while the connection was being set up";
    "TCP_RFC7323_PAWS" Protocol
        "the received segment's TCP timestamp is older than that of earlier ones"
        => "see the counter: nstat -az TcpExtPAWSActive; look for hosts sharing an address (NAT)";
    // Disconnecting, being closed by an administrator (ss -K), or being closed
    // for good while the other end is still sending.
    "TCP_STATE" Protocol
        "the program or an administrator ended the connection before its normal end";
    "TCP_TIMEWAIT_SOCKET" Protocol
        "the segment belongs to a connection that has just ended";
    "TCP_TOO_OLD_ACK" Protocol
        "the other end acknowledges data from too long ago";
};
