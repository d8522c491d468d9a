//! From a kernel address and a reason number to words.

use std::sync::Arc;

use droptrace_types::NO_REASON;

use crate::{
    event::{Class, EventKind, Reason},
    kernel::{
        btf::Btf,
        reasons::{List, NOT_SPECIFIED, Reasons},
        symbols::{Location, Symbols},
    },
    reason::{self, Evidence, Text},
};

/// How the names of functions begin through which a tracepoint calls a program.
const TRACING: [&str; 3] = ["bpf_trace_run", "__bpf_trace_", "__traceiter_"];

/// The reason of emptied queues. Most are those of closed sockets, but some
/// functions empty a queue of packets that could not be sent.
const QUEUE_PURGE: &str = "QUEUE_PURGE";

/// Frees a list of packets, each of them for its caller.
const LIST: &str = "kfree_skb_list";

/// A call chain, which records share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// The functions above the event: above the one that freed the packet, which
    /// returns to the location, or else above the tracepoint. Nearest first.
    pub above: Arc<[String]>,
    /// Their names alone.
    pub callers: Arc<[String]>,
    /// A list was freed, with the location as the caller.
    pub as_list: bool,
}

/// What the running kernel's addresses and numbers mean.
pub struct Causes {
    reasons: Reasons,
    symbols: Symbols,
}

impl Causes {
    pub fn new(reasons: Reasons, symbols: Symbols) -> Self {
        Self { reasons, symbols }
    }

    /// Adds the reasons of a kernel module.
    pub fn add_module(&mut self, btf: &Btf) {
        self.reasons.add_module(btf);
    }

    /// The kernel's functions.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The function that freed a packet.
    pub fn location(&mut self, address: u64) -> Option<Location> {
        if address == 0 {
            None
        } else {
            self.symbols.find_fresh(address)
        }
    }

    /// The call chain.
    pub fn stack(&self, addresses: &[u64], location: u64) -> Stack {
        let names: Vec<String> = addresses
            .iter()
            .filter(|address| **address != 0)
            .map(|address| match self.symbols.find(*address) {
                Some(location) => location.to_string(),
                None => format!("{address:#x}"),
            })
            .collect();
        let freed = addresses.iter().position(|address| *address == location);
        let traced = names
            .iter()
            .rposition(|name| TRACING.iter().any(|prefix| name.starts_with(prefix)));
        let from = freed.or(traced).map_or(0, |last| last + 1);
        let below = freed.and_then(|freed| names.get(freed.checked_sub(1)?));
        let as_list = below.is_some_and(|name| reason::plain_name(name) == LIST);
        let above: Arc<[String]> = names.into_iter().skip(from).collect();
        let callers = above.iter().map(|name| reason::plain_name(name).to_owned());
        Stack {
            as_list,
            callers: callers.collect(),
            above,
        }
    }

    /// The reason, and what to do.
    pub fn reason(
        &self,
        kind: EventKind,
        code: u32,
        location: Option<&Location>,
        evidence: &Evidence,
    ) -> (Reason, Option<String>) {
        match kind {
            EventKind::Drop => self.drop_reason(code, location, evidence),
            EventKind::ResetSent => self.reset_reason(code, evidence),
            EventKind::ResetReceived => (
                own(
                    "tcp",
                    Class::Peer,
                    "the other end, or a device on the path, reset the connection",
                ),
                None,
            ),
            _ => (
                own(
                    "tcp",
                    Class::Peer,
                    "no acknowledgement came in time, so it was sent again",
                ),
                None,
            ),
        }
    }

    fn drop_reason(
        &self,
        code: u32,
        location: Option<&Location>,
        evidence: &Evidence,
    ) -> (Reason, Option<String>) {
        let known = self.reasons.get(List::Drop, code);
        let name = known.map(|known| known.name.clone());
        let derived = match name.as_deref() {
            None | Some(NOT_SPECIFIED) => true,
            Some(QUEUE_PURGE) => tells_more(location),
            Some(_) => false,
        };
        let (class, summary, advice) = match name.as_deref() {
            Some(name) if !derived => reason::drop_reason(name).map_or_else(
                || {
                    let summary = format!("the kernel calls this {name} and says no more");
                    (Class::Unknown, summary, None)
                },
                words,
            ),
            _ => self.derived(location, evidence),
        };
        let reason = Reason {
            name,
            code: (code != NO_REASON).then_some(code),
            subsystem: known.map_or("core", |known| &known.subsystem).to_owned(),
            class,
            summary,
            derived,
        };
        (reason, advice)
    }

    /// Where the kernel gives no reason, the function that freed the packet and the
    /// packet itself may be telling.
    fn derived(
        &self,
        location: Option<&Location>,
        evidence: &Evidence,
    ) -> (Class, String, Option<String>) {
        let Some(Location { function, .. }) = location else {
            return (
                Class::Unknown,
                "the kernel does not say why".to_owned(),
                None,
            );
        };
        let has_reason = |name: &str| {
            let named = self.reasons.named(name);
            named.iter().any(|known| known.list == List::Drop)
        };
        reason::derived(function, evidence, has_reason).map_or_else(
            || {
                let function = reason::plain_name(function);
                let summary = format!("freed in {function}; the kernel does not say why");
                (Class::Unknown, summary, None)
            },
            words,
        )
    }

