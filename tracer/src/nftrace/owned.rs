//! The table in the kernel: it belongs to the netlink socket that made it, and
//! goes with it, however the tracer ends.

use std::{io, os::fd::AsRawFd as _, os::fd::OwnedFd};

use super::{
    message::{self, Message},
    table::{Chain, Match, Rule, Side, Then},
};
use crate::rules::watch;

/// `NFT_TABLE_F_OWNER`: the table disappears with the socket that made it, and
/// only that socket can change it. Linux 5.12;
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_tables_api.c>
const OWNER: i32 = 2;
/// Before all others.
const PRIORITY: i32 = i32::MIN;
/// `NF_INET_PRE_ROUTING` and `NF_INET_LOCAL_OUT`.
const HOOKS: [(&str, i32); 2] = [("prerouting", 0), ("output", 3)];
/// The message that makes the table.
const TABLE: u32 = 1;

// From `linux/netfilter/nf_tables.h`.
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The kernel does not know owners of tables.
    #[error(
        "this kernel cannot do that without the risk of leaving something behind: it refuses a \
         table that would disappear with its maker (since Linux 5.12): {0}"
    )]
    Owner(io::Error),
    /// The kernel lacks something that the rules take.
    #[error("the kernel refuses the rules that switch the trace on: {0}")]
    Rules(io::Error),
    /// It refuses any table, or gives no answer.
    #[error("the kernel does not add the table that switches the trace on: {0}")]
    Ask(io::Error),
}

/// Adds the table with these chains to the namespace of the socket, which is new, and
/// to which it belongs from then on. All of it is made, or nothing.
///
/// # Errors
///
/// If the kernel refuses.
pub fn add(socket: &OwnedFd, name: &str, chains: &[Chain]) -> Result<(), AddError> {
    let (batch, last) = batch(name, chains);
    // SAFETY: the buffer is valid for its length.
    let sent = unsafe { libc::send(socket.as_raw_fd(), batch.as_ptr().cast(), batch.len(), 0) };
    if sent < 0 {
        return Err(AddError::Ask(io::Error::last_os_error()));
    }
    // All has been done, or refused, when the call returns.
    let mut is_done = false;
    let mut answer = vec![0; 64 << 10];
    loop {
        let len = match watch::receive(socket, &mut answer, libc::MSG_DONTWAIT) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(AddError::Ask(error)),
        };
        for received in message::messages(answer.get(..len).unwrap_or_default()) {
            match received.verdict() {
                Some(0) => is_done |= received.sequence == last,
                Some(error) => {
                    let error = io::Error::from_raw_os_error(error);
                    return Err(match (received.sequence, error.raw_os_error()) {
                        (TABLE, Some(libc::EINVAL | libc::EOPNOTSUPP)) => AddError::Owner(error),
                        (0..=TABLE, _) => AddError::Ask(error),
                        _ => AddError::Rules(error),
                    });
                }
                None => {}
            }
        }
    }
    if is_done {
        return Ok(());
    }
    let silence = io::Error::new(io::ErrorKind::InvalidData, "it does not say that it did it");
    Err(AddError::Ask(silence))
}

