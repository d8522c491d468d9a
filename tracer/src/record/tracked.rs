//! Packets that connection tracking or address translation itself dropped.
//!
//! Their hook functions return "drop", and `nf_hook_slow` frees the packet. Which
//! function it was, proves who dropped it; why, follows from the packet's entry and
//! from what connection tracking says afterwards.

use droptrace_types::{CT_NONE, ConntrackAt, Detail};

use super::{
    conntrack::{self, CONFIRMED},
    hooks::Stage,
    rule,
};
use crate::{
    conntrack::{Answer, Conntrack, Ends, Entry, Tuple},
    event::{Engine, Rule, Via},
};

/// The function that frees what a hook function dropped.
pub const FUNCTION: &str = "nf_hook_slow";

/// What a hook function of connection tracking does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Finds or makes the packet's entry.
    Tracking,
    /// Lets helpers read along and puts new entries into the table.
    Confirming,
    /// Translates addresses.
    Translating,
}

/// What the hook function does; `None` for one of somebody else.
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_proto.c#L240>
pub fn part(function: &str) -> Option<Part> {
    match function {
        "ipv4_conntrack_in"
        | "ipv4_conntrack_local"
        | "ipv6_conntrack_in"
        | "ipv6_conntrack_local"
        | "nf_ct_bridge_pre" => Some(Part::Tracking),
        "nf_confirm" | "ipv4_confirm" | "ipv6_confirm" | "nf_ct_bridge_post" => {
            Some(Part::Confirming)
        }
        translating if translating.starts_with("nf_nat_") => Some(Part::Translating),
        _ => None,
    }
}

/// What happened, and what to do next; `None` where it was somebody else. `hooked`
/// tells the hook function that dropped the packet, at a hook of that `stage`.
/// Where it is not known, only what connection tracking still shows afterwards is
/// believed.
pub fn told(
    hooked: Option<&Rule>,
    detail: &Detail,
    stage: Option<Stage>,
    conntrack: &mut Conntrack,
) -> Option<(Rule, &'static str)> {
    let part = match hooked {
        Some(rule) => Some(part(rule.function.as_deref()?)?),
        None => None,
    };
    let tuples = tuples(part, stage, detail)?;
    let answer = conntrack.ask(detail.key.cause.netns, &tuples);
    let (engine, text, advice) = decision(part, &detail.conntrack, answer.as_ref())?;
    let rule = hooked.cloned().unwrap_or_else(inferred);
    let text = Some(text);
    Some((
        Rule {
            engine,
            text,
            ..rule
        },
        advice,
    ))
}

/// What connection tracking is to be asked; `None` where it did not drop the
/// packet.
fn tuples(part: Option<Part>, stage: Option<Stage>, detail: &Detail) -> Option<Vec<Tuple>> {
    let entry = &detail.conntrack;
    let is_later = stage == Some(Stage::Later);
    let is_first = matches!(stage, Some(Stage::Received | Stage::Made));
    match part {
        Some(Part::Tracking | Part::Translating) => Some(Vec::new()),
        Some(Part::Confirming) => Some(clashing(entry)),
        None if entry.info == CT_NONE && is_first => Some(vec![conntrack::tuple_of(detail)?]),
        None if is_unconfirmed(entry) && is_later => Some(clashing(entry)),
        None => None,
    }
}

fn decision(part: Option<Part>, entry: &ConntrackAt, answer: Option<&Answer>) -> Option<Decision> {
    let decision = match part {
        Some(Part::Tracking) => full(answer).unwrap_or((
            Engine::Conntrack,
            "nf_conntrack: no entry could be made for the packet".to_owned(),
            SEE_COUNTERS,
        )),
        Some(Part::Confirming) => clash(entry, answer).unwrap_or_else(|| unconfirmed(entry)),
        Some(Part::Translating) => (
            Engine::Nat,
            "nf_nat: the packet's addresses could not be translated".to_owned(),
            SEE_COUNTERS,
        ),
        None if entry.info == CT_NONE => {
            let is_known = answer?.entries.iter().any(Option::is_some);
            let has_dropped = answer?
                .table
                .counted
                .is_none_or(|counted| counted.dropped > 0);
            full(answer).filter(|_| !is_known && has_dropped)?
        }
        None => clash(entry, answer)?,
    };
    Some(decision)
}

