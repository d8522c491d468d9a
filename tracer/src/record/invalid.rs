//! Why connection tracking called a packet invalid.
//!
//! Its own checks, in its order, on what is known of the packet, and on the
//! connection as the kernel told it afterwards. What the packet shows by itself
//! holds; what depends on the connection is inferred.
//! <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_proto_tcp.c>

use droptrace_types::{CT_NONE, Decode, Detail};

use super::{
    conntrack::{transport, tuple_about, tuple_of},
    flow, packet, tracked,
};
use crate::{
    conntrack::{Answer, Conntrack, Entry, Table, Tuple, tcp_state_name},
    event::{self, Engine, Invalid, InvalidCause, Rule},
};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const FIN: u8 = 1;
const SYN: u8 = 1 << 1;
const RST: u8 = 1 << 2;
const PSH: u8 = 1 << 3;
const ACK: u8 = 1 << 4;
const URG: u8 = 1 << 5;

/// `tcp_valid_flags`: what may stand together, beside PSH, ECE and CWR.
const VALID_FLAGS: [u8; 9] = [
    SYN,
    SYN | URG,
    SYN | ACK,
    RST,
    RST | ACK,
    FIN | ACK,
    FIN | ACK | URG,
    ACK,
    ACK | URG,
];

/// `TCP_CONNTRACK_NONE`
const NO_STATE: u8 = 0;

/// What connection tracking looks at in a segment's flags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Segment {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
}

/// How sure it is that connection tracking looked at the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// The hook at which it was dropped comes after connection tracking.
    Yes,
    /// It may have been dropped before.
    Perhaps,
}

/// Hooks behind those of connection tracking, by the function that calls them:
/// input, forward and postrouting.
const BEHIND: [&str; 8] = [
    "ip_local_deliver",
    "ip_forward",
    "ip_output",
    "ip_mc_output",
    "ip6_input",
    "ip6_mc_input",
    "ip6_forward",
    "ip6_output",
];

/// Whether connection tracking looked at what `function` freed, called by `callers`.
pub fn passed(function: Option<&str>, callers: &[String]) -> Passed {
    let hooked = if function == Some(tracked::FUNCTION) {
        callers.first()
    } else {
        let hook = callers.iter().position(|name| name == tracked::FUNCTION);
        hook.and_then(|hook| callers.get(hook + 1))
    };
    if hooked.is_some_and(|hooked| BEHIND.contains(&hooked.as_str())) {
        Passed::Yes
    } else {
        Passed::Perhaps
    }
}

/// What netfilter dropped without an entry, as far as connection tracking called
/// it invalid.
pub fn of(
    detail: &Detail,
    rule: Option<&Rule>,
    passed: Passed,
    conntrack: &mut Conntrack,
) -> Option<event::Conntrack> {
    let has_headers = detail.key.cause.decode == Decode::Headers as u8;
    if detail.conntrack.info != CT_NONE || !has_headers {
        return None;
    }
    if rule.is_some_and(|rule| rule.engine != Engine::Nft) {
        return None;
    }
    let is_asked_for = rule.and_then(|rule| rule.text.as_deref()).is_some_and(asks_for_invalid);
    if !is_asked_for && passed == Passed::Perhaps {
        return None;
    }
    let answer = conntrack.ask(detail.key.cause.netns, &tuples(detail));
    let counted = answer.as_ref().and_then(|answer| answer.table.counted);
    if !is_asked_for && counted.is_none_or(|counted| counted.invalid == 0) {
        return None;
    }
    let why = why(detail, passed, answer.as_ref());
    Some(super::conntrack::invalid(why))
}

/// Whether a rule, as nft or iptables prints it, matches what is invalid.
fn asks_for_invalid(rule: &str) -> bool {
    (rule.contains("ct state") && rule.contains("invalid"))
        || (rule.contains("state") && rule.contains("INVALID"))
}

