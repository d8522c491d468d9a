//! What the kernel's reasons mean to a person: class, plain words, next step.
//!
//! Everything is looked up by name. Numbers differ from kernel to kernel (the
//! caller reads them from the running kernel's BTF), names hardly do. A name
//! without an entry is no error: a newer kernel may have reasons of its own.

mod derived;
mod drop_reasons;
mod evidence;
mod functions;
mod openvswitch;
mod qdisc;
mod reset_calls;
mod reset_reasons;
mod wifi;

#[cfg(test)]
mod derived_tests;
#[cfg(test)]
mod tests;

pub use evidence::{Evidence, Sign, Signs};

use crate::event::Class;

/// What is known about a reason by its name.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    /// The reason's name without its prefix, or a function's name.
    pub name: &'static str,
    /// What kind of cause it is.
    pub class: Class,
    /// One sentence in plain words: lower-case, without a full stop.
    pub summary: &'static str,
    /// What to do next, where there is something to do. Words in capitals stand
    /// for values of the packet: `ADDR` and `PORT` for its destination, `SRC`
    /// for its source address, `IF` for its interface.
    pub advice: Option<&'static str>,
}

/// Writes a table of [`Text`]: name, class, summary and, after `=>`, advice.
///
/// One entry takes two or three lines this way, where rustfmt makes six of a
/// struct literal; the tables are read far more often than this macro.
macro_rules! texts {
    ($($name:literal $class:ident $summary:literal $(=> $advice:literal)?;)*) => {
        &[$($crate::reason::Text {
            name: $name,
            class: $crate::event::Class::$class,
            summary: $summary,
            advice: texts!(@advice $($advice)?),
        }),*]
    };
    (@advice) => { None };
    (@advice $advice:literal) => { Some($advice) };
}
use texts;

/// Why a packet was dropped, by the name in the kernel's `enum skb_drop_reason`
/// without `SKB_DROP_REASON_` or `SKB_`, such as `NETFILTER_DROP`. Names of
/// subsystems keep theirs: `OVS_DROP_METER`, `QDISC_DROP_OVERLIMIT`,
/// `RX_DROP_U_REPLAY` (also as the `___RX_DROP_U_REPLAY` of some BTF).
#[must_use]
pub fn drop_reason(name: &str) -> Option<&'static Text> {
    let name = name.trim_start_matches('_');
    [
        drop_reasons::TEXTS,
        openvswitch::TEXTS,
        qdisc::TEXTS,
        wifi::TEXTS,
    ]
    .into_iter()
    .find_map(|texts| find(texts, name))
}

/// Why this machine sent a TCP reset, by the name in the kernel's
/// `enum sk_rst_reason` without `SK_RST_REASON_`, such as `NO_SOCKET`.
#[must_use]
pub fn reset_reason(name: &str) -> Option<&'static Text> {
    find(reset_reasons::TEXTS, name)
}

/// Whether the reason of this name says nothing.
#[must_use]
pub fn is_silent(name: &str) -> bool {
    matches!(name, "NOT_SPECIFIED" | "ERROR")
}

/// Why this machine sent a TCP reset, by the functions that led to it, nearest first and without a compiler's
/// suffix, and the state of the socket that sent it, if one did.
#[must_use]
pub fn reset_by_calls(callers: &[String], state: Option<&str>) -> Option<&'static Text> {
    reset_calls::find(callers, state)
}

/// Functions that free on behalf of their caller.
const STAND_INS: [&str; 2] = ["tcp_drop", "tcp_drop_reason"];

/// Why a packet was freed in this function, as far as the packet shows it. For
/// kernels that give no reason, and for the places where others still give none.
/// `has_reason` tells which reasons the kernel could have given, by name.
#[must_use]
pub fn derived(
    function: &str,
    evidence: &Evidence,
    has_reason: impl Fn(&str) -> bool,
) -> Option<&'static Text> {
    let name = plain_name(function);
    let place = match evidence.callers.first() {
        Some(caller) if STAND_INS.contains(&name) => caller,
        _ => name,
    };
    if evidence.as_list {
        // The compiler put the freeing into the loop over the list, so that the
        // caller of both shows.
        let evidence = Evidence {
            callers: [name.to_owned()].into(),
            ..evidence.clone()
        };
        return derived::find("kfree_skb_list", &evidence, &has_reason)
            .or_else(|| by_function("kfree_skb_list"));
    }
    derived::find(place, evidence, &has_reason).or_else(|| by_function(name))
}

/// The name of a function without the suffix of a compiler's copy
/// (`tcp_v4_rcv.part.0`) and without an offset.
#[must_use]
pub fn plain_name(function: &str) -> &str {
    function.split(['.', '+']).next().unwrap_or(function)
}

/// What it means that this function freed the packet, whatever that shows.
///
/// The suffix of a compiler's copy makes no difference.
#[must_use]
pub fn by_function(function: &str) -> Option<&'static Text> {
    let name = plain_name(function);
    find(functions::TEXTS, name).or_else(|| {
        functions::PREFIXES
            .iter()
            .find(|text| name.starts_with(text.name))
    })
}

/// The entry with this name in a table that is sorted by name.
fn find(texts: &'static [Text], name: &str) -> Option<&'static Text> {
    let index = texts.binary_search_by(|text| text.name.cmp(name)).ok()?;
    texts.get(index)
}