    fn reset_reason(&self, code: u32, evidence: &Evidence) -> (Reason, Option<String>) {
        let known = self.reasons.get(List::Reset, code);
        let text = known.and_then(|known| reason::reset_reason(&known.name));
        let is_told = text.is_some_and(|text| !reason::is_silent(text.name));
        let by_calls = || reason::reset_by_calls(&evidence.callers, evidence.tcp_state);
        let derived = (!is_told).then(by_calls).flatten();
        let (class, summary, advice) = derived.or(text).map_or_else(
            || {
                (
                    Class::Unknown,
                    "this kernel does not say why it sent the reset".to_owned(),
                    None,
                )
            },
            words,
        );
        let reason = Reason {
            name: known.map(|known| known.name.clone()),
            code: (code != NO_REASON).then_some(code),
            subsystem: "tcp_reset".to_owned(),
            class,
            summary,
            derived: derived.is_some(),
        };
        (reason, advice)
    }
}

fn words(text: &Text) -> (Class, String, Option<String>) {
    (
        text.class,
        text.summary.to_owned(),
        text.advice.map(str::to_owned),
    )
}

/// Whether the function that freed the packet is known for dropping packets.
fn tells_more(location: Option<&Location>) -> bool {
    location
        .and_then(|location| reason::by_function(&location.function))
        .is_some_and(|text| !matches!(text.class, Class::Benign | Class::Unknown))
}

fn own(subsystem: &str, class: Class, summary: &str) -> Reason {
    Reason {
        name: None,
        code: None,
        subsystem: subsystem.to_owned(),
        class,
        summary: summary.to_owned(),
        derived: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &[u8] = b"1000 t bpf_trace_run2\n2000 T kfree_skb\n3000 T kfree_skb_list\n\
        4000 t __dev_queue_xmit.constprop.0\n5000 t ip_finish_output2\n6000 T end\n";

    /// The functions that lead to a reset, each at an address of its own.
    const RESETS: &[u8] = b"1000 t bpf_trace_run3\n2000 T tcp_send_active_reset\n\
        3000 T __tcp_close\n4000 T tcp_disconnect\n5000 T tcp_v4_rcv\n6000 T end\n";

    fn reset(kernel: Reasons, code: u32, stack: &[u64], state: Option<&'static str>) -> Reason {
        let causes = Causes::new(kernel, Symbols::parse(RESETS));
        let evidence = Evidence {
            callers: causes.stack(stack, 0).callers,
            tcp_state: state,
            ..Evidence::default()
        };
        causes.reset_reason(code, &evidence).0
    }

    #[test]
    fn where_the_kernel_gives_no_reason_the_functions_tell_why_it_sent_a_reset() {
        let old = |stack: &[u64], state| reset(Reasons::default(), NO_REASON, stack, state);
        let unread = old(&[0x1010, 0x2010, 0x3010], Some("CLOSE"));
        assert_eq!((unread.name, unread.code), (None, None));
        assert_eq!((unread.class, unread.derived), (Class::Protocol, true));
        assert!(unread.summary.contains("unread"));
        let linger = old(&[0x1010, 0x2010, 0x4010, 0x3010], Some("CLOSE"));
        assert!(linger.summary.contains("SO_LINGER 0"));
        assert_eq!(linger.class, Class::Policy);
        // Of the start of a function there is no tracepoint below.
        let nobody = old(&[0x5010, 0x3010], None);
        assert_eq!((nobody.class, nobody.derived), (Class::NoListener, true));
        for stack in [&[][..], &[0x1010, 0x2010]] {
            let untold = old(stack, None);
            assert_eq!((untold.class, untold.derived), (Class::Unknown, false));
        }
    }

    fn stack(addresses: &[u64], location: u64) -> Stack {
        let symbols = Symbols::parse(KALLSYMS);
        Causes::new(Reasons::default(), symbols).stack(addresses, location)
    }

    #[test]
    fn a_chain_begins_above_the_function_that_freed() {
        let chain = stack(&[0x1010, 0x2010, 0x4010, 0x5010], 0x4010);
        assert_eq!(*chain.above, ["ip_finish_output2+0x10"]);
        assert!(!chain.as_list);
        let chain = stack(&[0x1010, 0x5010], 0);
        assert_eq!(*chain.above, ["ip_finish_output2+0x10"]);
        assert_eq!(stack(&[], 0x4010), Stack::default());
    }

    #[test]
    fn a_list_below_the_location_is_seen() {
        assert!(stack(&[0x1010, 0x3010, 0x4010, 0x5010], 0x4010).as_list);
        // Freed by the list's loop itself.
        let chain = stack(&[0x1010, 0x2010, 0x3010, 0x4010], 0x3010);
        assert!(!chain.as_list);
        assert_eq!(*chain.above, ["__dev_queue_xmit.constprop.0+0x10"]);
    }
}
