//! Packets that connection tracking or address translation itself dropped.
//!
//! Their hook functions return "drop", and `nf_hook_slow` frees the packet. Which
//! function it was, proves who dropped it; why, is inferred from the packet's
//! entry and from what connection tracking says afterwards.

use droptrace_types::{CT_NONE, ConntrackAt, Detail};

use super::conntrack::{self, CONFIRMED};
use crate::{
    conntrack::{Answer, Conntrack, Ends, Entry, Tuple},
    event::{Engine, Rule, Via},
};

/// The function that frees what a hook function dropped.
pub const FUNCTION: &str = "nf_hook_slow";

/// What a hook function of connection tracking does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Finds or makes the packet's entry.
    Tracking,
    /// Lets helpers read along and puts new entries into the table.
    Confirming,
    /// Translates addresses.
    Translating,
}

/// What the hook function does; `None` for one of somebody else.
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_proto.c#L240>
fn part(function: &str) -> Option<Part> {
    match function {
        "ipv4_conntrack_in" | "ipv4_conntrack_local" | "ipv6_conntrack_in"
        | "ipv6_conntrack_local" | "nf_ct_bridge_pre" => Some(Part::Tracking),
        "nf_confirm" | "ipv4_confirm" | "ipv6_confirm" | "nf_ct_bridge_post" => {
            Some(Part::Confirming)
        }
        translating if translating.starts_with("nf_nat_") => Some(Part::Translating),
        _ => None,
    }
}

/// The decision, and what to do next; `None` where it was somebody else's.
/// `hook` is the hook function that dropped the packet. Where that is not known,
/// only what connection tracking still shows afterwards is believed.
pub fn rule(
    detail: &Detail,
    hook: Option<&str>,
    conntrack: &mut Conntrack,
) -> Option<(Rule, &'static str)> {
    let part = match hook {
        Some(function) => Some(part(function)?),
        None => None,
    };
    let tuples = tuples(part, detail)?;
    let answer = conntrack.ask(detail.key.cause.netns, &tuples);
    decision(part, &detail.conntrack, answer.as_ref())
}

/// What connection tracking is to be asked; `None` where it did not drop the
/// packet.
fn tuples(part: Option<Part>, detail: &Detail) -> Option<Vec<Tuple>> {
    let entry = &detail.conntrack;
    match part {
        Some(Part::Tracking | Part::Translating) => Some(Vec::new()),
        Some(Part::Confirming) => Some(clashing(entry)),
        None if entry.info == CT_NONE => Some(vec![conntrack::tuple_of(detail)?]),
        None if is_unconfirmed(entry) => Some(clashing(entry)),
        None => None,
    }
}

fn decision(
    part: Option<Part>,
    entry: &ConntrackAt,
    answer: Option<&Answer>,
) -> Option<(Rule, &'static str)> {
    let (engine, text, advice) = match part {
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
            let has_dropped = answer?.table.counted.is_none_or(|counted| counted.dropped > 0);
            full(answer).filter(|_| !is_known && has_dropped)?
        }
        None => clash(entry, answer)?,
    };
    let rule = Rule {
        engine,
        family: None,
        table: None,
        chain: None,
        table_handle: None,
        chain_handle: None,
        handle: None,
        position: None,
        text: Some(text),
        comment: None,
        verdict: Some("drop".to_owned()),
        as_of: None,
        policy: false,
        via: if part.is_some() {
            Via::Frame
        } else {
            Via::Lookup
        },
        exact: part.is_some(),
    };
    Some((rule, advice))
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
    let original = Tuple::from_kernel(&entry.original)?;
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
    Some((Engine::Nat, taken(entry, winner)?, advice))
}

/// Who has the addresses that answers to the packet would have.
fn taken(entry: &ConntrackAt, winner: &Entry) -> Option<String> {
    let reply = Tuple::from_kernel(&entry.reply)?;
    let (src, dst) = ends(&reply);
    let (winner, _) = ends(&winner.original);
    Some(format!(
        "nf_nat: clash: the translated connection {dst} -> {src} is that of {winner} already"
    ))
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
    entry.is_known != 0 && entry.status & CONFIRMED == 0
}

/// Both of the entry's tuples.
fn clashing(entry: &ConntrackAt) -> Vec<Tuple> {
    [&entry.original, &entry.reply]
        .into_iter()
        .filter_map(Tuple::from_kernel)
        .collect()
}