/// Adds what to do about an invalid packet.
pub fn with_advice(advice: Option<String>, conntrack: Option<&event::Conntrack>) -> Option<String> {
    let invalid = conntrack.and_then(|conntrack| conntrack.invalid.as_ref());
    let more = invalid.map(|invalid| self::advice(invalid.why));
    match (advice, more) {
        (Some(advice), Some(more)) => Some(format!("{advice}; {more}")),
        (advice, more) => advice.or(more.map(ToOwned::to_owned)),
    }
}

/// Why; `None` where nothing tells. `answer` is that of [`tuples`].
fn why(detail: &Detail, passed: Passed, answer: Option<&Answer>) -> Option<Invalid> {
    use InvalidCause::{BadChecksum, NotTracked};
    let counted = answer.and_then(|answer| answer.table.counted);
    if counted.is_some_and(|counted| counted.invalid == 0) {
        let text = "connection tracking has called no packet of this namespace invalid: the \
                    rule's chain comes before it, or it did not look at this packet";
        return Some(told(NotTracked, text.to_owned(), true));
    }
    if detail.bad_checksum != 0 {
        return Some(told(BadChecksum, "its checksum is wrong".to_owned(), true));
    }
    if let Some((why, text)) = by_itself(detail) {
        let exact = passed == Passed::Yes && counted.is_some();
        return Some(told(why, text, exact));
    }
    if passed == Passed::Perhaps {
        return None;
    }
    let (why, text) = by_connection(detail, answer?)?;
    Some(told(why, text, false))
}

fn told(why: InvalidCause, text: String, exact: bool) -> Invalid {
    Invalid { why, text, exact }
}

/// What connection tracking is to be asked for the sake of [`why`].
fn tuples(detail: &Detail) -> Vec<Tuple> {
    let about = tuple_about(detail);
    about
        .or_else(|| tuple_of(detail))
        .into_iter()
        .collect()
}

/// What the packet shows without its connection.
fn by_itself(detail: &Detail) -> Option<(InvalidCause, String)> {
    use InvalidCause::{BadFlags, Truncated};
    let header = transport(detail)?;
    let start = detail.header_len as usize - header.len();
    let len = (detail.len as usize).checked_sub(start)?;
    let proto = detail.key.flow.proto;
    if is_truncated(proto, header, len) {
        let text = "its transport header is cut short, or tells another length than the packet has";
        return Some((Truncated, text.to_owned()));
    }
    let flags = detail.tcp_flags;
    if proto == TCP && !VALID_FLAGS.contains(&(flags & (FIN | SYN | RST | ACK | URG))) {
        let letters = packet::flags(flags & (FIN | SYN | RST | PSH | ACK | URG));
        let text = if letters.is_empty() {
            "it has no TCP flags at all".to_owned()
        } else {
            format!("its TCP flags ({letters}) contradict each other")
        };
        return Some((BadFlags, text));
    }
    None
}

/// `len` bytes of the packet are left from the transport header on, of which
/// `header` was read.
fn is_truncated(proto: u8, header: &[u8], len: usize) -> bool {
    let word = |at: usize| {
        let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map(|bytes| usize::from(u16::from_be_bytes(*bytes)))
    };
    match proto {
        TCP => {
            let told = header.get(12).map(|byte| usize::from(byte >> 4) * 4);
            len < 20 || told.is_some_and(|told| told < 20 || told > len)
        }
        UDP => len < 8 || word(4).is_some_and(|told| told < 8 || told > len),
        ICMP | ICMPV6 => len < 8,
        _ => false,
    }
}

/// What follows from the connection, or from there being none.
fn by_connection(detail: &Detail, answer: &Answer) -> Option<(InvalidCause, String)> {
    use InvalidCause::{BadIcmp, UnknownFlow};
    let proto = detail.key.flow.proto;
    let entry = answer.entries.first()?.as_ref();
    match proto {
        TCP => by_segment(detail, &answer.table, entry),
        ICMP | ICMPV6 if entry.is_none() => {
            if let Some((src, dst)) = flow::addresses(&detail.key.about) {
                let proto = flow::protocol(detail.key.about.proto);
                let text = format!(
                    "an ICMP error about a connection that is not known ({proto} from {src} to {dst})"
                );
                return Some((UnknownFlow, text));
            }
            let text = "an ICMP message of this type starts nothing, and answers nothing that is known";
            Some((BadIcmp, text.to_owned()))
        }
        _ => None,
    }
}

