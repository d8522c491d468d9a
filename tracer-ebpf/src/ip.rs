//! From a network header to addresses, protocol and ports.

use droptrace_types::{Decode, TUPLE_FRAGMENT, TUPLE_ICMP, TUPLE_PORTS, Tuple};

use crate::packet::{ETH_P_IP, ETH_P_IPV6, Packet};

/// IPv6 extension headers that are looked through at most.
const MAX_EXTENSIONS: u32 = 6;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

/// What a packet's headers say beside its [`Tuple`], in one word because a BPF
/// function returns no more.
#[derive(Clone, Copy)]
pub struct Decoded(u64);

impl Decoded {
    /// Nothing was decoded.
    pub const NOTHING: Self = Self(Decode::NoHeaders as u64);

    #[inline(always)]
    const fn new(decode: Decode, ttl: u8, transport: u32) -> Self {
        Self(decode as u64 | (ttl as u64) << 8 | (transport as u64) << 32)
    }

    /// A [`Decode`].
    #[inline(always)]
    pub const fn outcome(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    pub const fn is_ok(self) -> bool {
        self.outcome() == Decode::Headers as u8
    }

    /// Time to live or hop limit.
    #[inline(always)]
    pub const fn ttl(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Offset of the transport header; 0 where the packet has none.
    #[inline(always)]
    pub const fn transport(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Offset of the packet that an ICMP error quotes, 0 for other packets.
    #[inline(always)]
    pub fn quoted(self, tuple: &Tuple) -> u32 {
        let kind = tuple.src_port;
        let is_error = match tuple.proto {
            // Destination unreachable, source quench, redirect, time exceeded,
            // parameter problem.
            ICMP => kind == 3 || kind == 4 || kind == 5 || kind == 11 || kind == 12,
            // Informational messages begin at 128.
            ICMPV6 => kind >= 1 && kind < 128,
            _ => false,
        };
        if is_error && tuple.flags & TUPLE_ICMP != 0 {
            self.transport() + 8
        } else {
            0
        }
    }

    /// Offset of the TCP header, 0 for other packets.
    #[inline(always)]
    pub fn tcp(self, tuple: &Tuple) -> u32 {
        if tuple.proto == TCP {
            self.transport()
        } else {
            0
        }
    }
}

/// Decodes the IP packet at `offset`; `ethertype` 0 lets the packet itself say
/// which version it is. A function of its own because it runs twice, for the
/// packet and for one that it quotes.
#[inline(never)]
fn decode_to_word(packet: &Packet, offset: u32, ethertype: u32, tuple: &mut Tuple) -> u64 {
    match try_decode(packet, offset, ethertype as u16, tuple) {
        Ok(decoded) => decoded.0,
        Err(why) => Decoded::new(why, 0, 0).0,
    }
}

/// See [`decode_to_word`].
#[inline(always)]
pub fn decode(packet: &Packet, offset: u32, ethertype: u16, tuple: &mut Tuple) -> Decoded {
    Decoded(decode_to_word(packet, offset, u32::from(ethertype), tuple))
}

#[inline(always)]
fn try_decode(
    packet: &Packet,
    offset: u32,
    ethertype: u16,
    tuple: &mut Tuple,
) -> Result<Decoded, Decode> {
    // One read is enough for most packets.
    let mut start: V4Start = packet.load_linear(offset);
    let version = if start.is_read() {
        start.header.version_and_len
    } else {
        packet.load(offset)?
    } >> 4;
    if version == 4 && (ethertype == ETH_P_IP || ethertype == 0) {
        decode_v4(packet, offset, &mut start, tuple)
    } else if version == 6 && (ethertype == ETH_P_IPV6 || ethertype == 0) {
        decode_v6(packet, offset, tuple)
    } else {
        Err(Decode::BadHeaders)
    }
}

/// An IPv4 header, in network order.
#[repr(C)]
#[derive(Clone, Copy)]
struct V4Header {
    version_and_len: u8,
    tos: u8,
    total_len: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    proto: u8,
    checksum: u16,
    src: u32,
    dst: u32,
}

/// An IPv4 header, and what follows one without options.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct V4Start {
    header: V4Header,
    transport: u32,
}

impl V4Start {
    /// Otherwise it is zeros.
    #[inline(always)]
    fn is_read(&self) -> bool {
        self.header.version_and_len != 0
    }
}

/// An IPv6 header up to its addresses, in network order.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct V6Header {
    version_and_label: u32,
    payload_len: u16,
    next: u8,
    hop_limit: u8,
}

/// Bytes of an IPv6 header.
const V6_HEADER_LEN: u32 = 40;

#[inline(always)]
fn decode_v4(
    packet: &Packet,
    offset: u32,
    start: &mut V4Start,
    tuple: &mut Tuple,
) -> Result<Decoded, Decode> {
    let is_read = start.is_read();
    if !is_read {
        start.header = packet.load(offset)?;
    }
    let ip = &start.header;
    let len = u32::from(ip.version_and_len & 0xf) * 4;
    if len < 20 {
        return Err(Decode::BadHeaders);
    }
    let fragment = u16::from_be(ip.fragment);
    let more_fragments = fragment & 0x2000 != 0;
    let fragment_offset = fragment & 0x1fff;
    tuple.set_v4(ip.src, ip.dst);
    tuple.proto = ip.proto;
    if more_fragments || fragment_offset != 0 {
        tuple.flags |= TUPLE_FRAGMENT;
    }
    let mut transport = 0;
    if fragment_offset == 0 {
        transport = offset + len;
        if is_read && len == 20 {
            set_ports(start.transport, tuple);
        } else {
            decode_ports(packet, transport, tuple);
        }
    }
    Ok(Decoded::new(Decode::Headers, ip.ttl, transport))
}

#[inline(always)]
fn decode_v6(packet: &Packet, offset: u32, tuple: &mut Tuple) -> Result<Decoded, Decode> {
    let header = packet.at(offset, V6_HEADER_LEN)?;
    let ip: V6Header = header.read(0);
    tuple.family = 6;
    header
        .at(size_of::<V6Header>() as u32)
        .read_into(tuple.addresses());
    let (skb, head, tail) = packet.words();
    let found = Transport(ipv6_transport(
        skb,
        head,
        tail,
        offset + V6_HEADER_LEN,
        u32::from(ip.next),
    ));
    tuple.proto = found.proto();
    tuple.flags |= found.flags();
    let at = found.offset();
    if at != 0 {
        decode_ports(packet, at, tuple);
    }
    Ok(Decoded::new(Decode::Headers, ip.hop_limit, at))
}

/// What the extension headers of an IPv6 packet lead to, in one word.
#[derive(Clone, Copy)]
struct Transport(u64);

impl Transport {
    #[inline(always)]
    const fn new(offset: u32, proto: u8, flags: u8) -> Self {
        Self((offset as u64) << 32 | (flags as u64) << 8 | proto as u64)
    }

