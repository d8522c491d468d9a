//! Why a function freed a packet, told by what the packet shows.
//!
//! For kernels that give no reason, or not yet that one. An entry says: freed in
//! one of these functions, under all of these conditions, the packet was freed for
//! what newer kernels call by one of these names, so that the class is the same.
//! An entry with names holds for kernels that lack one of them: the others say it
//! themselves. An entry without names holds for all.
//!
//! Every exit of the function (of what is inlined into it, and of what it calls
//! last, too) that a packet under these conditions can take has the class. As in
//! `functions.rs`, a rare "no memory" does not count; nor does what the kernel
//! reports as its own bug. A packet with two faults may be told by either.
//!
//! Read from [5.10](https://github.com/torvalds/linux/tree/v5.10/net) and, for the
//! names, [6.18](https://github.com/torvalds/linux/tree/v6.18/net).

use std::net::IpAddr;

use When::{Ethertype, Fact, From, Has, Icmp, Is, Lacks, Not, Proto, ProtoOtherThan};

use super::{
    Text,
    evidence::{
        Evidence,
        Sign::{
            BadChecksum, BadLength, BareAck, DontFragment, EchoOff, HeaderTaken, IpOptions, Ipsec,
            Ipv6Forwarding, Ipv6Off, IsPort, LastSegment, NoChecksum, NoSocketReset, OtherHost,
            Owned, Queued, SoundDiscovery, TcIngress, ToAll, TtlEnded,
        },
    },
};