fn by_segment(
    detail: &Detail,
    table: &Table,
    entry: Option<&Entry>,
) -> Option<(InvalidCause, String)> {
    use InvalidCause::{BadState, NoConnection, OutOfWindow};
    let segment = Segment::of(detail.tcp_flags)?;
    let Some(entry) = entry else {
        let text = if !segment.is_invalid(true, NO_STATE) {
            // It would have started a connection, or have been taken for the
            // middle of one.
            if segment != Segment::Ack || table.tcp_loose != Some(false) {
                return None;
            }
            "it does not start a connection (no SYN), none is known for it, and \
             nf_conntrack_tcp_loose is 0, so that none is picked up in the middle"
        } else if segment == Segment::SynAck {
            "it answers a SYN that connection tracking has not seen"
        } else {
            "it does not start a connection (no SYN), and none is known for it"
        };
        return Some((NoConnection, text.to_owned()));
    };
    let state = entry.tcp_state?;
    let name = tcp_state_name(state)?;
    let is_original = tuple_of(detail) == Some(entry.original);
    let way = if is_original { "original" } else { "reply" };
    if segment.is_invalid(is_original, state) {
        let text = format!(
            "a segment with these flags cannot come in the {way} direction of a connection in \
             state {name}"
        );
        return Some((BadState, text));
    }
    if table.tcp_be_liberal != Some(false) && segment != Segment::Rst {
        return None;
    }
    let text = format!(
        "its sequence or acknowledgement number is outside the window of the connection, which \
         is in state {name}"
    );
    Some((OutOfWindow, text))
}

impl Segment {
    /// `get_conntrack_index`; `None` for flags that are none of these.
    fn of(flags: u8) -> Option<Self> {
        let has = |flag| flags & flag != 0;
        Some(match () {
            () if has(RST) => Self::Rst,
            () if has(SYN) && has(ACK) => Self::SynAck,
            () if has(SYN) => Self::Syn,
            () if has(FIN) => Self::Fin,
            () if has(ACK) => Self::Ack,
            () => return None,
        })
    }

    /// Where `tcp_conntracks` says `sIV`, for a state (`enum tcp_conntrack`).
    /// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_proto_tcp.c#L108>
    fn is_invalid(self, is_original: bool, state: u8) -> bool {
        let states: &[u8] = match (is_original, self) {
            (true, Self::Syn) => &[],
            (true, Self::SynAck) => &[0, 1, 3, 4, 5, 6, 7, 8],
            (true | false, Self::Fin) => &[0, 1, 9],
            (true, Self::Ack) => &[1, 9],
            (false, Self::Syn) => &[0, 2, 3, 4, 5, 6, 8],
            (true | false, Self::Rst) | (false, Self::SynAck | Self::Ack) => &[0],
        };
        states.contains(&state)
    }
}

/// What to do next.
fn advice(why: InvalidCause) -> &'static str {
    use InvalidCause::{
        BadChecksum, BadFlags, BadIcmp, BadState, NoConnection, NotTracked, OutOfWindow, Truncated,
        UnknownFlow,
    };
    match why {
        Truncated | BadFlags => {
            "the packet itself is broken or forged: see with tcpdump who sends it"
        }
        BadChecksum => {
            "see whether the sender or a device on the way breaks it (checksum offload: \
             ethtool -k); net.netfilter.nf_conntrack_checksum=0 lets it pass"
        }
        NoConnection => {
            "see whether packets of the connection go another way (asymmetric routing), or its \
             entry timed out or was flushed: conntrack -E"
        }
        BadState | OutOfWindow => {
            "see whether packets of the connection go another way, or a device on the way changes \
             them; net.netfilter.nf_conntrack_tcp_be_liberal=1 ignores windows, \
             net.netfilter.nf_conntrack_log_invalid=6 logs what the kernel says"
        }
        UnknownFlow | BadIcmp => {
            "see whether the connection's own packets go another way, or its entry is gone already"
        }
        NotTracked => "let the rule's chain come after connection tracking (priority above -200)",
    }
}
