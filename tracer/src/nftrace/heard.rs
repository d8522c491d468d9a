//! What the kernel tells of traced packets: which rule dropped which.
//!
//! A message comes for every step of a packet through a base chain. The first one
//! has the packet's headers, the last one the verdict; what belongs together has
//! the same identifier.
//! <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_tables_trace.c>

use std::{collections::HashMap, time::Instant};

use super::{
    message::{self, Attributes, Received},
    packet::Packet,
};
use crate::rules::watch;

/// Packets under way whose headers are kept.
const MAX_UNDER_WAY: usize = 4096;
/// Drops that are kept until their counts come.
const MAX_DROPS: usize = 16_384;
/// The verdict's part that says what is done with the packet.
const VERDICT: u32 = 0xff;

// From `linux/netfilter/nf_tables.h`.
const NFTA_TRACE_TABLE: u16 = 1;
const NFTA_TRACE_CHAIN: u16 = 2;
const NFTA_TRACE_RULE_HANDLE: u16 = 3;
const NFTA_TRACE_TYPE: u16 = 4;
const NFTA_TRACE_VERDICT: u16 = 5;
const NFTA_TRACE_ID: u16 = 6;
const NFTA_TRACE_NETWORK_HEADER: u16 = 8;
const NFTA_TRACE_TRANSPORT_HEADER: u16 = 9;
const NFTA_TRACE_POLICY: u16 = 16;
const NFTA_VERDICT_CODE: u16 = 1;

/// A rule, or the policy of a base chain, as the trace names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Family of the table, `NFPROTO_*`.
    pub family: u8,
    /// Name of the table.
    pub table: String,
    /// Name of the chain.
    pub chain: String,
    /// Handle of the rule; 0 for the chain's policy.
    pub rule: u64,
}

/// A packet that was dropped.
#[derive(Debug)]
pub struct Drop {
    /// By what.
    pub place: Place,
    /// Its headers as they were when it came to the base chain.
    pub packet: Packet,
    /// When it was heard of.
    pub heard: Instant,
}

/// What was heard in one namespace.
#[derive(Debug, Default)]
pub struct Heard {
    /// The headers of packets that are under way, by identifier.
    under_way: HashMap<u32, Packet>,
    /// In the order in which they were told.
    pub drops: Vec<Drop>,
    /// Not all that was told could be kept or understood.
    pub is_incomplete: bool,
}

/// A message, as far as it matters.
#[derive(Default)]
struct Step<'a> {
    kind: u32,
    id: Option<u32>,
    table: Option<&'a str>,
    chain: Option<&'a str>,
    rule: Option<u64>,
    verdict: Option<u32>,
    policy: Option<u32>,
    network: Option<&'a [u8]>,
    transport: Option<&'a [u8]>,
}

impl Heard {
    /// Takes note of a datagram of messages. `own` is the tracer's own table.
    pub fn add(&mut self, datagram: &[u8], own: &str, now: Instant) {
        for received in message::messages(datagram) {
            if received.kind == watch::message_type(libc::NFT_MSG_TRACE) {
                self.step(&received, own, now);
            }
        }
    }

    fn step(&mut self, received: &Received<'_>, own: &str, now: Instant) {
        let Some((family, attributes)) = received.attributes() else {
            return;
        };
        let step = Step::of(attributes);
        let Some(id) = step.id else { return };
        if step.table == Some(own) {
            return;
        }
        if let Some(network) = step.network {
            if self.under_way.len() >= MAX_UNDER_WAY {
                self.under_way.clear();
                self.is_incomplete = true;
            }
            let packet = Packet::new(network, step.transport.unwrap_or_default());
            self.under_way.insert(id, packet);
        }
        let is_drop = match step.verdict() {
            Some(verdict) => verdict & VERDICT == libc::NF_DROP.cast_unsigned(),
            None => return,
        };
        // With a verdict its way through this base chain is over.
        let packet = self.under_way.remove(&id);
        if !is_drop {
            return;
        }
        let (Some(packet), Some(table), Some(chain)) = (packet, step.table, step.chain) else {
            self.is_incomplete = true;
            return;
        };
        if self.drops.len() >= MAX_DROPS {
            self.is_incomplete = true;
            return;
        }
        self.drops.push(Drop {
            place: Place {
                family,
                table: table.to_owned(),
                chain: chain.to_owned(),
                rule: step.rule.unwrap_or(0),
            },
            packet,
            heard: now,
        });
    }
}

impl<'a> Step<'a> {
    fn of(attributes: Attributes<'a>) -> Self {
        let mut step = Self::default();
        for (kind, value) in attributes {
            match kind {
                NFTA_TRACE_TYPE => step.kind = message::number(value).unwrap_or(0),
                NFTA_TRACE_ID => step.id = message::number(value),
                NFTA_TRACE_TABLE => step.table = message::text(value),
                NFTA_TRACE_CHAIN => step.chain = message::text(value),
                NFTA_TRACE_RULE_HANDLE => step.rule = message::long_number(value),
                NFTA_TRACE_POLICY => step.policy = message::number(value),
                NFTA_TRACE_NETWORK_HEADER => step.network = Some(value),
                NFTA_TRACE_TRANSPORT_HEADER => step.transport = Some(value),
                NFTA_TRACE_VERDICT => {
                    let code = Attributes(value).find(|(kind, _)| *kind == NFTA_VERDICT_CODE);
                    step.verdict = code.and_then(|(_, value)| message::number(value));
                }
                _ => {}
            }
        }
        step
    }