/// The messages that make the table, and the number of the last one, which is
/// to be answered.
fn batch(name: &str, chains: &[Chain]) -> (Vec<u8>, u32) {
    const INET: u8 = 1;
    const CREATE: libc::c_int = libc::NLM_F_CREATE;
    let kind = watch::message_type;
    let around = |kind: libc::c_int, sequence| {
        let kind = u16::try_from(kind).unwrap_or_default();
        let nftables = u16::try_from(libc::NFNL_SUBSYS_NFTABLES).unwrap_or_default();
        Message::new(kind, 0, sequence, 0, nftables).finish()
    };
    let mut messages = around(libc::NFNL_MSG_BATCH_BEGIN, 0);
    let mut table = Message::new(
        kind(libc::NFT_MSG_NEWTABLE),
        CREATE | libc::NLM_F_EXCL,
        TABLE,
        INET,
        0,
    );
    table.text(NFTA_TABLE_NAME, name);
    table.number(NFTA_TABLE_FLAGS, OWNER);
    messages.extend(table.finish());
    let mut sequence = TABLE;
    for chain in chains {
        sequence += 1;
        let mut message = Message::new(kind(libc::NFT_MSG_NEWCHAIN), CREATE, sequence, INET, 0);
        message.text(NFTA_CHAIN_TABLE, name);
        message.text(NFTA_CHAIN_NAME, chain.name);
        if let Some((_, hook)) = HOOKS.iter().find(|(name, _)| *name == chain.name) {
            message.nested(NFTA_CHAIN_HOOK, |message| {
                message.number(NFTA_HOOK_HOOKNUM, *hook);
                message.number(NFTA_HOOK_PRIORITY, PRIORITY);
            });
            message.text(NFTA_CHAIN_TYPE, "filter");
        }
        messages.extend(message.finish());
    }
    let rules = chains
        .iter()
        .flat_map(|chain| chain.rules.iter().map(move |rule| (chain.name, rule)));
    let mut rules = rules.peekable();
    while let Some((chain, rule)) = rules.next() {
        sequence += 1;
        let answer = if rules.peek().is_none() {
            libc::NLM_F_ACK
        } else {
            0
        };
        let flags = CREATE | libc::NLM_F_APPEND | answer;
        let mut message = Message::new(kind(libc::NFT_MSG_NEWRULE), flags, sequence, INET, 0);
        message.text(NFTA_RULE_TABLE, name);
        message.text(NFTA_RULE_CHAIN, chain);
        message.nested(NFTA_RULE_EXPRESSIONS, |message| expressions(message, rule));
        messages.extend(message.finish());
    }
    messages.extend(around(libc::NFNL_MSG_BATCH_END, sequence + 1));
    (messages, sequence)
}

fn expressions(message: &mut Message, rule: &Rule) {
    for wanted in &rule.matches {
        match *wanted {
            Match::Version(version) => {
                meta(message, libc::NFT_META_NFPROTO);
                let family = if version == 4 {
                    libc::NFPROTO_IPV4
                } else {
                    libc::NFPROTO_IPV6
                };
                compare(
                    message,
                    libc::NFT_CMP_EQ,
                    &[u8::try_from(family).unwrap_or_default()],
                );
            }
            Match::Protocol(protocol) => {
                meta(message, libc::NFT_META_L4PROTO);
                compare(message, libc::NFT_CMP_EQ, &[protocol]);
            }
            Match::Port { side, first, last } => {
                let offset = if side == Side::Src { 0 } else { 2 };
                payload(message, libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2);
                compare(message, libc::NFT_CMP_GTE, &first.to_be_bytes());
                compare(message, libc::NFT_CMP_LTE, &last.to_be_bytes());
            }
            Match::Address {
                side,
                version,
                address,
                mask,
            } => {
                let (offset, len) = match (version, side) {
                    (4, Side::Src) => (12, 4),
                    (4, Side::Dst) => (16, 4),
                    (_, Side::Src) => (8, 16),
                    (_, Side::Dst) => (24, 16),
                };
                payload(message, libc::NFT_PAYLOAD_NETWORK_HEADER, offset, len);
                bitwise(message, &mask[..len]);
                compare(message, libc::NFT_CMP_EQ, &address[..len]);
            }
        }
    }
    let verdict = |message: &mut Message, code, chain: Option<&str>| {
        immediate(message, libc::NFT_REG_VERDICT, |message| {
            message.nested(NFTA_DATA_VERDICT, |message| {
                message.number(NFTA_VERDICT_CODE, code);
                if let Some(chain) = chain {
                    message.text(NFTA_VERDICT_CHAIN, chain);
                }
            });
        });
    };
    match rule.then {
        Then::Jump(chain) => verdict(message, libc::NFT_JUMP, Some(chain)),
        Then::Goto(chain) => verdict(message, libc::NFT_GOTO, Some(chain)),
        Then::Trace => {
            immediate(message, libc::NFT_REG_1, |message| {
                message.bytes(NFTA_DATA_VALUE, &[1]);
            });
            expression(message, "meta", |message| {
                message.number(NFTA_META_KEY, libc::NFT_META_NFTRACE);
                message.number(NFTA_META_SREG, libc::NFT_REG_1);
            });
            // The table has nothing else to say, and the trace nothing to tell of it.
            verdict(message, libc::NF_ACCEPT, None);
        }
    }
}

fn expression(message: &mut Message, name: &str, data: impl FnOnce(&mut Message)) {
    message.nested(NFTA_LIST_ELEM, |message| {
        message.text(NFTA_EXPR_NAME, name);
        message.nested(NFTA_EXPR_DATA, data);
    });
}

