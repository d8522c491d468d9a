//! Why this machine sent a TCP reset, by the functions that led to it: for kernels that
//! give no reason, and for reasons that say less.
//!
//! Seen on 5.10, 6.1 and 6.18, of which the last one gives the reason as well.

use super::{Text, reset_reason, texts};

/// What it means that a function is among those that led to a reset.
pub(super) struct Case {
    pub function: &'static str,
    /// One of the next two functions above it, where that makes a difference.
    pub by: Option<&'static str>,
    /// The state of the socket that sends the reset, where that does; empty where no
    /// socket does.
    pub state: Option<&'static str>,
    /// A reason of the kernel's or one of [`TEXTS`]; empty where it may be several.
    pub reason: &'static str,
}

/// How many functions above one are looked at.
const ABOVE: usize = 2;

/// Sorted by name: what no kernel has a reason of its own for.
pub(super) static TEXTS: &[Text] = texts! {
    "CLOSED" Protocol
        "the program closed the connection with received data unread, or without a normal end"
        => "see the counters: nstat -az TcpExtTCPAbortOnClose TcpExtTCPAbortOnLinger";
    "DISCONNECTED" Protocol
        "the program disconnected the connection instead of closing it";
    "ENDED" Protocol
        "an administrator (ss -K) or a BPF program ended the connection";
    "LINGER" Policy
        "the program closed the connection with SO_LINGER 0: a reset instead of a normal end"
        => "see the counter: nstat -az TcpExtTCPAbortOnData";
    "LISTENER_CLOSED" Protocol
        "the listener was closed before it had accepted the connection";
    "SYN_OR_FULL" Protocol
        "a SYN came within the handshake, or the listener's queue is full"
        => "see: nstat -az TcpExtListenOverflows; sysctl net.ipv4.tcp_abort_on_overflow";
};

/// Writes [`CASES`]: function, who calls it, the socket's state, the reason.
macro_rules! cases {
    ($($function:literal $(by $by:literal)? $(in $state:literal)? => $reason:literal;)*) => {
        &[$(Case {
            function: $function,
            by: cases!(@some $($by)?),
            state: cases!(@some $($state)?),
            reason: $reason,
        }),*]
    };
    (@some) => { None };
    (@some $some:literal) => { Some($some) };
}

/// Of one function, the first that fits counts.
///
/// With the functions that take segments ends what the socket's own side did: above them
/// stands who brought the segment, which may be another connection's doing.
pub(super) static CASES: &[Case] = cases! {
    "__tcp_close" => "CLOSED";
    "mptcp_do_fastclose" => "TCP_ABORT_ON_CLOSE";
    "mptcp_subflow_reset" => "MPTCP_RST_EUNSPEC";
    "tcp_abort" => "ENDED";
    "tcp_check_req" => "SYN_OR_FULL";
    "tcp_disconnect" by "inet_csk_listen_stop" => "LISTENER_CLOSED";
    "tcp_disconnect" by "__tcp_close" => "LINGER";
    "tcp_disconnect" => "DISCONNECTED";
    "tcp_keepalive_timer" => "TCP_KEEPALIVE_TIMEOUT";
    "tcp_out_of_resources" => "TCP_ABORT_ON_MEMORY";
    // Being told to close, the socket was done with what came.
    "tcp_v4_do_rcv" in "CLOSE" => "TCP_ABORT_ON_DATA";
    "tcp_v4_do_rcv" in "LISTEN" => "TCP_FLAGS";
    "tcp_v4_do_rcv" in "SYN_SENT" => "TCP_INVALID_ACK_SEQUENCE";
    "tcp_v4_do_rcv" => "";
    "tcp_v4_rcv" in "" => "NO_SOCKET";
    "tcp_v4_rcv" in "TIME_WAIT" => "TCP_TIMEWAIT_SOCKET";
    "tcp_v4_rcv" => "";
    "tcp_v6_do_rcv" in "CLOSE" => "TCP_ABORT_ON_DATA";
    "tcp_v6_do_rcv" in "LISTEN" => "TCP_FLAGS";
    "tcp_v6_do_rcv" in "SYN_SENT" => "TCP_INVALID_ACK_SEQUENCE";
    "tcp_v6_do_rcv" => "";
    "tcp_v6_rcv" in "" => "NO_SOCKET";
    "tcp_v6_rcv" in "TIME_WAIT" => "TCP_TIMEWAIT_SOCKET";
    "tcp_v6_rcv" => "";
};

/// By the functions, nearest first, and the state of the socket.
pub(super) fn find(callers: &[String], state: Option<&str>) -> Option<&'static Text> {
    let state = state.unwrap_or_default();
    let fits = |case: &&Case, above: &[String]| {
        let mut next = above.iter().take(ABOVE);
        case.by.is_none_or(|by| next.any(|name| name == by))
            && case.state.is_none_or(|wanted| wanted == state)
    };
    let reason = callers.iter().enumerate().find_map(|(at, function)| {
        let above = callers.get(at + 1..).unwrap_or_default();
        let of = CASES.iter().filter(|case| case.function == function);
        let mut fitting = of.filter(|case| fits(case, above));
        fitting.next().map(|case| case.reason)
    })?;
    text(reason)
}

/// What a case says.
pub(super) fn text(reason: &str) -> Option<&'static Text> {
    super::find(TEXTS, reason).or_else(|| reset_reason(reason))
}
