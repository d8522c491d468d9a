//! How what was seen is said in words.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    ends::End,
    facts::{Cause, Complaint, Dropped, Kind, Repeated, ResetSent},
    input::{Content, Multipath, Packet, Segment, State, TcpState, Way},
    story::between,
    trail::{ACK, FIN, RST, SYN},
};
use crate::event::{Engine, Process, Rule};

/// A packet that is a step of the timeline; `None` for one of many.
pub(super) fn packet(packet: &Packet, is_first_data: bool) -> Option<String> {
    let mut more = None;
    let what = match &packet.content {
        Content::Tcp(tcp) => {
            more = extras(tcp);
            let has = |flag| tcp.flags & flag != 0;
            if has(RST) {
                "RST"
            } else if has(SYN) && has(ACK) {
                "SYN-ACK"
            } else if has(SYN) {
                "SYN"
            } else if has(FIN) {
                "FIN"
            } else if is_first_data {
                "first data"
            } else {
                return None;
            }
        }
        Content::Udp { .. } => "datagram",
        _ => return None,
    };
    let way = match packet.way {
        Way::In => "came in",
        Way::Out => "left",
    };
    let by = by(&packet.ifname);
    let (from, field) = (packet.src, ttl_field(packet.src.is_ipv4()));
    Some(format!(
        "{what} of {from} {way}{by} ({field} {}{})",
        packet.ttl,
        more.unwrap_or_default()
    ))
}

/// What else a SYN or RST says: `, MPTCP`.
fn extras(tcp: &Segment) -> Option<String> {
    let mut words = Vec::new();
    if tcp.flags & RST != 0 {
        words.extend(tcp.multipath.and_then(multipath_reset));
    } else if tcp.flags & SYN != 0 {
        words.extend(tcp.fast_open.then(|| "Fast Open".to_owned()));
        words.extend(tcp.multipath.map(|_| "MPTCP".to_owned()));
        if tcp.payload > 0 {
            words.push(several(tcp.payload.into(), "byte", "bytes"));
        }
    }
    (!words.is_empty()).then(|| format!(", {}", words.join(", ")))
}

/// What a RST says of multipath TCP, by its names
/// ([RFC 8684](https://www.rfc-editor.org/rfc/rfc8684.html#section-3.6)).
pub(super) fn multipath_reset(multipath: Multipath) -> Option<String> {
    let reason = match multipath.reset_reason {
        None => return multipath.is_fast_close.then(|| "MP_FASTCLOSE".to_owned()),
        Some(0) => "unspecified error",
        Some(1) => "MPTCP-specific error",
        Some(2) => "lack of resources",
        Some(3) => "administratively prohibited",
        Some(4) => "too much outstanding data",
        Some(5) => "unacceptable performance",
        Some(6) => "middlebox interference",
        Some(other) => return Some(format!("MP_TCPRST: reason {other}")),
    };
    Some(format!("MP_TCPRST: {reason}"))
}

/// ` by eth0`; nothing where the name is not known.
pub(super) fn by(ifname: &str) -> String {
    if ifname.is_empty() {
        String::new()
    } else {
        format!(" by {ifname}")
    }
}

pub(super) fn ttl_field(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "TTL" } else { "hop limit" }
}

/// A socket's new state.
pub(super) fn state(end: End, state: &State) -> String {
    let whose = match end {
        End::Client => "client",
        End::Server => "server",
    };
    let error = match state.error {
        0 => String::new(),
        error => format!(", error {}", error_name(error)),
    };
    format!(
        "{whose}'s socket: {} to {}{error}",
        state_name(state.from),
        state_name(state.to)
    )
}

fn state_name(state: TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTABLISHED",
        TcpState::SynSent => "SYN_SENT",
        TcpState::SynRecv => "SYN_RECV",
        TcpState::FinWait1 => "FIN_WAIT1",
        TcpState::FinWait2 => "FIN_WAIT2",
        TcpState::TimeWait => "TIME_WAIT",
        TcpState::Close => "CLOSE",
        TcpState::CloseWait => "CLOSE_WAIT",
        TcpState::LastAck => "LAST_ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
    }
}