fn meta(message: &mut Message, key: libc::c_int) {
    expression(message, "meta", |message| {
        message.number(NFTA_META_KEY, key);
        message.number(NFTA_META_DREG, libc::NFT_REG_1);
    });
}

fn payload(message: &mut Message, base: libc::c_int, offset: i32, len: usize) {
    expression(message, "payload", |message| {
        message.number(NFTA_PAYLOAD_DREG, libc::NFT_REG_1);
        message.number(NFTA_PAYLOAD_BASE, base);
        message.number(NFTA_PAYLOAD_OFFSET, offset);
        message.number(NFTA_PAYLOAD_LEN, i32::try_from(len).unwrap_or_default());
    });
}

fn bitwise(message: &mut Message, mask: &[u8]) {
    expression(message, "bitwise", |message| {
        message.number(NFTA_BITWISE_SREG, libc::NFT_REG_1);
        message.number(NFTA_BITWISE_DREG, libc::NFT_REG_1);
        message.number(
            NFTA_BITWISE_LEN,
            i32::try_from(mask.len()).unwrap_or_default(),
        );
        message.nested(NFTA_BITWISE_MASK, |message| {
            message.bytes(NFTA_DATA_VALUE, mask);
        });
        message.nested(NFTA_BITWISE_XOR, |message| {
            message.bytes(NFTA_DATA_VALUE, &vec![0; mask.len()]);
        });
    });
}

fn compare(message: &mut Message, how: libc::c_int, value: &[u8]) {
    expression(message, "cmp", |message| {
        message.number(NFTA_CMP_SREG, libc::NFT_REG_1);
        message.number(NFTA_CMP_OP, how);
        message.nested(NFTA_CMP_DATA, |message| {
            message.bytes(NFTA_DATA_VALUE, value);
        });
    });
}

fn immediate(message: &mut Message, register: libc::c_int, data: impl FnOnce(&mut Message)) {
    expression(message, "immediate", |message| {
        message.number(NFTA_IMMEDIATE_DREG, register);
        message.nested(NFTA_IMMEDIATE_DATA, data);
    });
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{
        filter::{self, Selection},
        nftrace::table,
    };

    /// For a filter with everything that rules are made of.
    fn chains() -> Vec<Chain> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let selection = Selection {
            src: words(&["10.0.0.0/8", "fd00::/16"]),
            dst: words(&["10.0.0.5:53-60", "[fd00::5]:53"]),
            host: words(&["0.0.0.0/0", "::/0"]),
            port: words(&["53", "1000-2000"]),
            proto: words(&["tcp", "udp"]),
            ..Selection::default()
        };
        table::chains(&filter::resolve(&selection).unwrap())
    }

    #[test]
    fn the_last_rule_alone_is_to_be_answered() {
        let chains = chains();
        let (batch, last) = batch("t", &chains);
        let received: Vec<_> = message::messages(&batch).collect();
        let rules: usize = chains.iter().map(|chain| chain.rules.len()).sum();
        // A beginning, the table and an end are there too.
        assert_eq!(received.len(), 3 + chains.len() + rules);
        for (sequence, received) in (0..).zip(&received) {
            assert_eq!(received.sequence, sequence);
        }
        assert_eq!(usize::try_from(last).unwrap(), received.len() - 2);
    }

    /// In a network namespace of its own, if that can be had.
    #[test]
    fn the_table_goes_with_its_socket() {
        let in_new_namespace = thread::spawn(|| {
            // SAFETY: no pointers; this thread does nothing else.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
                return;
            }
            let Ok(owner) = watch::netfilter_socket(0) else {
                return;
            };
            match add(&owner, "t", &chains()) {
                // A kernel without owners, or without nftables.
                Err(AddError::Owner(_) | AddError::Ask(_)) => return,
                Err(error) => panic!("{error}"),
                Ok(()) => {}
            }
            let other = watch::netfilter_socket(0).unwrap();
            let Err(AddError::Ask(error)) = add(&other, "t", &chains()) else {
                panic!("the table is not there");
            };
            // It is somebody else's.
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            drop(owner);
            let another = watch::netfilter_socket(0).unwrap();
            add(&another, "t", &chains()).unwrap();
        });
        in_new_namespace.join().unwrap();
    }
}