/// A condition.
#[derive(Clone, Copy)]
pub(super) enum When {
    /// The sign was seen.
    Is(super::evidence::Sign),
    /// The sign was looked for and not seen.
    Not(super::evidence::Sign),
    /// The IP protocol is this one.
    Proto(u8),
    /// The IP protocol is known and none of these.
    ProtoOtherThan(&'static [u8]),
    /// The type of the ICMP or `ICMPv6` message is one from the first to the last.
    Icmp(u8, u8),
    /// The Ethernet protocol is one of these.
    Ethertype(&'static [u16]),
    /// The function was called by this one.
    From(&'static str),
    /// The kernel has a reason of this name.
    Has(&'static str),
    /// The kernel has no reason of this name.
    Lacks(&'static str),
    /// As the function says.
    Fact(fn(&Evidence) -> bool),
}

impl When {
    fn holds(self, evidence: &Evidence, has_reason: &impl Fn(&str) -> bool) -> bool {
        match self {
            Is(sign) => evidence.signs.is(sign),
            Not(sign) => evidence.signs.is_not(sign),
            Proto(proto) => evidence.proto == Some(proto),
            ProtoOtherThan(protos) => evidence.proto.is_some_and(|proto| !protos.contains(&proto)),
            Icmp(first, last) => evidence
                .icmp_type
                .is_some_and(|of| (first..=last).contains(&of)),
            Ethertype(types) => types.contains(&evidence.ethertype),
            From(function) => evidence
                .callers
                .first()
                .is_some_and(|name| name == function),
            Has(name) => has_reason(name),
            Lacks(name) => !has_reason(name),
            Fact(holds) => holds(evidence),
        }
    }
}

/// A cause that a packet's signs tell.
pub(super) struct Case {
    /// The functions, without a compiler's suffix.
    pub functions: &'static [&'static str],
    /// What must hold.
    pub when: &'static [When],
    /// What newer kernels call it.
    pub reasons: &'static [&'static str],
    /// Class and words; those of the only reason where there are none.
    pub text: Option<Text>,
}

/// Writes a table of [`Case`]: functions, conditions, the reasons' names, and
/// class, summary and advice where the reason's own do not serve.
macro_rules! cases {
    ($($first:literal $($more:literal)* when [$($when:expr),*] is [$($reason:literal),*]
        $($class:ident $summary:literal $(=> $advice:literal)?)?;)*) => {
        &[$(Case {
            functions: &[$first $(, $more)*],
            when: &[$($when),*],
            reasons: &[$($reason),*],
            text: cases!(@text $first $($class $summary $(=> $advice)?)?),
        }),*]
    };
    (@text $name:literal) => { None };
    (@text $name:literal $class:ident $summary:literal $(=> $advice:literal)?) => {
        Some(Text {
            name: $name,
            class: crate::event::Class::$class,
            summary: $summary,
            advice: cases!(@advice $($advice)?),
        })
    };
    (@advice) => { None };
    (@advice $advice:literal) => { Some($advice) };
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const UDPLITE: u8 = 136;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// The first that holds counts.
pub(super) static CASES: &[Case] = cases! {
    // From the device to the protocol.

    // Freed here: what a tc program shot, and what no protocol took. IP and ARP
    // always take theirs, but behind a port of a bond or team that is not in use
    // they are not asked (RX_HANDLER_EXACT).
    // https://github.com/torvalds/linux/blob/v5.10/net/core/dev.c
    "__netif_receive_skb_core" when [Not(TcIngress)] is ["UNHANDLED_PROTO"];
    "__netif_receive_skb_core"
        when [Ethertype(&[IPV4, ARP]), Not(IsPort)] is ["TC_INGRESS"];
    "__netif_receive_skb_core"
        when [Ethertype(&[IPV6]), Not(IsPort), Not(Ipv6Off)] is ["TC_INGRESS"];
    "sch_handle_ingress" when [] is ["TC_INGRESS"];

    // https://github.com/torvalds/linux/blob/v5.10/net/ipv4/ip_input.c
    "ip_rcv_core" "ip6_rcv_core" when [Is(OtherHost)] is ["OTHERHOST"];
    "ip_rcv_core" when [Not(OtherHost)] is ["IP_CSUM", "IP_INHDR", "PKT_TOO_SMALL"]
        Malformed "the IPv4 header is broken, its checksum wrong, or the packet cut short"
        => "see which counter rises: nstat -az | grep ^IpIn; if all of one interface: ethtool -k IF";
    "ip6_rcv_core" when [Not(OtherHost), Is(Ipv6Off)] is ["IPV6DISABLED"];
    // What is no IPv6 at all has another class, and a packet for one host in a
    // frame to all may have been refused by a setting.
    "ip6_rcv_core" when [Not(OtherHost), Not(Ipv6Off), Not(ToAll), Fact(is_ipv6)]
        is ["IP_INHDR", "PKT_TOO_SMALL"]
        Malformed "the IPv6 header is broken, its addresses impossible, or the packet cut short"
        => "see which counter rises: nstat -az | grep ^Ip6In";

    // Multicast that nobody here joined ends here as well, without a reason; and
    // packets with options, or of frames to all, may do so for these.
    // https://github.com/torvalds/linux/blob/v5.10/net/ipv4/route.c
    "ip_rcv_finish_core" when [Fact(source_cannot_be), Not(ToAll)] is ["IP_INVALID_SOURCE"];
    "ip_rcv_finish_core" when [Fact(destination_cannot_be), Not(ToAll)] is ["IP_INVALID_DEST"];
    "ip_rcv_finish_core" when [Fact(is_localnet), Not(ToAll), Not(IpOptions)]
        is ["IP_LOCALNET", "IP_RPFILTER", "IP_LOCAL_SOURCE"]
        Routing "a loopback address (127.0.0.0/8) showed up outside the loopback interface"
        => "if redirected to loopback on purpose: sysctl net.ipv4.conf.IF.route_localnet";
    "ip_rcv_finish_core" when [Fact(is_for_one), Not(ToAll), Not(IpOptions)]
        is ["IP_RPFILTER", "IP_LOCAL_SOURCE"]
        Routing "reverse path filter, or a packet from outside with an address of this machine"
        => "compare: ip route get SRC; sysctl net.ipv4.conf.IF.rp_filter; nstat -az TcpExtIPReversePathFilter";

    // The handler of an IPv4 protocol is asked before any IPsec policy, or in its
    // place; the last call, so that the caller shows.
    "ip_protocol_deliver_rcu" "ip_local_deliver_finish" when [Not(Ipsec)] is ["IP_NOPROTO"];
    // Those four are always handled, and end here for multicast nobody joined.
    "ip6_protocol_deliver_rcu" "ip6_input_finish"
        when [Not(Ipsec), ProtoOtherThan(&[TCP, UDP, ICMPV6, UDPLITE]), Fact(is_for_one)]
        is ["IP_NOPROTO"];

    // Before the time to live come what the kernel calls impossible and IPsec.
    // https://github.com/torvalds/linux/blob/v5.10/net/ipv4/ip_forward.c
    "ip_forward" when [Is(TtlEnded), Not(Ipsec), Not(ToAll), Not(Owned)] is ["IP_INHDR"]
        Malformed "the packet's time to live ran out on its way"
        => "look for a routing loop: tracepath ADDR";
    "ip_forward" when [Not(TtlEnded), Not(Ipsec), Not(ToAll), Not(Owned), Not(IpOptions),
        Is(DontFragment)] is ["PKT_TOO_BIG"];
    // https://github.com/torvalds/linux/blob/v5.10/net/ipv6/ip6_output.c
    "ip6_forward" when [Not(Ipv6Forwarding)] is ["IP_INADDRERRORS"];
    "ip6_forward" when [Is(Ipv6Forwarding), Is(TtlEnded), Not(Ipsec), Not(ToAll),
        Not(Owned)] is ["IP_INHDR"]
        Malformed "the packet's hop limit ran out on its way"
        => "look for a routing loop: tracepath -6 ADDR";
    "ip6_forward" when [Is(Ipv6Forwarding), Not(TtlEnded), Not(Ipsec), Not(ToAll),
        Not(Owned), Fact(is_routable), Fact(exceeds_the_least_mtu)] is ["PKT_TOO_BIG"];

    // ICMP.

    // A request for an echo that is not to all is always used up, also unanswered.
    // https://github.com/torvalds/linux/blob/v5.10/net/ipv4/icmp.c
    "icmp_rcv" when [Is(BadChecksum)] is ["ICMP_CSUM"];
    "icmp_rcv" when [Not(BadChecksum), Is(BadLength)] is []
        Malformed "the packet is shorter than its headers say";
    // Where a ping program's buffer is full, its copy is told as well.
    "icmp_rcv" when [Not(BadChecksum), Not(BadLength), Not(Ipsec), Not(ToAll), Icmp(0, 0),
        Fact(is_for_one)] is ["NO_SOCKET"]
        NoListener "an answer to a ping came, and no ping socket waits for it (a raw one may)";
    "icmp_rcv" when [Not(BadChecksum), Not(BadLength), Not(Ipsec), Icmp(1, 18)]
        is ["INVALID_PROTO", "PKT_TOO_SMALL", "IP_INHDR"]
        Malformed "the ICMP message is broken, or must not be sent to a broadcast address";
    // 42 and 43 are the extended echo of Linux 5.13.
    "icmp_rcv" when [Not(BadChecksum), Not(BadLength), Not(Ipsec), Icmp(19, 41)]
        is ["UNHANDLED_PROTO"];
    "icmp_rcv" when [Not(BadChecksum), Not(BadLength), Not(Ipsec), Icmp(44, 255)]
        is ["UNHANDLED_PROTO"];

    // Until 6.4 the messages that were acted upon are freed like the bad ones.
    // Queries and reports of groups (130, 131) are freed for a full queue on some
    // kernels and for nothing on others.
    // https://github.com/torvalds/linux/blob/v5.10/net/ipv6/icmp.c
    "icmpv6_rcv" when [Is(BadChecksum)] is ["ICMP_CSUM"];
    "icmpv6_rcv" when [Not(BadChecksum), Is(BadLength)] is []
        Malformed "the packet is shorter than its headers say";
    "icmpv6_rcv" when [Lacks("IPV6_NDISC_BAD_CODE"), Not(BadChecksum), Not(BadLength), Not(Ipsec),
        Icmp(1, 4), Fact(quotes_a_known_protocol)] is []
        Benign "an ICMPv6 error was read";
    "icmpv6_rcv" when [Lacks("IPV6_NDISC_BAD_CODE"), Not(BadChecksum), Not(BadLength), Not(Ipsec),
        Icmp(128, 128), Not(EchoOff)] is []
        Benign "a ping was read and answered";
    "icmpv6_rcv" when [Lacks("IPV6_NDISC_BAD_CODE"), Not(BadChecksum), Not(BadLength), Not(Ipsec),
        Icmp(129, 129)] is []
        NoListener "an answer to a ping came, and no ping socket waits for it (a raw one may)";
    "icmpv6_rcv" when [Lacks("IPV6_NDISC_BAD_CODE"), Not(BadChecksum), Not(BadLength), Not(Ipsec),
        Icmp(135, 136), Is(SoundDiscovery)] is []
        Benign "a message of neighbour discovery was read";
    // Those who leave a group (132), and reports of MLDv2 (143): for routers,
    // which read them by another way.
    "icmpv6_rcv" when [Not(BadChecksum), Not(BadLength), Not(Ipsec), Icmp(132, 132)] is []
        Benign "a message about multicast groups that only routers need";
    "icmpv6_rcv" when [Not(BadChecksum), Not(BadLength), Not(Ipsec), Icmp(143, 143)] is []
        Benign "a message about multicast groups that only routers need";
    "igmp_rcv" when [Is(BadChecksum)] is []
        Malformed "the checksum of the IGMP (group membership) message is wrong";
    "rawv6_rcv" "rawv6_rcv_skb" when [Is(BadChecksum)] is ["SKB_CSUM"]
        Malformed "the checksum of the raw socket's protocol is wrong";

    // UDP.

    // https://github.com/torvalds/linux/blob/v5.10/net/ipv4/udp.c
    "__udp4_lib_rcv" "udp_rcv" "__udp6_lib_rcv" "udpv6_rcv" when [Is(BadChecksum)] is ["UDP_CSUM"];
    "__udp4_lib_rcv" "udp_rcv" "__udp6_lib_rcv" "udpv6_rcv" when [Not(BadChecksum), Is(BadLength)]
        is []
        Malformed "the datagram is not as long as its UDP header says";
    "__udp6_lib_rcv" "udpv6_rcv" when [Is(NoChecksum), Fact(is_for_one)] is ["UDP_CSUM"]
        Malformed "the datagram has no UDP checksum, which IPv6 requires"
        => "if a tunnel means to, see udp6zerocsumrx at this end: ip -d link show";
    "__udp4_lib_rcv" "udp_rcv"
        when [Proto(UDP), Not(BadChecksum), Not(BadLength), Not(Ipsec)] is ["NO_SOCKET"];
    "__udp6_lib_rcv" "udpv6_rcv"
        when [Proto(UDP), Not(BadChecksum), Not(BadLength), Not(NoChecksum), Not(Ipsec)]
        is ["NO_SOCKET"];
    // What is left where those have names: multicast, where the function that
    // delivers it is inlined.
    "__udp4_lib_rcv" "udp_rcv" "__udp6_lib_rcv" "udpv6_rcv"
        when [Has("NO_SOCKET"), Proto(UDP), Not(BadLength), Not(Ipsec)] is []
        NoListener "no socket on this machine takes this UDP broadcast or multicast"
        => "see who listens: ss -lun; ip maddress show";
    // The UDP header is taken off between the last check and the queue, which is
    // inlined. UDP-Lite has one check more.
    "udp_queue_rcv_one_skb" "udpv6_queue_rcv_one_skb" when [Is(HeaderTaken)]
        is ["SOCKET_RCVBUFF", "PROTO_MEM"]
        Resource "the UDP socket's buffer or the memory for UDP is full: the program reads too slowly"
        => "see d (drops) in: ss -uanm; raise the limit: sysctl net.core.rmem_max";
    "udp_queue_rcv_one_skb" "udpv6_queue_rcv_one_skb" when [Not(HeaderTaken), Is(BadChecksum)]
        is ["UDP_CSUM"];
    "udp_queue_rcv_one_skb" "udpv6_queue_rcv_one_skb"
        when [Not(HeaderTaken), Not(BadChecksum), Proto(UDP)] is ["SOCKET_FILTER", "XFRM_POLICY"]
        Policy "a filter of the socket or its control group, or an IPsec policy, refused it"
        => "see filters and programs: ss -uanp --bpf; bpftool cgroup tree; ip xfrm policy";

    // TCP.

    // Left out: IPsec, filters, signatures, a least time to live, payload for a
    // socket in TIME_WAIT, a full backlog and what fits no connection that is being
    // set up.
    // https://github.com/torvalds/linux/blob/v5.10/net/ipv4/tcp_ipv4.c
    "tcp_v4_rcv" "tcp_v6_rcv" when [Is(BadChecksum), Not(ToAll)] is ["TCP_CSUM"];
    "tcp_v4_rcv" "tcp_v6_rcv" when [Not(BadChecksum), Is(BadLength), Not(ToAll)]
        is []
        Malformed "the packet is shorter than its headers say";
    "tcp_v4_rcv" "tcp_v6_rcv" when [Is(NoSocketReset)] is ["NO_SOCKET"];
    "tcp_v4_rcv" "tcp_v6_rcv" when [Is(LastSegment), Has("XFRM_POLICY"), Has("TCP_CSUM")] is []
        Benign "the other end's last segment was processed: this end has closed the connection";
    "tcp_v4_rcv" "tcp_v6_rcv" when [Is(LastSegment), Not(BadChecksum), Not(Ipsec)] is []
        Benign "the other end's last segment was processed: this end has closed the connection";
    "tcp_v4_do_rcv" "tcp_v6_do_rcv" when [Is(BadChecksum)] is ["TCP_CSUM"];

    // A kernel that knows this reason names the unfit ones here. It frees a
    // segment that carries nothing as if it dropped it.
    // https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_input.c
    "tcp_rcv_state_process" when [Is(BareAck), Has("TCP_CLOSE")] is []
        Benign "an acknowledgement was processed while the connection opens or closes";

    // Sending.

    // The only packets that this function frees one by one, not as a list.
    // https://github.com/torvalds/linux/blob/v5.10/net/core/dev.c
    "__dev_queue_xmit" "sch_handle_egress" when [] is ["TC_EGRESS"];
    "kfree_skb_list" when [From("__dev_queue_xmit"), Is(Queued)] is ["QDISC_DROP"];
    "kfree_skb_list" when [From("__dev_xmit_skb")] is ["QDISC_DROP"];
    "kfree_skb_list" when [From("__dev_queue_xmit"), Not(Queued)] is ["DEV_READY", "RECURSION_LIMIT"]
        Link "the interface is down or its queue is stopped, or virtual devices form a loop"
        => "see its state, and whether it leads back to itself: ip -d -s link show dev IF";
    "kfree_skb_list" when [From("qdisc_reset")] is []
        Link "the packet was in a send queue that was emptied: interface down or queue replaced";
    "kfree_skb_list" when [From("skb_release_data")] is []
        Benign "a part of a packet that ended elsewhere";
};

/// The text for a packet freed in `function`, whose name has no suffix.
pub(super) fn find(
    function: &str,
    evidence: &Evidence,
    has_reason: &impl Fn(&str) -> bool,
) -> Option<&'static Text> {
    let case = CASES.iter().find(|case| {
        case.functions.contains(&function)
            && (case.reasons.is_empty() || !case.reasons.iter().all(|name| has_reason(name)))
            && case
                .when
                .iter()
                .all(|when| when.holds(evidence, has_reason))
    })?;
    case.text
        .as_ref()
        .or_else(|| super::drop_reason(case.reasons.first()?))
}

fn v4(address: Option<IpAddr>) -> Option<[u8; 4]> {
    match address? {
        IpAddr::V4(address) => Some(address.octets()),
        IpAddr::V6(_) => None,
    }
}

/// Source and destination of an IPv4 packet to one host: neither multicast nor
/// broadcast nor, on both sides, 0.0.0.0, which also asks for a broadcast.
fn v4_unicast(evidence: &Evidence) -> Option<([u8; 4], [u8; 4])> {
    let (src, dst) = (v4(evidence.src)?, v4(evidence.dst)?);
    let to_many = matches!(dst, [224..=239, ..] | [255, 255, 255, 255]);
    (!to_many && (src, dst) != ([0; 4], [0; 4])).then_some((src, dst))
}

fn source_cannot_be(evidence: &Evidence) -> bool {
    matches!(
        v4_unicast(evidence),
        Some(([0 | 224..=239, ..] | [255, 255, 255, 255], _))
    )
}

fn destination_cannot_be(evidence: &Evidence) -> bool {
    matches!(v4_unicast(evidence), Some((_, [0, ..])))
}

fn is_localnet(evidence: &Evidence) -> bool {
    matches!(v4_unicast(evidence), Some(([127, ..], _) | (_, [127, ..])))
}

fn is_for_one(evidence: &Evidence) -> bool {
    match evidence.dst {
        Some(IpAddr::V4(_)) => v4_unicast(evidence).is_some(),
        Some(IpAddr::V6(dst)) => !dst.is_multicast(),
        None => false,
    }
}

fn is_ipv6(evidence: &Evidence) -> bool {
    evidence.dst.is_some_and(|dst| dst.is_ipv6())
}

/// Nothing in its addresses keeps the IPv6 packet from being passed on.
fn is_routable(evidence: &Evidence) -> bool {
    let (Some(IpAddr::V6(src)), Some(IpAddr::V6(dst))) = (evidence.src, evidence.dst) else {
        return false;
    };
    !(src.is_unspecified()
        || src.is_multicast()
        || src.is_loopback()
        || src.is_unicast_link_local()
        || dst.is_unicast_link_local())
}

/// Longer than what every IPv6 link must take.
fn exceeds_the_least_mtu(evidence: &Evidence) -> bool {
    evidence.len.is_some_and(|len| len > 1280)
}

fn quotes_a_known_protocol(evidence: &Evidence) -> bool {
    matches!(evidence.quoted, Some(TCP | UDP | ICMPV6))
}
