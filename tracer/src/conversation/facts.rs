//! What happened to a conversation's packets and sockets on this machine.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    ends::End,
    input::{TcpState, Way},
};
use crate::{
    event::{Class, Direction, Engine, Process, Rule},
    reason::{Text, plain_name},
};

/// What kind of packet a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Syn,
    SynAck,
    Rst,
    /// Another TCP segment, or a datagram.
    Other,
    /// An ICMP error about the conversation, by type and code.
    Icmp(u8, u8),
    /// Its header was not seen.
    Unknown,
}

/// Packets that this machine dropped for one cause.
#[derive(Clone, Debug)]
pub(super) struct Dropped {
    /// Who sent them, or was meant to have caused the ICMP error.
    pub by: End,
    pub kind: Kind,
    pub packets: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    pub class: Class,
    pub name: Option<String>,
    pub summary: String,
    pub rule: Option<Rule>,
    pub netns: Option<u32>,
    pub netns_name: Option<String>,
    pub ifname: Option<String>,
    pub direction: Option<Direction>,
    /// The function that freed the packet.
    pub function: Option<String>,
    /// Those that led to it, as a record has them.
    pub stack: Arc<[String]>,
    pub advice: Option<String>,
}

impl Dropped {
    /// The packet was wanted, or may have been.
    pub(super) fn is_loss(&self) -> bool {
        match self.class {
            Class::Policy
            | Class::Resource
            | Class::Routing
            | Class::Neighbour
            | Class::Malformed
            | Class::Link => true,
            // What the end itself refuses is told by what it answers.
            Class::Protocol | Class::Unknown => self.kind == Kind::SynAck,
            Class::NoListener | Class::Peer | Class::Benign => false,
        }
    }

    /// It is an ICMP error about the conversation, no packet of it.
    pub(super) fn is_about(&self) -> bool {
        matches!(self.kind, Kind::Icmp(..))
    }

    /// It is the ICMP error that says how large packets may be.
    pub(super) fn says_too_big(&self) -> bool {
        matches!(self.kind, Kind::Icmp(3, 4) | Kind::Icmp(2, _))
    }

    /// The function that freed it, without a compiler's suffix.
    fn function(&self) -> Option<&str> {
        self.function.as_deref().map(plain_name)
    }

    /// It came to a namespace that it was not for: another link address, or an unknown VLAN.
    pub(super) fn is_for_another(&self) -> bool {
        let function = self.function();
        is_for_another(self.class, self.name.as_deref(), function)
    }

    /// It may not come from there, or not to there by this interface; there is a route.
    pub(super) fn is_for_its_addresses(&self) -> bool {
        let function = self.function();
        match self.name.as_deref() {
            Some("NOT_SPECIFIED") | None => function == Some("ip_rcv_finish_core"),
            Some(name) => matches!(name, "IP_RPFILTER" | "IP_LOCAL_SOURCE" | "IP_LOCALNET"),
        }
    }

    /// Its time to live ran out as this machine passed it on.
    pub(super) fn is_out_of_hops(&self) -> bool {
        let function = self.function();
        self.class == Class::Malformed && matches!(function, Some("ip_forward" | "ip6_forward"))
    }

    /// No socket takes it.
    pub(super) fn is_for_nobody(&self) -> bool {
        self.class == Class::NoListener
    }

    /// The listener's queues were full.
    pub(super) fn is_overflow(&self) -> bool {
        /// Where the kernel says no more than that: the functions that put a new
        /// connection into a queue.
        const FUNCTIONS: [&str; 4] = [
            "tcp_conn_request",
            "tcp_v4_syn_recv_sock",
            "tcp_v6_syn_recv_sock",
            "tcp_check_req",
        ];
        if self.by != End::Client || matches!(self.kind, Kind::Icmp(..) | Kind::Rst) {
            return false;
        }
        match self.name.as_deref() {
            Some("TCP_LISTEN_OVERFLOW" | "TCP_OVERFLOW" | "TCP_REQQFULLDROP") => true,
            Some("SOCKET_BACKLOG") => self.kind == Kind::Syn,
            _ => {
                let stack = self.stack.iter().map(|name| plain_name(name));
                self.class == Class::Resource
                    && self
                        .function()
                        .into_iter()
                        .chain(stack)
                        .any(|name| FUNCTIONS.contains(&name))
            }
        }
    }

