//! From a detail to what a record says of the packet's conntrack entry.

use droptrace_types::{ConntrackAt, Decode, Detail, HEADER_LEN, TUPLE_ICMP, TUPLE_PORTS};

use super::{flow, headers, packet};
use crate::{
    conntrack::{Ends, Tuple, tcp_state_name},
    event::{Conntrack, ConntrackDirection, ConntrackTuple, Icmp, Invalid, Nat, Translation},
};

/// `IPPROTO_TCP`
const TCP: u8 = 6;

/// From here on, `enum ip_conntrack_info` is of packets in the reply direction.
const IS_REPLY: u32 = 3;
/// `IP_CT_UNTRACKED`
const UNTRACKED: u32 = 7;

/// `IPS_TEMPLATE`: no connection, but what a rule says about the one to come.
const TEMPLATE: u32 = 1 << 11;
/// `IPS_CONFIRMED`: it is in the table.
pub const CONFIRMED: u32 = 1 << 3;

/// What bits of the status are called.
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nf_conntrack_common.h>
const STATUS: [(u32, &str); 12] = [
    (1, "expected"),
    (1 << 1, "seen_reply"),
    (1 << 2, "assured"),
    (CONFIRMED, "confirmed"),
    (1 << 4, "src_nat"),
    (1 << 5, "dst_nat"),
    (1 << 6, "seq_adjust"),
    (1 << 9, "dying"),
    (1 << 10, "fixed_timeout"),
    (1 << 12, "nat_clash"),
    (1 << 14, "offload"),
    (1 << 15, "hw_offload"),
];

/// The packet's entry; `None` without one.
pub fn of(entry: &ConntrackAt) -> Option<Conntrack> {
    let state = match entry.info {
        0 | 3 => "established",
        1 | 4 => "related",
        2 => "new",
        UNTRACKED => "untracked",
        _ => return None,
    };
    if entry.status & TEMPLATE != 0 {
        return None;
    }
    let direction = if entry.info < IS_REPLY {
        ConntrackDirection::Original
    } else {
        ConntrackDirection::Reply
    };
    let tuples = tuples(entry);
    let (original, reply) = tuples.unzip();
    let is_tcp = original.is_some_and(|tuple| tuple.proto == TCP);
    let named = STATUS.iter().filter(|(bit, _)| entry.status & bit != 0);
    Some(Conntrack {
        state: state.to_owned(),
        mark: entry.mark,
        zone: entry.zone,
        direction: is_read(entry).then_some(direction),
        original: original.as_ref().map(tuple),
        reply: reply.as_ref().map(tuple),
        nat: tuples.and_then(|(original, reply)| nat(&original, &reply)),
        status: named.map(|(_, name)| (*name).to_owned()).collect(),
        tcp_state: is_tcp
            .then(|| tcp_state_name(entry.tcp_state).map(ToOwned::to_owned))
            .flatten(),
        helper: packet::text(&entry.helper),
        invalid: None,
    })
}

/// A packet that connection tracking called invalid, which has no entry.
pub fn invalid(why: Option<Invalid>) -> Conntrack {
    Conntrack {
        state: "invalid".to_owned(),
        mark: 0,
        zone: 0,
        direction: None,
        original: None,
        reply: None,
        nat: None,
        status: Vec::new(),
        tcp_state: None,
        helper: None,
        invalid: why,
    }
}

/// Whether it was read, and not only how the packet relates to it.
pub fn is_read(entry: &ConntrackAt) -> bool {
    entry.is_known != 0
}

/// Its tuples, of the original and of the reply direction.
pub fn tuples(entry: &ConntrackAt) -> Option<(Tuple, Tuple)> {
    let [original, reply] = &entry.words;
    is_read(entry)
        .then(|| Tuple::from_kernel(original).zip(Tuple::from_kernel(reply)))
        .flatten()
}