/// A rule of which nothing was seen.
fn inferred() -> Rule {
    Rule {
        via: Via::Lookup,
        exact: false,
        ..rule::by(Engine::Conntrack)
    }
}

type Decision = (Engine, String, &'static str);

const SEE_COUNTERS: &str = "see the counters, drop and insert_failed among them: conntrack -S";

/// `nf_conntrack_alloc`: there is no room for another entry.
fn full(answer: Option<&Answer>) -> Option<Decision> {
    let table = answer?.table;
    table.is_full().then(|| {
        let text = format!(
            "nf_conntrack: table full: {} of {} entries in this namespace",
            table.count, table.max
        );
        let advice = "raise the limit, which is that of all namespaces alike: sysctl -w \
                      net.netfilter.nf_conntrack_max=NUMBER; or see what fills the table: \
                      conntrack -S, conntrack -L";
        (Engine::Conntrack, text, advice)
    })
}

/// `__nf_conntrack_confirm`: one of the new entry's tuples is in the table already.
fn clash(entry: &ConntrackAt, answer: Option<&Answer>) -> Option<Decision> {
    if !is_unconfirmed(entry) {
        return None;
    }
    let (original, reply) = conntrack::tuples(entry)?;
    let winner = answer?.entries.iter().flatten().next()?;
    if winner.original == original {
        let text = "nf_conntrack: insertion race: another packet of the same flow was entered \
                    into the table first";
        let advice = "harmless where it is rare, since the sender tries again; conntrack -S \
                      counts it as insert_failed";
        return Some((Engine::Conntrack, text.to_owned(), advice));
    }
    let advice = "give the translation more addresses or ports to choose from; conntrack -S counts \
                  it as insert_failed";
    Some((Engine::Nat, taken(&reply, winner), advice))
}

/// Who has the addresses that answers to the packet would have.
fn taken(reply: &Tuple, winner: &Entry) -> String {
    let (src, dst) = ends(reply);
    let (winner, _) = ends(&winner.original);
    format!("nf_nat: clash: the translated connection {dst} -> {src} is that of {winner} already")
}

/// Sender and receiver, with their ports.
fn ends(tuple: &Tuple) -> (String, String) {
    match tuple.ends {
        Ends::Ports(src, dst) => (
            std::net::SocketAddr::new(tuple.src, src).to_string(),
            std::net::SocketAddr::new(tuple.dst, dst).to_string(),
        ),
        _ => (tuple.src.to_string(), tuple.dst.to_string()),
    }
}

/// `nf_confirm`, where no clash shows.
fn unconfirmed(entry: &ConntrackAt) -> Decision {
    let helper = super::packet::text(&entry.helper);
    let text = match helper {
        Some(helper) => format!("nf_conntrack: the helper {helper} refused the packet, or its entry could not be put into the table"),
        None if is_unconfirmed(entry) => "nf_conntrack: the new entry could not be put into the table (insertion race or NAT clash)".to_owned(),
        None => "nf_conntrack: a helper refused the packet, or its sequence numbers could not be adjusted".to_owned(),
    };
    (Engine::Conntrack, text, SEE_COUNTERS)
}

fn is_unconfirmed(entry: &ConntrackAt) -> bool {
    conntrack::is_read(entry) && entry.status & CONFIRMED == 0
}

/// Both of the entry's tuples.
fn clashing(entry: &ConntrackAt) -> Vec<Tuple> {
    let tuples = conntrack::tuples(entry);
    tuples.map_or_else(Vec::new, |(original, reply)| vec![original, reply])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::{Counted, Table};

    fn tuple(sport: u16) -> Tuple {
        Tuple {
            proto: 6,
            src: [10, 0, 1, 2].into(),
            dst: [10, 0, 0, 5].into(),
            ends: Ends::Ports(sport, 80),
        }
    }

    fn words(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> [u64; 5] {
        let mut bytes = [0; 40];
        bytes[..4].copy_from_slice(&src);
        bytes[16..18].copy_from_slice(&sport.to_be_bytes());
        bytes[18..20].copy_from_slice(&2_u16.to_ne_bytes());
        bytes[20..24].copy_from_slice(&dst);
        bytes[36..38].copy_from_slice(&dport.to_be_bytes());
        bytes[38] = 6;
        let word = |i: usize| u64::from_ne_bytes(bytes[i * 8..i * 8 + 8].try_into().unwrap());
        [word(0), word(1), word(2), word(3), word(4)]
    }

    fn new_entry() -> ConntrackAt {
        ConntrackAt {
            words: [
                words([10, 0, 1, 2], 40001, [10, 0, 0, 5], 80),
                words([10, 0, 0, 5], 80, [10, 0, 0, 1], 2000),
            ],
            info: 2,
            is_known: 1,
            ..ConntrackAt::default()
        }
    }

    fn none() -> ConntrackAt {
        ConntrackAt {
            info: CT_NONE,
            ..ConntrackAt::default()
        }
    }

    fn answer(count: u64, entries: Vec<Option<Tuple>>) -> Answer {
        let entry = |original| Entry {
            original,
            tcp_state: None,
        };
        Answer {
            table: Table {
                count,
                max: 9,
                counted: Some(Counted {
                    invalid: 0,
                    dropped: 1,
                }),
                ..Table::default()
            },
            entries: entries.into_iter().map(|found| found.map(entry)).collect(),
        }
    }

    fn told(part: Option<Part>, entry: &ConntrackAt, answer: &Answer) -> Option<(Engine, String)> {
        decision(part, entry, Some(answer)).map(|(engine, text, _)| (engine, text))
    }

    #[test]
    fn a_full_table_is_told_with_its_numbers() {
        let text = "nf_conntrack: table full: 9 of 9 entries in this namespace";
        let full = Some((Engine::Conntrack, text.to_owned()));
        assert_eq!(
            told(Some(Part::Tracking), &none(), &answer(9, vec![])),
            full
        );
        assert_eq!(told(None, &none(), &answer(9, vec![None])), full);
        let other = told(Some(Part::Tracking), &none(), &answer(8, vec![]));
        assert!(other.unwrap().1.contains("no entry"));
    }

    #[test]
    fn without_the_hook_function_other_causes_are_ruled_out() {
        assert_eq!(told(None, &none(), &answer(8, vec![None])), None);
        assert_eq!(told(None, &none(), &answer(9, vec![Some(tuple(1))])), None);
        let mut idle = answer(9, vec![None]);
        idle.table.counted = Some(Counted::default());
        assert_eq!(told(None, &none(), &idle), None);
        assert_eq!(told(None, &new_entry(), &answer(1, vec![None, None])), None);
        let confirmed = ConntrackAt {
            status: CONFIRMED,
            ..new_entry()
        };
        assert_eq!(
            told(None, &confirmed, &answer(1, vec![Some(tuple(40001))])),
            None
        );
    }

    #[test]
    fn who_came_first_tells_a_race_from_a_clash() {
        let race = answer(1, vec![Some(tuple(40001)), None]);
        let (engine, text) = told(None, &new_entry(), &race).unwrap();
        assert_eq!(engine, Engine::Conntrack);
        assert!(text.contains("insertion race"));
        let clash = answer(1, vec![None, Some(tuple(40000))]);
        let text = "nf_nat: clash: the translated connection 10.0.0.1:2000 -> 10.0.0.5:80 is \
                    that of 10.0.1.2:40000 already";
        for part in [None, Some(Part::Confirming)] {
            let told = told(part, &new_entry(), &clash);
            assert_eq!(told, Some((Engine::Nat, text.to_owned())));
        }
    }

    #[test]
    fn a_helper_is_named() {
        let mut entry = new_entry();
        entry.status = CONFIRMED;
        entry.helper[..3].copy_from_slice(b"sip");
        let (_, text) = told(Some(Part::Confirming), &entry, &answer(1, vec![])).unwrap();
        assert!(text.contains("helper sip"));
    }

    #[test]
    fn hook_functions_of_others_are_not_its_own() {
        assert_eq!(part("ipv6_conntrack_local"), Some(Part::Tracking));
        assert_eq!(part("ipv4_confirm"), Some(Part::Confirming));
        assert_eq!(part("nf_nat_ipv4_out"), Some(Part::Translating));
        for other in ["ipt_do_table", "nft_do_chain_ipv4", "ipv4_conntrack_defrag"] {
            assert_eq!(part(other), None, "{other}");
        }
    }
}