    /// Offset of the transport header; 0 where the packet has none.
    #[inline(always)]
    const fn offset(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Number of the last header's protocol.
    #[inline(always)]
    const fn proto(self) -> u8 {
        self.0 as u8
    }

    /// Bits `TUPLE_*`.
    #[inline(always)]
    const fn flags(self) -> u8 {
        (self.0 >> 8) as u8
    }
}

/// A [`Transport`], of the packet whose [`Packet::words`] these are; its extension headers,
/// if any, begin at `at` with the one of the number `next`. By its name in the object the
/// kernel verifies it once and not for every call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ipv6_transport(skb: u64, head: u64, tail: u32, at: u32, next: u32) -> u64 {
    let packet = Packet::of_words(skb, head, tail);
    let (mut at, mut next) = (at, next as u8);
    let mut flags = 0;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(next) {
            break;
        }
        let Ok(extension) = packet.load::<u32>(at) else {
            at = 0;
            break;
        };
        // Next header, length, and two bytes that say what the kind says.
        let bytes = extension.to_ne_bytes();
        let len = u32::from(bytes[1]);
        let kind = next;
        next = bytes[0];
        if kind == FRAGMENT {
            flags |= TUPLE_FRAGMENT;
            if u16::from_be_bytes([bytes[2], bytes[3]]) & 0xfff8 != 0 {
                at = 0;
                break;
            }
            at += 8;
        } else if kind == AUTHENTICATION {
            at += (len + 2) * 4;
        } else {
            at += (len + 1) * 8;
        }
    }
    Transport::new(at, next, flags).0
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    const BELOW_64: u64 =
        1 << HOP_BY_HOP | 1 << ROUTING | 1 << FRAGMENT | 1 << AUTHENTICATION | 1 << DESTINATION;
    if next < 64 {
        BELOW_64 >> next & 1 == 1
    } else {
        next == MOBILITY
    }
}

/// Ports, or ICMP type and code. A packet too short for them keeps its addresses.
#[inline(always)]
fn decode_ports(packet: &Packet, transport: u32, tuple: &mut Tuple) {
    if let Ok(start) = packet.load(transport) {
        set_ports(start, tuple);
    }
}

/// As [`decode_ports`], from the first bytes of the transport header.
#[inline(always)]
fn set_ports(start: u32, tuple: &mut Tuple) {
    let proto = tuple.proto;
    let has_ports =
        proto == TCP || proto == UDP || proto == UDPLITE || proto == SCTP || proto == DCCP;
    let is_icmp = proto == ICMP || proto == ICMPV6;
    let bytes = start.to_ne_bytes();
    if has_ports {
        tuple.src_port = u16::from_be_bytes([bytes[0], bytes[1]]);
        tuple.dst_port = u16::from_be_bytes([bytes[2], bytes[3]]);
        tuple.flags |= TUPLE_PORTS;
    } else if is_icmp {
        tuple.src_port = u16::from(bytes[0]);
        tuple.dst_port = u16::from(bytes[1]);
        tuple.flags |= TUPLE_ICMP;
    }
}