    /// The connection tracking table had no room.
    pub(super) fn is_full_table(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| {
            rule.engine == Engine::Conntrack
                && rule
                    .text
                    .as_ref()
                    .is_some_and(|text| text.contains("table full"))
        })
    }

    /// Connection tracking or address translation did it by itself.
    pub(super) fn is_by_tracking(&self) -> bool {
        let engine = self.rule.as_ref().map(|rule| rule.engine);
        matches!(engine, Some(Engine::Conntrack | Engine::Nat))
    }

    /// What the rule does is not known: it may answer, too.
    pub(super) fn is_by_unknown(&self) -> bool {
        let is_told = |rule: &Rule| rule.text.is_some() || rule.iptables.is_some();
        self.class == Class::Policy && !self.rule.as_ref().is_some_and(is_told)
    }

    /// The rule answers instead of dropping silently.
    pub(super) fn is_rejected(&self) -> bool {
        self.rule
            .as_ref()
            .and_then(|rule| rule.verdict.as_deref().or(rule.text.as_deref()))
            .is_some_and(|text| text.to_ascii_lowercase().contains("reject"))
    }
}

/// Whether a packet is dropped because it is for another host, by the kernel's reason or
/// the function that freed it.
pub(super) fn is_for_another(class: Class, name: Option<&str>, function: Option<&str>) -> bool {
    /// What else they drop has another class.
    const FUNCTIONS: [&str; 2] = ["ip_rcv_core", "ip6_rcv_core"];
    let by_function = || function.is_some_and(|function| FUNCTIONS.contains(&function));
    class == Class::Benign && (name == Some("OTHERHOST") || by_function())
}

/// A reset that this machine sent, by the kernel's record.
#[derive(Clone, Debug)]
pub(super) struct ResetSent {
    pub at: Timestamp,
    pub by: End,
    pub netns: Option<u32>,
    pub netns_name: Option<String>,
    pub name: Option<String>,
    pub summary: String,
    /// What the functions that led to it say.
    pub by_calls: Option<&'static Text>,
    pub process: Option<Process>,
}

/// Why a segment was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    /// No acknowledgement came in time.
    Timeout,
    /// To probe for the loss of the last segment.
    Probe,
    /// What came behind it was acknowledged.
    Fast,
    /// The path takes no larger ones.
    TooLarge,
    /// The functions that did it are not known.
    Unknown,
}

impl Cause {
    /// By the functions that sent it, the innermost first.
    pub(super) fn of(stack: &[String]) -> Self {
        let by = |name: &String| {
            Some(match name.as_str() {
                "tcp_retransmit_timer"
                | "tcp_write_timer"
                | "tcp_write_timer_handler"
                | "reqsk_timer_handler" => Self::Timeout,
                "tcp_send_loss_probe" => Self::Probe,
                "tcp_simple_retransmit" => Self::TooLarge,
                "tcp_xmit_retransmit_queue" | "tcp_xmit_recovery" => Self::Fast,
                _ => return None,
            })
        };
        let mut known = stack.iter().filter_map(by);
        match (known.next(), known.next()) {
            // What is sent again because it was too large passes the same queue.
            (Some(Self::Fast), Some(Self::TooLarge)) => Self::TooLarge,
            (first, _) => first.unwrap_or(Self::Unknown),
        }
    }
}

/// A segment that this machine sent again.
#[derive(Clone, Debug)]
pub(super) struct Repeated {
    pub first: Timestamp,
    /// The last time.
    pub at: Timestamp,
    pub by: End,
    pub kind: Kind,
    pub seq: Option<u32>,
    /// Payload of one of them.
    pub bytes: u64,
    pub times: u64,
    pub cause: Cause,
}

/// An ICMP error about the conversation.
#[derive(Clone, Debug)]
pub(super) struct Complaint {
    pub at: Timestamp,
    pub netns: u32,
    pub way: Way,
    pub from: IpAddr,
    pub kind: u8,
    pub code: u8,
    pub mtu: Option<u32>,
    /// Who sent the packet that it is about.
    pub about: End,
    pub ttl: u8,
}

/// How an attempt of the tracer's own ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    /// Error number; 0 for none.
    pub error: i32,
    /// Of UDP: an answer came.
    pub answered: bool,
    pub took: Duration,
}

/// A socket of this machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Socket {
    pub netns: Option<u32>,
    pub state: Option<TcpState>,
    /// When it was seen to open.
    pub began: Option<Timestamp>,
    pub established: Option<Timestamp>,
    pub closed: Option<Timestamp>,
    /// It told the other end that it closes.
    pub said_goodbye: bool,
    pub error: i32,
    pub rtt_us: u32,
    /// Segments that it sent again, and how many of them the other end had already.
    pub retransmitted: u32,
    pub duplicates: u32,
    pub process: Option<Process>,
}