/// An error number as programs know it.
pub(super) fn error_name(error: i32) -> String {
    let name = match error {
        libc::EPERM => "EPERM (not permitted)",
        libc::EACCES => "EACCES (permission denied)",
        libc::EINVAL => "EINVAL (invalid argument)",
        libc::EPIPE => "EPIPE (broken pipe)",
        libc::ENETUNREACH => "ENETUNREACH (network unreachable)",
        libc::ECONNABORTED => "ECONNABORTED (aborted)",
        libc::ECONNRESET => "ECONNRESET (reset)",
        libc::ETIMEDOUT => "ETIMEDOUT (timed out)",
        libc::ECONNREFUSED => "ECONNREFUSED (refused)",
        libc::EHOSTUNREACH => "EHOSTUNREACH (host unreachable)",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// The namespace of something that did not happen at home.
fn elsewhere(netns: Option<u32>, name: Option<&str>, home: Option<u32>) -> String {
    match (netns, name) {
        (Some(netns), _) if Some(netns) == home => String::new(),
        (Some(_), Some(name)) => format!(" in network namespace {name}"),
        (Some(netns), None) if home.is_some() => format!(" in network namespace {netns}"),
        _ => String::new(),
    }
}

/// Packets that this machine dropped.
pub(super) fn dropped(drop: &Dropped, home: Option<u32>) -> String {
    let what = packets(drop.kind, drop.packets);
    let place = elsewhere(drop.netns, drop.netns_name.as_deref(), home);
    let at = drop
        .ifname
        .as_deref()
        .map_or_else(String::new, by_interface);
    let by = if drop.rule.is_some() { "by " } else { "" };
    let why = why(drop);
    format!("{what} dropped on this machine{place}{at}: {by}{why}")
}

/// The same in short, for what it explains.
pub(super) fn dropped_by(drop: &Dropped) -> String {
    let what = packets(drop.kind, drop.packets);
    let did = if drop.is_rejected() {
        "rejected"
    } else {
        "dropped"
    };
    format!("this machine {did} {what}: {}", why(drop))
}

/// The rule, or the reason.
fn why(drop: &Dropped) -> String {
    match (&drop.rule, &drop.name) {
        (Some(rule), _) => self::rule(rule),
        (None, Some(name)) => format!("{} ({name})", drop.summary),
        (None, None) => drop.summary.clone(),
    }
}

fn by_interface(name: &str) -> String {
    format!(" at {name}")
}

/// `2 SYNs`.
fn packets(kind: Kind, count: u64) -> String {
    let (one, many) = match kind {
        Kind::Syn => ("SYN", "SYNs"),
        Kind::SynAck => ("SYN-ACK", "SYN-ACKs"),
        Kind::Rst => ("RST", "RSTs"),
        Kind::Icmp(..) => ("ICMP error about it", "ICMP errors about it"),
        Kind::Other | Kind::Unknown => ("packet", "packets"),
    };
    several(count, one, many)
}

/// `1 packet`, `2 packets`.
pub(super) fn several(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The rule, with its text.
pub(super) fn rule(rule: &Rule) -> String {
    let engine = match rule.engine {
        Engine::Nft => "nft",
        Engine::Iptables => "iptables",
        Engine::Ebtables => "ebtables",
        Engine::Conntrack => "connection tracking",
        Engine::Nat => "address translation",
        Engine::Nfqueue => "nfqueue",
        Engine::Bpf => "bpf program",
        Engine::Module => "hook function",
    };
    let mut words = vec![engine.to_owned()];
    if rule.policy {
        words.push("policy".to_owned());
    } else if rule.handle.is_some() || rule.number.is_some() {
        words.push("rule".to_owned());
    }
    words.extend(rule.family.clone());
    words.extend(rule.table.clone());
    words.extend(rule.chain.clone());
    words.extend(rule.handle.map(|handle| format!("handle {handle}")));
    words.extend(rule.number.map(|number| format!("number {number}")));
    words.extend(rule.prog_id.map(|id| id.to_string()));
    words.extend(rule.name.clone());
    if rule.prog_id.is_none() {
        words.extend(rule.function.clone());
    }
    let place = words.join(" ");
    let probably = if rule.exact { "" } else { "probably " };
    match rule.iptables.as_ref().or(rule.text.as_ref()) {
        Some(text) => format!("{probably}{place}: {text}"),
        None => format!("{probably}{place}"),
    }
}

/// A reset that this machine sent.
pub(super) fn reset_sent(reset: &ResetSent, home: Option<u32>) -> String {
    let place = elsewhere(reset.netns, reset.netns_name.as_deref(), home);
    let who = reset.process.as_ref().map_or_else(String::new, |process| {
        format!(" for {}", self::process(process))
    });
    let why = match (&reset.name, reset.summary.as_str()) {
        (_, "") => String::new(),
        (Some(name), summary) => format!(": {summary} ({name})"),
        (None, summary) => format!(": {summary}"),
    };
    format!("this machine{place} sent a RST{who}{why}")
}

pub(super) fn process(process: &Process) -> String {
    format!("{}[{}]", process.comm, process.pid)
}

/// A segment that was sent again, and when it had been `before`.
pub(super) fn sent_again(repeated: &Repeated, before: Option<Timestamp>) -> String {
    let what = match repeated.kind {
        Kind::Syn => "SYN".to_owned(),
        Kind::SynAck => "SYN-ACK".to_owned(),
        _ => format!("{} bytes", repeated.bytes),
    };
    let why = match repeated.cause {
        Cause::Probe => ", to probe for the loss of the last",
        Cause::Timeout => ", no acknowledgement came in time",
        Cause::TooLarge => ", smaller, as the path takes no larger",
        Cause::Fast => ", what came behind it was acknowledged",
        Cause::Unknown => "",
    };
    let times = match repeated.times {
        1 => String::new(),
        times => format!(" {times} times"),
    };
    let after = before.map_or_else(String::new, |before| {
        format!(
            " ({} after the last time)",
            span(between(before, repeated.at))
        )
    });
    format!("{what} sent again{times}{why}{after}")
}

/// An ICMP error.
pub(super) fn complaint(complaint: &Complaint) -> String {
    let (kind, code) = (complaint.kind, complaint.code);
    let is_ipv4 = complaint.from.is_ipv4();
    let what = match (is_ipv4, kind, code) {
        (true, 3, 0) | (false, 1, 0) => "network unreachable",
        (true, 3, 1) | (false, 1, 3) => "host unreachable",
        (true, 3, 2) => "protocol unreachable",
        (true, 3, 3) | (false, 1, 4) => "port unreachable",
        (true, 3, 4) => "fragmentation needed",
        (true, 3, 9 | 10 | 13) | (false, 1, 1 | 5 | 6) => "administratively prohibited",
        (true, 3, _) | (false, 1, _) => "destination unreachable",
        (true, 11, _) | (false, 3, _) => "time to live exceeded",
        (false, 2, _) => "packet too big",
        _ => "error",
    };
    let version = if is_ipv4 { "ICMP" } else { "ICMPv6" };
    let mtu = complaint
        .mtu
        .map_or_else(String::new, |mtu| format!(", at most {mtu} bytes"));
    format!(
        "{version} {what} ({kind}/{code}{mtu}) of {}",
        complaint.from
    )
}

/// A time, as exact as it is of use.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.000_995 {
        format!("{:.2} ms", seconds * 1000.0)
    } else if seconds < 0.00995 {
        format!("{:.1} ms", seconds * 1000.0)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{seconds:.0} s")
    }
}
