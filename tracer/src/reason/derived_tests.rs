//! What a packet shows leads to the class that newer kernels' reasons have.
//!
//! Each expectation is read from the kernel's source: the exits of the function in
//! 5.10, and what 6.18 calls the same exit.

use std::net::IpAddr;

use super::{
    Evidence,
    Sign::{self, *},
    Signs, derived,
    derived::CASES,
    drop_reason,
};
use crate::event::Class::{self, *};

/// A kernel that gives no reasons.
fn no_reasons(_: &str) -> bool {
    false
}

/// Every sign was looked for, and these were seen.
fn signs(seen: &[Sign]) -> Signs {
    let none = Signs::from_bits(0, u32::MAX);
    seen.iter()
        .fold(none, |signs, sign| signs.with(*sign, true))
}

fn showing(seen: &[Sign]) -> Evidence {
    Evidence {
        signs: signs(seen),
        ..Evidence::default()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn between(src: &str, dst: &str) -> Evidence {
    Evidence {
        src: Some(address(src)),
        dst: Some(address(dst)),
        ..showing(&[])
    }
}

fn class(function: &str, evidence: &Evidence) -> Class {
    derived(function, evidence, no_reasons).map_or(Unknown, |text| text.class)
}

#[track_caller]
fn assert_class(function: &str, evidence: &Evidence, wanted: Class) {
    assert_eq!(
        class(function, evidence),
        wanted,
        "{function}: {evidence:?}"
    );
}

#[test]
fn a_class_is_that_of_the_reasons_that_newer_kernels_give() {
    for case in CASES {
        for name in case.reasons {
            let known = drop_reason(name);
            let known = known.unwrap_or_else(|| panic!("{:?}: no {name}", case.functions));
            if let Some(text) = &case.text {
                assert_eq!(text.class, known.class, "{:?}: {name}", case.functions);
            }
        }
        let speaks = case.text.is_some() || case.reasons.len() == 1;
        assert!(speaks, "{:?}: which words?", case.functions);
    }
}

#[test]
fn without_evidence_no_class_is_told_by_the_packet() {
    // What such a function frees has one class whatever it shows.
    let always = ["sch_handle_", "__dev_queue_xmit"];
    for case in CASES {
        for function in case.functions {
            if !always.iter().any(|name| function.starts_with(name)) {
                assert_class(function, &Evidence::default(), Unknown);
            }
        }
    }
}

#[test]
fn a_kernel_that_names_the_reasons_has_told_already() {
    let evidence = showing(&[BadChecksum]);
    let newer = |_: &str| true;
    for function in ["__udp4_lib_rcv", "tcp_v4_rcv", "icmp_rcv"] {
        assert_class(function, &evidence, Malformed);
        let text = derived(function, &evidence, newer);
        assert_ne!(text.map(|text| text.class), Some(Malformed), "{function}");
    }
}

#[test]
fn a_compilers_suffix_makes_no_difference() {
    let evidence = showing(&[OtherHost]);
    for function in [
        "ip_rcv_core",
        "ip_rcv_core.isra.0",
        "ip_rcv_core.part.0.cold",
    ] {
        assert_class(function, &evidence, Benign);
    }
}

/// `OTHERHOST` comes before all other checks.
/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv4/ip_input.c>
/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv6/ip6_input.c>
#[test]
fn frames_of_others_are_told_from_broken_packets() {
    assert_class("ip_rcv_core", &showing(&[OtherHost]), Benign);
    assert_class("ip_rcv_core", &showing(&[]), Malformed);
    let v6 = between("2001:db8::1", "2001:db8::2");
    assert_class("ip6_rcv_core", &showing(&[OtherHost, Ipv6Off]), Benign);
    assert_class("ip6_rcv_core", &showing(&[Ipv6Off]), Policy);
    assert_class("ip6_rcv_core", &v6, Malformed);
    // `drop_unicast_in_l2_multicast` may have refused it.
    let to_all = Evidence {
        signs: signs(&[ToAll]),
        ..v6
    };
    assert_class("ip6_rcv_core", &to_all, Unknown);
    // Version 4 in a frame of IPv6: UNHANDLED_PROTO.
    assert_class("ip6_rcv_core", &showing(&[]), Unknown);
}

/// <https://github.com/torvalds/linux/blob/v5.10/net/core/dev.c>
#[test]
fn what_tc_shot_is_told_from_what_nothing_handles() {
    let place = "__netif_receive_skb_core";
    let frame = |ethertype, seen| Evidence {
        ethertype,
        ..showing(seen)
    };
    assert_class(place, &frame(0x0800, &[TcIngress]), Policy);
    assert_class(place, &frame(0x0806, &[TcIngress]), Policy);
    assert_class(place, &frame(0x86dd, &[TcIngress]), Policy);
    // Started with ipv6.disable=1, nothing handles IPv6.
    assert_class(place, &frame(0x86dd, &[TcIngress, Ipv6Off]), Unknown);
    assert_class(place, &frame(0x88cc, &[]), NoListener);
    assert_class(place, &frame(0x88cc, &[TcIngress]), Unknown);
    // An inactive port of a bond takes no IP either.
    assert_class(place, &frame(0x0800, &[TcIngress, IsPort]), Unknown);
    assert_class(place, &frame(0x0800, &[IsPort]), NoListener);
    assert_class("__dev_queue_xmit", &showing(&[]), Policy);
}

/// <https://github.com/torvalds/linux/blob/v5.10/net/core/dev.c>: `__dev_xmit_skb`
/// frees what the queue refused, `__dev_queue_xmit` what found no way.
#[test]
fn a_list_is_told_by_who_freed_it() {
    let from = |caller: &str, seen| Evidence {
        callers: [caller.to_owned()].into(),
        ..showing(seen)
    };
    assert_class(
        "kfree_skb_list",
        &from("__dev_queue_xmit", &[Queued]),
        Resource,
    );
    assert_class("kfree_skb_list", &from("__dev_queue_xmit", &[]), Link);
    assert_class("kfree_skb_list", &from("__dev_xmit_skb", &[]), Resource);
    assert_class(
        "kfree_skb_list",
        &from("ip_do_fragment", &[Queued]),
        Unknown,
    );
    // Some compilers put `kfree_skb` into `kfree_skb_list`.
    let inlined = |seen| Evidence {
        as_list: true,
        ..showing(seen)
    };
    assert_class("__dev_queue_xmit", &inlined(&[Queued]), Resource);
    assert_class("__dev_queue_xmit", &inlined(&[]), Link);
    assert_class("ip_do_fragment", &inlined(&[]), Unknown);
}

/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv4/route.c>: the order of the
/// checks in `ip_route_input_slow`.
#[test]
fn routing_checks_are_told_by_addresses() {
    let told = |src, dst| class("ip_rcv_finish_core", &between(src, dst));
    assert_eq!(told("224.0.0.1", "192.0.2.1"), Malformed);
    assert_eq!(told("255.255.255.255", "192.0.2.1"), Malformed);
    assert_eq!(told("0.1.2.3", "192.0.2.1"), Malformed);
    assert_eq!(told("192.0.2.1", "0.0.0.1"), Malformed);
    assert_eq!(told("127.0.0.1", "192.0.2.1"), Routing);
    assert_eq!(told("192.0.2.1", "127.0.0.1"), Routing);
    assert_eq!(told("192.0.2.1", "198.51.100.1"), Routing);
    // A group that nobody here joined is refused without a reason.
    assert_eq!(told("192.0.2.1", "239.1.2.3"), Unknown);
    assert_eq!(told("0.0.0.0", "0.0.0.0"), Unknown);
    for sign in [ToAll, IpOptions] {
        let evidence = Evidence {
            signs: signs(&[sign]),
            ..between("192.0.2.1", "198.51.100.1")
        };
        assert_class("ip_rcv_finish_core", &evidence, Unknown);
    }
}

/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv4/ip_forward.c>,
/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv6/ip6_output.c>
#[test]
fn what_is_not_forwarded_is_told_by_its_header() {
    assert_class("ip_forward", &showing(&[TtlEnded]), Malformed);
    assert_class("ip_forward", &showing(&[DontFragment]), Link);
    assert_class("ip_forward", &showing(&[]), Unknown);
    for doubt in [Ipsec, ToAll, Owned] {
        assert_class("ip_forward", &showing(&[TtlEnded, doubt]), Unknown);
        assert_class("ip_forward", &showing(&[DontFragment, doubt]), Unknown);
    }
    // A strict source route may have failed.
    assert_class("ip_forward", &showing(&[DontFragment, IpOptions]), Unknown);

    // Forwarding is asked before the hop limit.
    assert_class("ip6_forward", &showing(&[TtlEnded]), Routing);
    assert_class(
        "ip6_forward",
        &showing(&[Ipv6Forwarding, TtlEnded]),
        Malformed,
    );
    let large = |src, len| Evidence {
        signs: signs(&[Ipv6Forwarding]),
        len: Some(len),
        ..between(src, "2001:db8:1::1")
    };
    assert_class("ip6_forward", &large("2001:db8::1", 1281), Link);
    assert_class("ip6_forward", &large("2001:db8::1", 1280), Unknown);
    assert_class("ip6_forward", &large("fe80::1", 1281), Unknown);
}

/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv4/ip_input.c>,
/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv6/ip6_input.c>
#[test]
fn an_unhandled_protocol_is_told_from_an_ipsec_policy() {
    for place in ["ip_protocol_deliver_rcu", "ip_local_deliver_finish"] {
        assert_class(place, &showing(&[]), NoListener);
        assert_class(place, &showing(&[Ipsec]), Unknown);
    }
    let v6 = |proto, dst| Evidence {
        proto: Some(proto),
        ..between("2001:db8::1", dst)
    };
    for place in ["ip6_protocol_deliver_rcu", "ip6_input_finish"] {
        assert_class(place, &v6(253, "2001:db8::2"), NoListener);
        assert_class(place, &v6(253, "ff02::1:3"), Unknown);
        assert_class(place, &v6(17, "2001:db8::2"), Unknown);
    }
}

/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv4/icmp.c>
#[test]
fn icmp_is_told_by_its_type() {
    let message = |kind, seen| Evidence {
        icmp_type: Some(kind),
        signs: signs(seen),
        ..between("192.0.2.1", "192.0.2.2")
    };
    assert_class("icmp_rcv", &message(8, &[BadChecksum]), Malformed);
    assert_class("icmp_rcv", &message(8, &[BadLength]), Malformed);
    // Above NR_ICMP_TYPES.
    assert_class("icmp_rcv", &message(19, &[]), NoListener);
    assert_class("icmp_rcv", &message(255, &[]), NoListener);
    // The extended echo, which later kernels handle.
    assert_class("icmp_rcv", &message(42, &[]), Unknown);
    // A quoted header that cannot be, and a ping to all.
    assert_class("icmp_rcv", &message(3, &[]), Malformed);
    assert_class("icmp_rcv", &message(8, &[]), Malformed);
    assert_class("icmp_rcv", &message(0, &[]), NoListener);
    assert_class("icmp_rcv", &message(0, &[ToAll]), Unknown);
    assert_class("icmp_rcv", &message(3, &[Ipsec]), Unknown);
}

/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv6/icmp.c>: whatever was
/// handled is freed at the end.
#[test]
fn icmpv6_that_was_handled_is_told_from_what_was_refused() {
    let message = |kind, seen| Evidence {
        icmp_type: Some(kind),
        quoted: Some(17),
        ..showing(seen)
    };
    for kind in [1, 2, 3, 4, 128, 132, 143] {
        assert_class("icmpv6_rcv", &message(kind, &[]), Benign);
        assert_class("icmpv6_rcv", &message(kind, &[BadChecksum]), Malformed);
        assert_class("icmpv6_rcv", &message(kind, &[BadLength]), Malformed);
        assert_class("icmpv6_rcv", &message(kind, &[Ipsec]), Unknown);
    }
    for kind in [135, 136] {
        assert_class("icmpv6_rcv", &message(kind, &[SoundDiscovery]), Benign);
        assert_class("icmpv6_rcv", &message(kind, &[]), Unknown);
    }
    assert_class("icmpv6_rcv", &message(128, &[EchoOff]), Unknown);
    assert_class("icmpv6_rcv", &message(129, &[]), NoListener);
    // A queue of group queries that is full, on some kernels.
    assert_class("icmpv6_rcv", &message(130, &[]), Unknown);
    let quotes_nothing = Evidence {
        quoted: None,
        ..message(1, &[])
    };
    assert_class("icmpv6_rcv", &quotes_nothing, Unknown);
    // Since 6.4 a handled message is not freed as a drop.
    let newer = |name: &str| name == "IPV6_NDISC_BAD_CODE";
    let text = derived("icmpv6_rcv", &message(1, &[]), newer);
    assert_eq!(text.map(|text| text.class), Some(Unknown));
}

/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv4/udp.c>
#[test]
fn udp_is_told_by_checksum_and_length() {
    let datagram = |seen| Evidence {
        proto: Some(17),
        ..showing(seen)
    };
    for place in ["__udp4_lib_rcv", "__udp6_lib_rcv", "udp_rcv", "udpv6_rcv"] {
        assert_class(place, &datagram(&[]), NoListener);
        assert_class(place, &datagram(&[BadChecksum]), Malformed);
        assert_class(place, &datagram(&[BadLength]), Malformed);
        assert_class(place, &datagram(&[Ipsec]), Unknown);
        // UDP-Lite's partial checksum is not seen.
        let lite = Evidence {
            proto: Some(136),
            ..showing(&[])
        };
        assert_class(place, &lite, Unknown);
    }
    let bare = |dst| Evidence {
        signs: signs(&[NoChecksum]),
        proto: Some(17),
        ..between("2001:db8::1", dst)
    };
    assert_class("__udp6_lib_rcv", &bare("2001:db8::2"), Malformed);
    assert_class("__udp6_lib_rcv", &bare("ff02::1"), Unknown);
}

/// `udp_csum_pull_header` stands between the filter and the queue.
/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv4/udp.c>
#[test]
fn a_full_udp_buffer_is_told_from_a_filter() {
    let datagram = |proto, seen| Evidence {
        proto: Some(proto),
        ..showing(seen)
    };
    for place in ["udp_queue_rcv_one_skb", "udpv6_queue_rcv_one_skb.isra.0"] {
        assert_class(place, &datagram(17, &[HeaderTaken]), Resource);
        assert_class(place, &datagram(17, &[]), Policy);
        assert_class(place, &datagram(17, &[BadChecksum]), Malformed);
        assert_class(place, &datagram(136, &[]), Unknown);
    }
}

/// <https://github.com/torvalds/linux/blob/v5.10/net/ipv4/tcp_ipv4.c>
#[test]
fn tcp_without_a_connection_is_told_by_checksum_and_reset() {
    for place in ["tcp_v4_rcv", "tcp_v6_rcv"] {
        assert_class(place, &showing(&[NoSocketReset]), NoListener);
        assert_class(place, &showing(&[BadChecksum]), Malformed);
        assert_class(place, &showing(&[BadLength]), Malformed);
        assert_class(place, &showing(&[LastSegment]), Benign);
        // A filter, a signature, IPsec, …
        assert_class(place, &showing(&[]), Unknown);
        // A segment in a frame to all is dropped before its checksum is looked at.
        assert_class(place, &showing(&[BadChecksum, ToAll]), Unknown);
    }
    for place in ["tcp_v4_do_rcv", "tcp_v6_do_rcv"] {
        assert_class(place, &showing(&[BadChecksum]), Malformed);
        assert_class(place, &showing(&[]), Unknown);
    }
}

/// Kernels with reasons for segments that fit no state free the rest without one.
/// <https://github.com/torvalds/linux/blob/v6.1/net/ipv4/tcp_input.c>
#[test]
fn a_bare_acknowledgement_is_benign_where_the_bad_ones_have_names() {
    let newer = |name: &str| name == "TCP_CLOSE";
    let of = |evidence: &Evidence| {
        derived("tcp_rcv_state_process.isra.0", evidence, newer).map(|text| text.class)
    };
    assert_eq!(of(&showing(&[BareAck])), Some(Benign));
    assert_eq!(of(&showing(&[])), Some(Unknown));
}