fn tuple(tuple: &Tuple) -> ConntrackTuple {
    let mut told = ConntrackTuple {
        proto: flow::protocol(tuple.proto),
        src: tuple.src,
        sport: None,
        dst: tuple.dst,
        dport: None,
        icmp: None,
        icmp_id: None,
    };
    match tuple.ends {
        Ends::None => {}
        Ends::Ports(src, dst) => (told.sport, told.dport) = (Some(src), Some(dst)),
        Ends::Icmp { id, kind, code } => {
            told.icmp = Some(Icmp { r#type: kind, code });
            told.icmp_id = Some(id);
        }
    }
    told
}

/// What is translated: where answers do not simply go the way back.
fn nat(original: &Tuple, reply: &Tuple) -> Option<Nat> {
    let ports = |tuple: &Tuple| match tuple.ends {
        Ends::Ports(src, dst) => (Some(src), Some(dst)),
        _ => (None, None),
    };
    let (before, after) = (ports(original), ports(reply));
    let translation = |from, from_port, to, to_port| {
        let is_other = (from, from_port) != (to, to_port);
        is_other.then_some(Translation {
            from,
            from_port,
            to,
            to_port,
        })
    };
    let nat = Nat {
        src: translation(original.src, before.0, reply.dst, after.1),
        dst: translation(original.dst, before.1, reply.src, after.0),
    };
    (nat.src.is_some() || nat.dst.is_some()).then_some(nat)
}

/// What connection tracking would tell the packet itself by; `None` where its
/// headers do not say.
pub fn tuple_of(detail: &Detail) -> Option<Tuple> {
    if detail.key.cause.decode != Decode::Headers as u8 {
        return None;
    }
    let of = &detail.key.flow;
    let (src, dst) = flow::addresses(of)?;
    let ends = if of.flags & TUPLE_PORTS != 0 {
        Ends::Ports(of.src_port, of.dst_port)
    } else if of.flags & TUPLE_ICMP != 0 {
        let id = transport(detail)?.get(4..)?.first_chunk()?;
        Ends::Icmp {
            id: u16::from_be_bytes(*id),
            kind: u8::try_from(of.src_port).ok()?,
            code: u8::try_from(of.dst_port).ok()?,
        }
    } else {
        Ends::None
    };
    Some(Tuple {
        proto: of.proto,
        src,
        dst,
        ends,
    })
}

/// The flow that an ICMP error is about, as far as it has ports.
pub fn tuple_about(detail: &Detail) -> Option<Tuple> {
    let about = &detail.key.about;
    let (src, dst) = flow::addresses(about)?;
    (about.flags & TUPLE_PORTS != 0).then_some(Tuple {
        proto: about.proto,
        src,
        dst,
        ends: Ends::Ports(about.src_port, about.dst_port),
    })
}

/// The packet from its transport header on, as far as it was read.
fn transport(detail: &Detail) -> Option<&[u8]> {
    let read = (detail.header_len as usize).min(HEADER_LEN);
    let bytes = detail.header.get(..read)?;
    bytes.get(headers::transport(bytes)?..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> [u64; 5] {
        let mut bytes = [0; 40];
        bytes[..4].copy_from_slice(&src);
        bytes[16..18].copy_from_slice(&sport.to_be_bytes());
        bytes[18..20].copy_from_slice(&2_u16.to_ne_bytes());
        bytes[20..24].copy_from_slice(&dst);
        bytes[36..38].copy_from_slice(&dport.to_be_bytes());
        bytes[38] = TCP;
        let word = |i: usize| u64::from_ne_bytes(bytes[i * 8..i * 8 + 8].try_into().unwrap());
        [word(0), word(1), word(2), word(3), word(4)]
    }

    fn entry() -> ConntrackAt {
        ConntrackAt {
            words: [
                words([10, 0, 1, 2], 40000, [10, 0, 0, 1], 80),
                words([10, 0, 0, 5], 8080, [10, 0, 0, 1], 1024),
            ],
            status: 0x1b2,
            info: 3,
            zone: 5,
            tcp_state: 3,
            is_known: 1,
            ..ConntrackAt::default()
        }
    }

    #[test]
    fn an_entry_is_told_with_its_tuples_and_what_is_translated() {
        let mut entry = entry();
        entry.helper[..3].copy_from_slice(b"ftp");
        let told = of(&entry).unwrap();
        assert_eq!((told.state.as_str(), told.zone), ("established", 5));
        assert_eq!(told.direction, Some(ConntrackDirection::Reply));
        assert_eq!(told.original.unwrap().sport, Some(40000));
        assert_eq!(told.reply.unwrap().src.to_string(), "10.0.0.5");
        assert_eq!(told.tcp_state.as_deref(), Some("ESTABLISHED"));
        assert_eq!(told.helper.as_deref(), Some("ftp"));
        assert_eq!(told.status, ["seen_reply", "src_nat", "dst_nat"]);
        let Nat { src, dst } = told.nat.unwrap();
        let (src, dst) = (src.unwrap(), dst.unwrap());
        assert_eq!(
            (src.to.to_string(), src.to_port),
            ("10.0.0.1".into(), Some(1024))
        );
        assert_eq!(
            (dst.to.to_string(), dst.to_port),
            ("10.0.0.5".into(), Some(8080))
        );
    }

    #[test]
    fn answers_that_go_the_way_back_are_not_translated() {
        let told = of(&ConntrackAt {
            words: [
                entry().words[0],
                words([10, 0, 0, 1], 80, [10, 0, 1, 2], 40000),
            ],
            ..entry()
        });
        assert_eq!(told.unwrap().nat, None);
    }

    #[test]
    fn a_template_is_no_entry_and_an_unread_one_has_no_tuples() {
        let status = TEMPLATE;
        assert_eq!(of(&ConntrackAt { status, ..entry() }), None);
        let unread = ConntrackAt {
            info: 7,
            ..ConntrackAt::default()
        };
        let told = of(&unread).unwrap();
        assert_eq!(told.state, "untracked");
        assert_eq!((told.direction, told.original), (None, None));
    }
}