    /// What becomes of the packet, where this is the end of its way through a base
    /// chain.
    fn verdict(&self) -> Option<u32> {
        const RULE: u32 = libc::NFT_TRACETYPE_RULE.cast_unsigned();
        const POLICY: u32 = libc::NFT_TRACETYPE_POLICY.cast_unsigned();
        match self.kind {
            // Those of nftables itself do not end it: jump, goto and the like.
            RULE => self.verdict.filter(|code| {
                !(libc::NFT_RETURN..=libc::NFT_CONTINUE).contains(&code.cast_signed())
            }),
            POLICY => self.policy,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::message::Message, *};

    const ID: i32 = 7;
    /// A UDP datagram from 10.0.0.2:1 to 10.0.0.5:53.
    const NETWORK: [u8; 20] = [
        0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 5,
    ];
    const TRANSPORT: [u8; 8] = [0, 1, 0, 53, 0, 8, 0, 0];

    fn message(table: &str, add: impl FnOnce(&mut Message)) -> Vec<u8> {
        let kind = watch::message_type(libc::NFT_MSG_TRACE);
        let mut message = Message::new(kind, 0, 0, 1, 0);
        message.number(NFTA_TRACE_ID, ID);
        message.text(NFTA_TRACE_TABLE, table);
        message.text(NFTA_TRACE_CHAIN, "input");
        add(&mut message);
        message.finish()
    }

    fn headers(message: &mut Message) {
        message.bytes(NFTA_TRACE_NETWORK_HEADER, &NETWORK);
        message.bytes(NFTA_TRACE_TRANSPORT_HEADER, &TRANSPORT);
    }

    fn rule(message: &mut Message, handle: u64, code: i32) {
        message.number(NFTA_TRACE_TYPE, libc::NFT_TRACETYPE_RULE);
        message.bytes(NFTA_TRACE_RULE_HANDLE, &handle.to_be_bytes());
        message.nested(NFTA_TRACE_VERDICT, |message| {
            message.number(NFTA_VERDICT_CODE, code);
        });
    }

    fn policy(message: &mut Message, policy: i32) {
        message.number(NFTA_TRACE_TYPE, libc::NFT_TRACETYPE_POLICY);
        message.number(NFTA_TRACE_POLICY, policy);
    }

    fn hear(datagrams: &[Vec<u8>]) -> Heard {
        let mut heard = Heard::default();
        for datagram in datagrams {
            heard.add(datagram, "own", Instant::now());
        }
        heard
    }

    /// Handles of the rules that dropped something.
    fn rules(heard: &Heard) -> Vec<u64> {
        heard.drops.iter().map(|drop| drop.place.rule).collect()
    }

    #[test]
    fn a_drop_has_the_headers_of_the_first_message() {
        let heard = hear(&[
            message("t", |message| {
                rule(message, 3, libc::NFT_JUMP);
                headers(message);
            }),
            message("t", |message| rule(message, 4, libc::NFT_CONTINUE)),
            message("t", |message| rule(message, 5, libc::NF_DROP)),
        ]);
        assert_eq!(rules(&heard), [5]);
        assert_eq!(heard.drops[0].packet, Packet::new(&NETWORK, &TRANSPORT));
        assert_eq!(heard.drops[0].place.table, "t");
        assert!(heard.under_way.is_empty() && !heard.is_incomplete);
    }

    #[test]
    fn a_packet_that_goes_on_is_no_drop() {
        let heard = hear(&[
            message("t", |message| {
                rule(message, 3, libc::NF_ACCEPT);
                headers(message);
            }),
            message("t", |message| {
                policy(message, libc::NF_ACCEPT);
                headers(message);
            }),
            // Number 40000 in the upper half.
            message("t", |message| {
                rule(
                    message,
                    4,
                    (40_000_u32 << 16).cast_signed() | libc::NF_QUEUE,
                );
                headers(message);
            }),
        ]);
        assert!(heard.drops.is_empty() && heard.under_way.is_empty() && !heard.is_incomplete);
    }

    #[test]
    fn a_policy_is_rule_0_and_the_own_table_is_passed_over() {
        let dropped = |message: &mut Message| {
            policy(message, libc::NF_DROP);
            headers(message);
        };
        let heard = hear(&[message("own", dropped), message("t", dropped)]);
        assert_eq!(rules(&heard), [0]);
    }

    #[test]
    fn a_drop_of_an_unknown_packet_leaves_a_doubt() {
        let heard = hear(&[message("t", |message| rule(message, 5, libc::NF_DROP))]);
        assert!(heard.drops.is_empty() && heard.is_incomplete);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut heard = Heard::default();
        let with_id = |id: u32, drops: bool| {
            let mut message = message("t", |message| {
                headers(message);
                if drops {
                    policy(message, libc::NF_DROP);
                }
            });
            message[24..28].copy_from_slice(&id.to_be_bytes());
            message
        };
        for id in 0..10_000 {
            heard.add(&with_id(id, false), "own", Instant::now());
            assert!(heard.under_way.len() <= MAX_UNDER_WAY);
        }
        assert!(std::mem::take(&mut heard.is_incomplete));
        for id in 0..20_000 {
            heard.add(&with_id(id, true), "own", Instant::now());
        }
        assert_eq!(heard.drops.len(), MAX_DROPS);
        assert!(heard.is_incomplete);
    }

    #[test]
    fn forged_messages_do_no_harm() {
        let whole = message("t", |message| {
            headers(message);
            rule(message, 5, libc::NF_DROP);
        });
        for at in 0..whole.len() {
            hear(&[whole[..at].to_vec()]);
            for byte in [0, 1, 3, 0x80, 0xff] {
                let mut forged = whole.clone();
                forged[at] = byte;
                for drop in hear(&[forged]).drops {
                    let _ = (drop.packet.flow(), drop.packet.ends());
                }
            }
        }
    }
}
