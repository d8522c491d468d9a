//! What it means that a function freed a packet without giving a reason.
//!
//! Kernels before 5.17 give none at all, later ones still leave gaps. Read from
//! the sources of 5.10, 6.1, 6.12 and 7.3. A function stands here with a class
//! only if that is what it frees packets for (a rare "no memory" beside it does
//! not count); one that frees for unlike causes, or also when all is well, has
//! class unknown and says what it may have been. What the packet shows is asked
//! first: see `derived.rs`.
//!
//! Functions that are inlined everywhere do not show up as a place.

use super::{Text, texts};

/// Sorted by name.
pub(super) static TEXTS: &[Text] = texts! {
    "__allowed_ingress" Policy
        "the bridge port does not admit frames of this VLAN"
        => "see the port's VLANs: bridge vlan show dev IF";
    "__br_forward" Link
        "the bridge could not pass the frame on"
        => "see the ports: bridge -d link show";
    "__dev_direct_xmit" Link
        "the interface could not send the packet: it is down or its queue is stopped"
        => "see its state: ip -s link show dev IF";
    "__dev_forward_skb" Link
        "the device at the other end is down, or the frame is larger than its MTU"
        => "see both ends: ip -d link show dev IF";
    "__dev_forward_skb2" Link
        "the device at the other end is down, or the frame is larger than its MTU"
        => "see both ends: ip -d link show dev IF";
    "__dev_kfree_skb_any" Unknown
        "a driver gave the packet up; some drivers free packets they have sent this way"
        => "see the driver's counters: ethtool -S IF";
    "__dev_queue_xmit" Unknown
        "the packet was not sent: a tc rule, an interface that is down, or a device loop"
        => "see the interface and its rules: ip -s link show dev IF; tc -s filter show dev IF egress";
    "__first_packet_length" Malformed
        "the UDP checksum is wrong";
    "__ip_queue_xmit" Routing
        "there is no route to the destination"
        => "check the route: ip route get ADDR";
    "__neigh_event_send" Neighbour
        "the next hop's link address is not known, or too many packets wait for it"
        => "see its state (FAILED or INCOMPLETE): ip neigh show dev IF; ip route get ADDR";
    "__neigh_update" Neighbour
        "packets waited for a next hop that has become unusable"
        => "see the entry: ip neigh show dev IF";
    "__netif_receive_skb_core" Unknown
        "the packet was not taken up: nothing handles its protocol, or a tc rule dropped it"
        => "see the rules: tc -s filter show dev IF ingress";
    "__ping_queue_rcv_skb" Unknown
        "the ping program's socket did not take the packet: full buffer or filter";
    "__rtnl_unlock" Link
        "the packet was in a send queue that was emptied by a change of configuration";
    "__sk_receive_skb" Unknown
        "the socket did not take the packet: a filter, or too many packets waiting";
    "__udp4_lib_mcast_deliver" NoListener
        "no socket on this machine takes this UDP broadcast or multicast"
        => "see who listens: ss -lun; ip maddress show";
    "__udp4_lib_rcv" Unknown
        "no socket listens on this UDP port, or the datagram is broken, or IPsec refused it"
        => "see who listens: ss -lun; see which counters rise: nstat -az | grep ^Udp";
    "__udp6_lib_mcast_deliver" NoListener
        "no socket on this machine takes this UDP multicast"
        => "see who listens: ss -lun; ip maddress show";
    "__udp6_lib_rcv" Unknown
        "no socket listens on this UDP port, or the datagram is broken, or IPsec refused it"
        => "see who listens: ss -lun; see which counters rise: nstat -az | grep ^Udp";
    "__udp_enqueue_schedule_skb" Resource
        "the UDP socket's buffer or the memory for UDP is full: the program reads too slowly"
        => "see d (drops) in: ss -uanm; raise the limit: sysctl net.core.rmem_max";
    "__udp_queue_rcv_skb" Resource
        "the UDP socket's buffer or the memory for UDP is full: the program reads too slowly"
        => "see d (drops) in: ss -uanm; raise the limit: sysctl net.core.rmem_max";
    "__udpv6_queue_rcv_skb" Resource
        "the UDP socket's buffer or the memory for UDP is full: the program reads too slowly"
        => "see d (drops) in: ss -uanm; raise the limit: sysctl net.core.rmem_max";
    "arp_error_report" Neighbour
        "the next hop did not answer ARP"
        => "see its state (FAILED or INCOMPLETE): ip neigh show dev IF; ip route get ADDR";
    "arp_process" Unknown
        "an ARP message ended here; this kernel does not say why";
    "arp_rcv" Malformed
        "the ARP message is broken";
    "blackhole_neigh_output" Link
        "the packet was on its way through an interface that was removed";
    "blackhole_netdev_xmit" Link
        "the packet was on its way through an interface that was removed";
    "br_dev_queue_push_xmit" Link
        "the frame is larger than the bridge port's MTU"
        => "compare the MTUs: ip link show; bridge link";
    "br_dev_xmit" Unknown
        "the bridge did not send the frame; this kernel does not say why";
    "br_flood" Link
        "the bridge has no port to send the frame to"
        => "see the ports: bridge -d link show";
    "br_forward" Link
        "the bridge port that leads to the receiver does not take the frame"
        => "see ports and addresses: bridge -d link show; bridge fdb show";
    "br_handle_frame" Unknown
        "the bridge did not take the frame: a blocked port, or one that is not for forwarding"
        => "see the port's state: bridge -d link show dev IF";
    "br_handle_frame_finish" Unknown
        "the bridge port is learning, off or locked, or multicast snooping refused the frame"
        => "see the port's state: bridge -d link show dev IF";
    "br_handle_vlan" Policy
        "the bridge port is not a member of the frame's VLAN"
        => "see the port's VLANs: bridge vlan show dev IF";
    "br_multicast_flood" Link
        "the bridge has no port to send the multicast frame to"
        => "see ports and groups: bridge -d link show; bridge mdb show";
    "br_pass_frame_up" Policy
        "the bridge itself is not a member of the frame's VLAN"
        => "see its VLANs: bridge vlan show";
    // It frees each message here, also the ones that it has acted upon.
    "br_stp_rcv" Benign
        "a spanning tree message was read";
    "cake_dequeue" Resource
        "the cake queue dropped the packet early to make its sender slow down"
        => "see the queue: tc -s qdisc show dev IF";
    "codel_qdisc_dequeue" Resource
        "the codel queue dropped the packet early to make its sender slow down"
        => "see the queue: tc -s qdisc show dev IF";
    "dev_kfree_skb_any_reason" Unknown
        "a driver gave the packet up; some drivers free packets they have sent this way"
        => "see the driver's counters: ethtool -S IF";
    "do_xdp_generic" Policy
        "an XDP program dropped the packet"
        => "see the program: bpftool net show dev IF";
    "dst_discard_out" Routing
        "the route discards packets (blackhole) or was just removed"
        => "check the route: ip route get ADDR";
    "enqueue_to_backlog" Resource
        "a CPU's queue of received packets is full"
        => "raise it: sysctl net.core.netdev_max_backlog; counts per CPU: cat /proc/net/softnet_stat";
    "flush_backlog" Link
        "the packet was received on an interface that was just removed";
    "fq_codel_dequeue" Resource
        "the fq_codel queue dropped the packet early to make its sender slow down"
        => "see the queue: tc -s qdisc show dev IF";
    "icmp_rcv" Unknown
        "an ICMP message ended here: broken, ignored by a setting, or of no use";
    "icmpv6_param_prob" Malformed
        "an IPv6 header field is not valid; the sender was told so";
    "icmpv6_param_prob_reason" Malformed
        "an IPv6 header field is not valid; the sender was told so";
    "icmpv6_rcv" Unknown
        "an ICMPv6 message ended here: broken, ignored by a setting, or of no use";
    "igmp6_event_query" Resource
        "too many MLD (group membership) queries at a time";
    "igmp6_event_report" Resource
        "too many MLD (group membership) reports at a time";
    "igmp6_send" Unknown
        "an MLD (group membership) message could not be sent";
    // Queries and reports that need no answer end here too, its own included.
    "igmp_rcv" Unknown
        "an IGMP (group membership) message ended here, often one that needs no answer";
    "inet_frag_rbtree_purge" Peer
        "fragments were given up: the rest of their packet did not arrive in time"
        => "compare IpReasmTimeout and IpReasmFails: nstat -az";
    "inet_sock_destruct" Benign
        "the data was still in a queue of the socket when it was closed";
    "ip6_finish_output" Policy
        "a BPF program of the sender's control group dropped the packet"
        => "list the programs: bpftool cgroup tree";
    "ip6_finish_output2" Unknown
        "the packet was not sent: full neighbour table, or multicast that stays here"
        => "compare its size with the limit: ip -6 neigh | wc -l; sysctl net.ipv6.neigh.default.gc_thresh3";
    "ip6_forward" Unknown
        "the packet was not forwarded: hop limit, size, address or IPsec policy"
        => "see the counters: nstat -az | grep ^Ip6In; tracepath -6 ADDR";
    "ip6_fragment" Link
        "the packet is larger than the MTU and could not be fragmented"
        => "compare the MTUs: ip -6 route get ADDR; ip link show";
    "ip6_input_finish" Unknown
        "the packet was not delivered: nothing handles its protocol, or an IPsec policy refused";
    "ip6_mc_input" NoListener
        "no program on this machine joined the IPv6 multicast group"
        => "see the groups joined: ip -6 maddress show dev IF";
    "ip6_mr_forward" Routing
        "the IPv6 multicast packet is not to be forwarded anywhere, or came in the wrong way"
        => "see the multicast routes: ip -6 mroute show";
    "ip6_mr_input" Unknown
        "the IPv6 multicast packet was not forwarded; this kernel does not say why"
        => "see the multicast routes: ip -6 mroute show";
    "ip6_output" Policy
        "IPv6 is switched off on the interface"
        => "see the switch: sysctl net.ipv6.conf.IF.disable_ipv6";
    "ip6_parse_tlv" Malformed
        "an IPv6 extension header is not valid";
    "ip6_pkt_discard" Routing
        "there is no route to the destination"
        => "check the route: ip -6 route get ADDR";
    "ip6_pkt_discard_out" Routing
        "there is no route to the destination"
        => "check the route: ip -6 route get ADDR";
    "ip6_pkt_drop" Routing
        "there is no route to the destination, or one that refuses"
        => "check the route: ip -6 route get ADDR";
    "ip6_pkt_prohibit" Routing
        "the route prohibits the destination"
        => "check the route: ip -6 route get ADDR";
    "ip6_pkt_prohibit_out" Routing
        "the route prohibits the destination"
        => "check the route: ip -6 route get ADDR";
    "ip6_protocol_deliver_rcu" Unknown
        "the packet was not delivered: nothing handles its protocol, or an IPsec policy refused";
    "ip6_rcv_core" Unknown
        "the IPv6 packet was refused: broken, IPv6 off, or for another machine"
        => "see the counters: nstat -az | grep ^Ip6In";
    "ip6_tlvopt_unknown" Malformed
        "the packet has an IPv6 option that this machine does not know";
    "ip6_xmit" Link
        "the packet is larger than the MTU and must not be fragmented"
        => "compare the MTUs: ip -6 route get ADDR; ip link show";
    "ip_check_defrag" Malformed
        "the packet is too short for its headers";
    "ip_defrag" Resource
        "there is no memory left for putting fragments together"
        => "compare: sysctl net.ipv4.ipfrag_high_thresh; grep FRAG /proc/net/sockstat";
    "ip_do_fragment" Resource
        "the packet could not be fragmented: no memory, or its headers leave no room";
    "ip_error" Routing
        "there is no route for the packet, or forwarding is off"
        => "check the route and forwarding: ip route get ADDR; sysctl net.ipv4.ip_forward";
    "ip_expire" Peer
        "the other fragments of the packet did not arrive in time"
        => "compare IpReasmTimeout and IpReasmFails: nstat -az";
    "ip_finish_output" Policy
        "a BPF program of the sender's control group dropped the packet"
        => "list the programs: bpftool cgroup tree";
    "ip_finish_output2" Neighbour
        "the neighbour table had no room for the next hop"
        => "compare its size with the limit: ip neigh | wc -l; sysctl net.ipv4.neigh.default.gc_thresh3";
    "ip_finish_output_gso" Malformed
        "the large packet could not be split into segments"
        => "try without the offload: ethtool -K IF tso off gso off";
    "ip_forward" Unknown
        "the packet was not forwarded: time to live, size, source route or IPsec policy"
        => "see the counters: nstat -az | grep ^Ip; tracepath ADDR";
    "ip_frag_queue" Unknown
        "the fragment was refused: a repeat, an overlap, or broken";
    "ip_fragment" Link
        "the packet is larger than the MTU and must not be fragmented"
        => "compare the MTUs: ip route get ADDR; ip link show";
    "ip_local_deliver_finish" Unknown
        "the packet was not delivered: nothing handles its protocol, or an IPsec policy refused";
    "ip_mc_finish_output" Policy
        "a BPF program of the sender's control group dropped the packet"
        => "list the programs: bpftool cgroup tree";
    // The copy for the wire of a packet that may not leave this machine.
    "ip_mc_output" Benign
        "the multicast packet has time to live 0 and stays on this machine";
    "ip_mr_forward" Routing
        "the multicast packet is not to be forwarded anywhere, or came in the wrong way"
        => "see the multicast routes: ip mroute show";
    "ip_mr_input" Unknown
        "the multicast packet was not forwarded; this kernel does not say why"
        => "see the multicast routes: ip mroute show";
    "ip_protocol_deliver_rcu" Unknown
        "the packet was not delivered: nothing handles its protocol, or an IPsec policy refused";
    "ip_rcv_core" Unknown
        "the IPv4 packet was refused: broken, or for another machine's MAC address"
        => "see the counters: nstat -az | grep ^IpIn";
    "ip_rcv_finish_core" Unknown
        "not routed: reverse path filter, an impossible address, or a group that nobody joined"
        => "compare: ip route get SRC; sysctl net.ipv4.conf.IF.rp_filter; nstat -az TcpExtIPReversePathFilter";
    "ip_rt_bug" Unknown
        "the kernel reports a bug in its routing"
        => "see kernel messages: dmesg";
    "ipv6_frag_rcv" Unknown
        "the fragment was refused: broken, or no memory for putting it together";
    "ipv6_rthdr_rcv" Malformed
        "the packet has an IPv6 routing header that this machine does not accept";
    "ipvlan_multicast_enqueue" Resource
        "the ipvlan device's queue of multicast packets is full"
        => "see which device floods: ip -s link show type ipvlan";
    // A list carries drops of a full queue as well as parts of one packet.
    "kfree_skb_list" Unknown
        "one of several packets freed together, for example by a full send queue"
        => "see the queues: tc -s qdisc show";
    "kfree_skb_list_reason" Unknown
        "one of several packets freed together; this kernel does not say why";
    "llc_rcv" NoListener
        "nothing on this machine handles the frame's protocol (LLC)";
    "macvlan_broadcast_enqueue" Resource
        "the macvlan device's queue of broadcast packets is full"
        => "see the limit and which device floods: ip -d -s link show type macvlan";
    "mld_sendpack" Unknown
        "an MLD (group membership) message could not be sent";
    "ndisc_error_report" Neighbour
        "the next hop did not answer neighbour discovery"
        => "see its state (FAILED or INCOMPLETE): ip -6 neigh show dev IF; ip -6 route get ADDR";
    "neigh_blackhole" Neighbour
        "the next hop's neighbour entry was just being deleted"
        => "see the entry: ip neigh show dev IF";
    "neigh_connected_output" Neighbour
        "the link header for the next hop could not be written"
        => "see the entry: ip neigh show dev IF";
    "neigh_destroy" Neighbour
        "packets waited for a next hop whose neighbour entry was deleted"
        => "see the entry: ip neigh show dev IF";
    "neigh_flush_dev" Neighbour
        "packets waited for a next hop on an interface that went down"
        => "see its state: ip link show dev IF";
    "neigh_invalidate" Neighbour
        "the next hop did not answer ARP or neighbour discovery"
        => "see its state (FAILED or INCOMPLETE): ip neigh show dev IF; ip route get ADDR";
    "neigh_resolve_output" Neighbour
        "the link header for the next hop could not be written"
        => "see the entry: ip neigh show dev IF";
    "neigh_timer_handler" Neighbour
        "the next hop did not answer ARP or neighbour discovery"
        => "see its state (FAILED or INCOMPLETE): ip neigh show dev IF; ip route get ADDR";
    "neigh_xmit" Neighbour
        "the next hop's neighbour entry or link header could not be made"
        => "see the entries: ip neigh show dev IF";
    "net_tx_action" Unknown
        "a driver gave the packet up; some drivers free packets they have sent this way"
        => "see the driver's counters: ethtool -S IF";
    "netif_receive_generic_xdp" Policy
        "an XDP program dropped the packet"
        => "see the program: bpftool net show dev IF";
    "nf_ct_frag6_queue" Unknown
        "the IPv6 fragment was refused: a repeat, an overlap, or broken";
    "nf_hook_slow" Policy
        "a netfilter rule or hook dropped the packet"
        => "find the rule: nft -a list ruleset; for the legacy tools: iptables-save -c";
    "nf_queue" Policy
        "a rule hands such packets to a program, and none takes them or its queue is full"
        => "see the queues: cat /proc/net/netfilter/nfnetlink_queue";
    "nf_reinject" Policy
        "the program that a rule hands such packets to dropped the packet"
        => "see the queues: cat /proc/net/netfilter/nfnetlink_queue";
    "nft_commit_notify" Benign
        "a message about a rule set (netlink) was put together with others";
    "nft_do_chain" Policy
        "an nftables rule dropped the packet"
        => "find the rule: nft -a list ruleset";
    "packet_rcv" Resource
        "a packet capture missed its copy: its buffer was full"
        => "give it a larger buffer (tcpdump -B) or a narrower filter; see ss -0 -m";
    "packet_release" Benign
        "the data was still in a queue of the socket when it was closed";
    "packet_sock_destruct" Benign
        "the data was still in a queue of the socket when it was closed";
    "pfifo_fast_reset" Link
        "the packet was in a send queue that was emptied: interface down or queue replaced";
    "ping_queue_rcv_skb" Unknown
        "the ping program's socket did not take the packet: full buffer or filter";
    "qdisc_reset" Link
        "the packet was in a send queue that was emptied: interface down or queue replaced";
    "raw_rcv" Unknown
        "the raw socket did not take its copy: full buffer, filter or IPsec policy";
    "raw_rcv_skb" Unknown
        "the raw socket did not take its copy: full buffer or filter";
    "rawv6_rcv" Unknown
        "the raw socket did not take its copy: wrong checksum or IPsec policy";
    "rawv6_rcv_skb" Unknown
        "the raw socket did not take its copy: full buffer, filter or wrong checksum";
    "run_lwt_bpf" Policy
        "a BPF program on the route dropped the packet"
        => "see the route: ip -d route get ADDR";
    "sk_psock_backlog" Unknown
        "a sockmap program redirected data that could not be passed on";
    "sk_stream_kill_queues" Benign
        "the data was still in a queue of the socket when it was closed";
    "skb_do_redirect" Link
        "a BPF program sent the packet to an interface that did not take it"
        => "see the interfaces: ip -s link show";
    "skb_errqueue_purge" Benign
        "the notice was still in a queue of the socket when it was closed";
    "skb_kill_datagram" Malformed
        "the checksum was found wrong when the program read the datagram";
    "skb_queue_purge" Benign
        "the packet was still in a queue that was emptied, usually of a closed socket";
    "skb_queue_purge_reason" Benign
        "the packet was still in a queue that was emptied, usually of a closed socket";
    "skb_rbtree_purge" Benign
        "the packet was still in a queue that was emptied, usually of a closed socket";
    // The packet whose part it is was delivered, or has a record of its own.
    "skb_release_data" Benign
        "a part of a packet that ended elsewhere";
    "skb_vlan_untag" Malformed
        "the VLAN header is broken";
    "tap_handle_frame" Resource
        "the queue to the program or virtual machine behind the tap device is full"
        => "that reader is too slow; a longer queue helps bursts: ip link set dev IF txqueuelen 5000";
    "tbf_segment" Resource
        "the packet is larger than the tbf queue can ever let through"
        => "raise its burst: tc -s qdisc show dev IF";
    "tcp_data_queue" Unknown
        "TCP did not take the segment's data: received before, too far ahead, or no room"
        => "see which counters rise: nstat TcpExt*";
    "tcp_data_queue_ofo" Unknown
        "TCP did not keep out-of-order data: received before, or no room"
        => "see which counters rise: nstat TcpExt*";
    "tcp_disconnect" Benign
        "the data was unread when the program disconnected";
    "tcp_drop" Unknown
        "TCP dropped the segment; this kernel does not say why"
        => "see which counters rise: nstat TcpExt*";
    "tcp_drop_reason" Unknown
        "TCP dropped the segment; this kernel does not say why"
        => "see which counters rise: nstat TcpExt*";
    "tcp_ofo_queue" Unknown
        "out-of-order data was given up; this kernel does not say why"
        => "see which counters rise: nstat TcpExt*";
    "tcp_prune_ofo_queue" Resource
        "memory for the socket ran out, so out-of-order data was thrown away"
        => "see the counters: nstat -az TcpExtOfoPruned TcpExtTCPOFODrop; sysctl net.ipv4.tcp_rmem";
    "tcp_rcv_established" Unknown
        "TCP dropped a segment of an open connection; this kernel does not say why"
        => "see which counters rise: nstat TcpExt*";
    // Acknowledgements that end a closing connection's last step come here too.
    "tcp_rcv_state_process" Unknown
        "a segment ended in a connection that opens or closes; often all is well"
        => "see which counters rise: nstat TcpExt*";
    "tcp_v4_do_rcv" Unknown
        "TCP refused the segment: wrong state, cookie or checksum; this kernel does not say"
        => "see which counters rise: nstat TcpExt*";
    // The last segments of a connection in TIME_WAIT end here as well.
    "tcp_v4_rcv" Unknown
        "no socket took the segment: a closed port, a late segment, a filter or a bad checksum"
        => "see who listens: ss -ltn; see which counters rise: nstat Tcp*";
    "tcp_v6_do_rcv" Unknown
        "TCP refused the segment: wrong state, cookie or checksum; this kernel does not say"
        => "see which counters rise: nstat TcpExt*";
    "tcp_v6_rcv" Unknown
        "no socket took the segment: a closed port, a late segment, a filter or a bad checksum"
        => "see who listens: ss -ltn; see which counters rise: nstat Tcp*";
    "tcp_validate_incoming" Unknown
        "the segment's sequence number, timestamp or flags do not fit the connection"
        => "see which counters rise: nstat TcpExt*";
    "tpacket_rcv" Resource
        "a packet capture missed its copy: its ring buffer was full"
        => "give it a larger buffer (tcpdump -B) or a narrower filter; see ss -0 -m";
    "tun_get_user" Unknown
        "the program or virtual machine behind the tun device sent a packet that was refused";
    "tun_net_xmit" Unknown
        "the tun device did not take the packet: full queue, a filter, or nobody reads it"
        => "see who reads it: ip -d -s link show dev IF; ip tuntap list";
    "tunnel4_rcv" NoListener
        "no tunnel interface on this machine takes the packet"
        => "list the tunnels: ip -d tunnel show";
    "tunnel6_rcv" NoListener
        "no tunnel interface on this machine takes the packet"
        => "list the tunnels: ip -d -6 tunnel show";
    "udp_destruct_common" Benign
        "the data was unread when the socket was closed";
    "udp_queue_rcv_one_skb" Unknown
        "the UDP socket refused the datagram: a filter, an IPsec policy or a bad checksum"
        => "see filters and counters: ss -uanp --bpf; nstat -az UdpInCsumErrors";
    "udp_rcv" Unknown
        "no socket listens on this UDP port, or the datagram is broken, or IPsec refused it"
        => "see who listens: ss -lun; see which counters rise: nstat -az | grep ^Udp";
    "udp_read_skb" Malformed
        "the UDP checksum is wrong";
    "udp_recvmsg" Malformed
        "the UDP checksum was found wrong when the program read the datagram";
    "udpv6_queue_rcv_one_skb" Unknown
        "the UDP socket refused the datagram: a filter, an IPsec policy or a bad checksum"
        => "see filters and counters: ss -uanp --bpf; nstat -az Udp6InCsumErrors";
    "udpv6_rcv" Unknown
        "no socket listens on this UDP port, or the datagram is broken, or IPsec refused it"
        => "see who listens: ss -lun; see which counters rise: nstat -az | grep ^Udp";
    "udpv6_recvmsg" Malformed
        "the UDP checksum was found wrong when the program read the datagram";
    "validate_xmit_skb" Unknown
        "the packet could not be made ready for the interface: splitting, checksum or tag failed"
        => "see the offloads: ethtool -k IF";
    "veth_xdp_rcv_skb" Policy
        "an XDP program on the veth device dropped the packet"
        => "see the program: bpftool net show dev IF";
    "veth_xmit" Unknown
        "the veth device has no other end any more, or the queue to its XDP program is full"
        => "see both ends: ip -d link show dev IF";
    "vlan_do_receive" Link
        "the frame's VLAN interface is down"
        => "see its state: ip -d link show type vlan";
    "wg_xmit" Routing
        "no WireGuard peer is set up for the destination, or its address is not known"
        => "see allowed-ips and endpoints: wg show IF";
    "xfrm_input" Unknown
        "IPsec did not accept the packet"
        => "see which counter rises: cat /proc/net/xfrm_stat";
    "xfrm_output" Unknown
        "IPsec could not protect the packet"
        => "see which counter rises: cat /proc/net/xfrm_stat";
    "xfrm_output_one" Unknown
        "IPsec could not protect the packet"
        => "see which counter rises: cat /proc/net/xfrm_stat";
    "xfrm_policy_queue_process" Unknown
        "packets waited for an IPsec association that did not come about"
        => "see which counter rises: cat /proc/net/xfrm_stat";
};

/// Whole families of functions, by how their names begin. All of them carry
/// messages between programs on this machine, or between a program and the
/// kernel, not packets.
pub(super) static PREFIXES: &[Text] = texts! {
    "__netlink_" Benign
        "a message between a program and the kernel (netlink) was freed";
    "__unix_" Benign
        "a message between programs on this machine (unix socket) was freed";
    "netlink_" Benign
        "a message between a program and the kernel (netlink) was freed";
    "nf_tables_" Benign
        "a message about a rule set (netlink) was put together with others, or freed";
    "nfnetlink_" Benign
        "a message between a program and netfilter (netlink) was freed";
    "rtnetlink_" Benign
        "a message between a program and the kernel (netlink) was freed";
    "unix_" Benign
        "a message between programs on this machine (unix socket) was freed";
};
