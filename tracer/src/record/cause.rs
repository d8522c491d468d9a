//! From a kernel address and a reason number to words.

use droptrace_types::{Detail, NO_REASON};

use super::headers;
use crate::{
    event::{Class, EventKind, Reason},
    kernel::{
        btf::Btf,
        reasons::{List, Reasons},
        symbols::{Location, Symbols},
    },
    reason::{self, Text},
};

/// How the names of functions begin through which a tracepoint calls a program.
const TRACING: [&str; 3] = ["bpf_trace_run", "__bpf_trace_", "__traceiter_"];

/// The reason by which the kernel says nothing.
const NOT_SPECIFIED: &str = "NOT_SPECIFIED";

/// The reason of emptied queues. Most are those of closed sockets, but some
/// functions empty a queue of packets that could not be sent.
const QUEUE_PURGE: &str = "QUEUE_PURGE";

/// The function that handles segments of connections that open or close. It
/// frees a segment that carries nothing as if it dropped it.
/// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_input.c>
const CLOSING: &str = "tcp_rcv_state_process";

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

    /// The function that freed a packet.
    pub fn location(&mut self, address: u64) -> Option<Location> {
        if address == 0 {
            None
        } else {
            self.symbols.find_fresh(address)
        }
    }

    /// The call chain above the event: above the function that freed the packet,
    /// which returns to `location`, or else above the tracepoint.
    pub fn stack(&self, addresses: &[u64], location: u64) -> Vec<String> {
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
        names.into_iter().skip(from).collect()
    }

    /// The reason, and what to do.
    pub fn reason(
        &self,
        kind: EventKind,
        code: u32,
        location: Option<&Location>,
        detail: Option<&Detail>,
    ) -> (Reason, Option<String>) {
        match kind {
            EventKind::Drop => self.drop_reason(code, location, detail),
            EventKind::ResetSent => self.reset_reason(code),
            EventKind::ResetReceived => (
                own(
                    "tcp",
                    Class::Peer,
                    "the other end, or a device on the path, reset the connection",
                ),
                None,
            ),
            EventKind::Retransmit | EventKind::Loss => (
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
        detail: Option<&Detail>,
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
            _ => by_function(location, detail),
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

    fn reset_reason(&self, code: u32) -> (Reason, Option<String>) {
        let known = self.reasons.get(List::Reset, code);
        let text = known.and_then(|known| reason::reset_reason(&known.name));
        let (class, summary, advice) = text.map_or_else(
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
            derived: false,
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

/// Where the kernel gives no reason, the function that freed the packet may be
/// telling.
fn by_function(
    location: Option<&Location>,
    detail: Option<&Detail>,
) -> (Class, String, Option<String>) {
    let Some(location) = location else {
        return (
            Class::Unknown,
            "the kernel does not say why".to_owned(),
            None,
        );
    };
    let function = &*location.function;
    if function == CLOSING && detail.is_some_and(headers::is_bare_acknowledgement) {
        let summary = "an acknowledgement was processed while the connection opens or closes";
        return (Class::Benign, summary.to_owned(), None);
    }
    reason::by_function(function).map_or_else(
        || {
            (
                Class::Unknown,
                format!("freed in {function}; the kernel does not say why"),
                None,
            )
        },
        words,
    )
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
