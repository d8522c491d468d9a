//! Why connection tracking called a packet invalid.
//!
//! Its own checks, in its order, on what is known of the packet, and on the
//! connection as the kernel told it afterwards. What the packet shows by itself
//! holds; what depends on the connection is inferred.
//! <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_proto_tcp.c>

use droptrace_types::{CT_NONE, Decode, Detail};

use super::{
    conntrack::{tuple_about, tuple_of},
    flow,
    hooks::Passed,
    packet,
};
use crate::{
    conntrack::{Answer, Conntrack, Entry, Table, Tuple, tcp_state_name},
    event::{self, Engine, Invalid, InvalidCause, Rule},
    reason::{Sign, Signs},
};

const ICMP: u8 = 1;
const TCP: u8 = 6;
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

/// What netfilter dropped without an entry, as far as connection tracking called
/// it invalid.
pub fn of(
    detail: &Detail,
    signs: Signs,
    rule: Option<&Rule>,
    passed: Passed,
    conntrack: &mut Conntrack,
) -> Option<event::Conntrack> {
    let has_headers = detail.key.cause.decode == Decode::Headers as u8;
    if detail.conntrack.info != CT_NONE || !has_headers {
        return None;
    }
    if rule.is_some_and(|rule| matches!(rule.engine, Engine::Conntrack | Engine::Nat)) {
        return None;
    }
    let text = rule.and_then(|rule| rule.text.as_deref());
    if passed != Passed::Yes && !text.is_some_and(asks_for_invalid) {
        return None;
    }
    let answer = conntrack.ask(detail.key.cause.netns, &tuples(detail));
    let why = why(detail, signs, passed, answer.as_ref());
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
fn why(detail: &Detail, signs: Signs, passed: Passed, answer: Option<&Answer>) -> Option<Invalid> {
    use InvalidCause::{BadChecksum, NotTracked};
    let counted = answer.and_then(|answer| answer.table.counted);
    let is_untouched = match passed {
        Passed::Yes => false,
        Passed::Perhaps => counted.is_some_and(|counted| counted.invalid == 0),
        Passed::No => true,
    };
    if is_untouched {
        let text = "connection tracking had not looked at it: the rule's chain comes before it";
        return Some(told(NotTracked, text.to_owned(), true));
    }
    if detail.bad_checksum != 0 {
        let text = "its checksum is wrong";
        return Some(told(BadChecksum, text.to_owned(), passed == Passed::Yes));
    }
    if let Some((why, text)) = by_itself(detail, signs) {
        return Some(told(why, text, passed == Passed::Yes));
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
    about.or_else(|| tuple_of(detail)).into_iter().collect()
}

/// What the packet shows without its connection.
fn by_itself(detail: &Detail, signs: Signs) -> Option<(InvalidCause, String)> {
    use InvalidCause::{BadFlags, Truncated};
    if signs.is(Sign::BadLength) {
        let text = "its transport header is cut short, or tells another length than the packet has";
        return Some((Truncated, text.to_owned()));
    }
    let flags = detail.tcp_flags & (FIN | SYN | RST | PSH | ACK | URG);
    if detail.key.flow.proto != TCP || VALID_FLAGS.contains(&(flags & !PSH)) {
        return None;
    }
    let text = match packet::flags(flags) {
        letters if letters.is_empty() => "it has no TCP flags at all".to_owned(),
        letters => format!("its TCP flags ({letters}) contradict each other"),
    };
    Some((BadFlags, text))
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
            let text =
                "an ICMP message of this type starts nothing, and answers nothing that is known";
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use droptrace_types::{TUPLE_ICMP, TUPLE_PORTS};

    use super::*;
    use crate::conntrack::{Counted, Ends};

    fn detail(proto: u8, flags: u8) -> Detail {
        // SAFETY: plain data, of which zeros are a valid value.
        let mut detail: Detail = unsafe { std::mem::zeroed() };
        let flow = &mut detail.key.flow;
        flow.set_v4(
            u32::from_ne_bytes([10, 0, 0, 2]),
            u32::from_ne_bytes([10, 0, 0, 5]),
        );
        (flow.proto, flow.src_port, flow.dst_port) = (proto, 40000, 80);
        flow.flags = TUPLE_PORTS;
        detail.tcp_flags = flags;
        detail.conntrack.info = CT_NONE;
        detail
    }

    fn entry(sport: u16, state: u8) -> Entry {
        Entry {
            original: Tuple {
                proto: TCP,
                src: Ipv4Addr::new(10, 0, 0, 2).into(),
                dst: Ipv4Addr::new(10, 0, 0, 5).into(),
                ends: Ends::Ports(sport, 80),
            },
            tcp_state: Some(state),
        }
    }

    fn answer(entry: Option<Entry>) -> Answer {
        Answer {
            table: Table {
                counted: Some(Counted {
                    invalid: 1,
                    dropped: 0,
                }),
                tcp_loose: Some(true),
                tcp_be_liberal: Some(false),
                ..Table::default()
            },
            entries: vec![entry],
        }
    }

    fn cause(detail: &Detail, passed: Passed, answer: &Answer) -> Option<(InvalidCause, bool)> {
        let why = why(detail, Signs::default(), passed, Some(answer))?;
        Some((why.why, why.exact))
    }

    fn segment(flags: u8, entry: Option<Entry>) -> Option<(InvalidCause, bool)> {
        cause(&detail(TCP, flags), Passed::Yes, &answer(entry))
    }

    #[test]
    fn what_the_packet_shows_is_exact_behind_connection_tracking() {
        use InvalidCause::{BadChecksum, BadFlags, Truncated};
        assert_eq!(segment(SYN | FIN, None), Some((BadFlags, true)));
        assert_eq!(segment(0, None), Some((BadFlags, true)));
        let told = cause(&detail(TCP, SYN | FIN), Passed::Perhaps, &answer(None));
        assert_eq!(told, Some((BadFlags, false)));
        let mut bad = detail(TCP, ACK);
        bad.bad_checksum = 1;
        assert_eq!(
            cause(&bad, Passed::Yes, &answer(None)),
            Some((BadChecksum, true))
        );
        let short = Signs::default().with(Sign::BadLength, true);
        let told = why(&detail(TCP, ACK), short, Passed::Yes, None).unwrap();
        assert_eq!((told.why, told.exact), (Truncated, true));
    }

    #[test]
    fn without_a_connection_only_a_syn_starts_one() {
        use InvalidCause::NoConnection;
        for flags in [SYN | ACK, FIN | ACK, RST, RST | ACK] {
            assert_eq!(segment(flags, None), Some((NoConnection, false)), "{flags}");
        }
        // These would have got an entry, so that what was wrong is not known.
        assert_eq!(segment(SYN, None), None);
        assert_eq!(segment(ACK, None), None);
        let mut strict = answer(None);
        strict.table.tcp_loose = Some(false);
        let told = cause(&detail(TCP, ACK), Passed::Yes, &strict);
        assert_eq!(told, Some((NoConnection, false)));
    }

    #[test]
    fn a_known_connection_has_a_state_and_a_window() {
        use InvalidCause::{BadState, OutOfWindow};
        let (syn_sent, established) = (1, 3);
        let original = |state| Some(entry(40000, state));
        let reply = |state| Some(entry(1, state));
        assert_eq!(segment(ACK, original(syn_sent)), Some((BadState, false)));
        assert_eq!(segment(SYN, reply(established)), Some((BadState, false)));
        assert_eq!(
            segment(ACK, original(established)),
            Some((OutOfWindow, false))
        );
        let mut liberal = answer(original(established));
        liberal.table.tcp_be_liberal = Some(true);
        assert_eq!(cause(&detail(TCP, ACK), Passed::Yes, &liberal), None);
        let told = cause(&detail(TCP, RST), Passed::Yes, &liberal);
        assert_eq!(told, Some((OutOfWindow, false)));
        assert_eq!(segment(ACK, original(99)), None);
    }

    #[test]
    fn icmp_is_about_or_answers_something() {
        use InvalidCause::{BadIcmp, UnknownFlow};
        let mut message = detail(ICMP, 0);
        message.key.flow.flags = TUPLE_ICMP;
        let told = |message: &Detail, entry| cause(message, Passed::Yes, &answer(entry));
        assert_eq!(told(&message, None), Some((BadIcmp, false)));
        message.key.about = detail(TCP, 0).key.flow;
        assert_eq!(told(&message, None), Some((UnknownFlow, false)));
        assert_eq!(told(&message, Some(entry(40000, 3))), None);
    }

    #[test]
    fn what_nobody_tracked_was_not_called_invalid() {
        use InvalidCause::NotTracked;
        let told = cause(&detail(TCP, ACK), Passed::No, &answer(None));
        assert_eq!(told, Some((NotTracked, true)));
        let mut idle = answer(None);
        idle.table.counted = Some(Counted::default());
        let told = cause(&detail(TCP, ACK), Passed::Perhaps, &idle);
        assert_eq!(told, Some((NotTracked, true)));
        assert_eq!(
            cause(&detail(TCP, ACK), Passed::Perhaps, &answer(None)),
            None
        );
    }

    #[test]
    fn rules_for_invalid_packets_are_known_by_their_text() {
        for text in [
            "ct state invalid drop",
            "ct state { invalid, new } drop",
            "-A INPUT -m conntrack --ctstate INVALID -j DROP",
        ] {
            assert!(asks_for_invalid(text), "{text}");
        }
        for text in ["ct state new drop", "tcp dport 80 drop comment \"invalid\""] {
            assert!(!asks_for_invalid(text), "{text}");
        }
    }

    #[test]
    fn advice_is_added_to_what_there_is() {
        let invalid = super::super::conntrack::invalid(Some(told(
            InvalidCause::BadFlags,
            String::new(),
            true,
        )));
        let both = with_advice(Some("look".to_owned()), Some(&invalid)).unwrap();
        assert!(both.starts_with("look; the packet itself"));
        assert_eq!(
            with_advice(Some("look".into()), None).as_deref(),
            Some("look")
        );
        assert_eq!(with_advice(None, None), None);
    }
}
