//! What to do next, by code.

use std::net::{IpAddr, SocketAddr};

use super::story::Role;
use crate::event::Code;

/// Who has a conversation, seen from this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parties {
    pub server: SocketAddr,
    /// The other end, if it is the client.
    pub client: Option<IpAddr>,
}

impl Parties {
    pub(super) fn of(role: Role, client: IpAddr, server: SocketAddr) -> Self {
        Self {
            server,
            client: (role == Role::Server).then_some(client),
        }
    }
}

/// What to do next; `None` where nothing is wrong.
pub(super) fn of(code: Code, parties: Parties) -> Option<String> {
    let port = parties.server.port();
    let address = parties.client.unwrap_or_else(|| parties.server.ip());
    Some(match code {
        Code::Connected | Code::Answered | Code::InProgress => return None,
        Code::LocalRuleDrop => "change that rule, or allow the connection before it".to_owned(),
        Code::LocalNoRoute => format!("check the route: ip route get {address}"),
        Code::LocalNoNeighbour => {
            format!("see the next hop and whether it answers: ip route get {address}; ip neigh show")
        }
        Code::ConntrackFull => {
            "raise net.netfilter.nf_conntrack_max, or find who fills the table: conntrack -L".to_owned()
        }
        Code::LocalDrop => "see the record of the drop for the place in the kernel".to_owned(),
        Code::ReturnPathDrop => {
            "let the answers in: see the rule, reverse path filter and routes for packets that come back".to_owned()
        }
        Code::NoListener => format!("see who listens, and on which address: ss -ltunp 'sport = :{port}'"),
        Code::ListenOverflow => {
            format!("see Recv-Q against Send-Q: ss -ltn 'sport = :{port}'; accept faster, or raise the backlog and net.core.somaxconn")
        }
        Code::LocalAbort => "see why the application closes with data unread or without an orderly end".to_owned(),
        Code::LocalGiveUp => "see whether the other end and the path live; keepalive timing: sysctl net.ipv4.tcp_keepalive_time net.ipv4.tcp_keepalive_intvl".to_owned(),
        Code::PeerRefused if parties.client.is_some() => format!("see why {address} takes no answers: its program has ended, or its firewall refuses them"),
        Code::PeerRefused => format!("start or expose the service on {address}, or use another port than {port}"),
        Code::PeerReset => format!("ask {address}: its application or kernel broke the connection off; its log at that time tells"),
        Code::PathReset => format!("find the device that many hops away: traceroute -n {address}; its firewall rules decide"),
        Code::ResetOriginUnknown => format!("ping {address}, or connect to another port of it, while droptrace runs: the TTLs tell how far away it is"),
        Code::PathUnreachable => "ask whoever runs the router that answered: it has no way there".to_owned(),
        Code::PathProhibited => "ask whoever runs the device that answered: its rules forbid it".to_owned(),
        Code::TtlExceeded => format!("look for a routing loop: tracepath -n {address}"),
        Code::NoAnswer => format!("look on the path and at {address}: run droptrace there; traceroute -n {address}"),
        Code::MtuBlackhole => format!("find the limit: tracepath -n {address}; let ICMP \"fragmentation needed\" pass, or lower the MTU or MSS; net.ipv4.tcp_mtu_probing=1 works around it"),
        Code::IdleTimeout => "send something more often, as with TCP keepalive".to_owned(),
        Code::PathLoss => format!("look for loss on the path: mtr -n {address}"),
        Code::LocalLoss => "see the records of the drops".to_owned(),
        Code::NoTraffic => format!("see whether the application uses this address: ss -tunp; try it: droptrace probe {address}"),
    })
}
