//! The reasons of `enum skb_drop_reason`, by name, of every kernel since 5.17.
//!
//! Where a name alone does not settle the class, the comment says what decided:
//! [where the kernel uses it](https://github.com/torvalds/linux/blob/v6.18/include/net/dropreason-core.h).
//! Benign is only what costs nobody any payload, connection or waiting time.

use super::{Text, texts};

/// Sorted by name.
pub(super) static TEXTS: &[Text] = texts! {
    // Asked for by ARP, but proxying between hosts on one interface is off:
    // the asked host itself answers.
    "ARP_PVLAN_DISABLE" Benign
        "the ARP request asks for a host on the same interface, which answers for itself";
    "BPF_CGROUP_EGRESS" Policy
        "a BPF program of the sender's control group dropped the packet"
        => "list the programs: bpftool cgroup tree";
    "BRIDGE_INGRESS_STP_STATE" Link
        "the bridge port is blocked, learning or off, so it takes no frames"
        => "see the port's state: bridge -d link show dev IF";
    "CAKE_FLOOD" Resource
        "the cake queue dropped from a flow that does not slow down"
        => "see the queue: tc -s qdisc show dev IF";
    "CANFD_RX_INVALID_FRAME" Malformed
        "the CAN FD frame is not valid, or the device cannot receive such frames";
    "CANXL_RX_INVALID_FRAME" Malformed
        "the CAN XL frame is not valid, or the device cannot receive such frames";
    "CAN_RX_INVALID_FRAME" Malformed
        "the CAN frame is not valid, or the device cannot receive such frames";
    "CONSUMED" Benign
        "the packet was used up as intended";
    "CPU_BACKLOG" Resource
        "a CPU's queue of received packets is full"
        => "raise it: sysctl net.core.netdev_max_backlog; counts per CPU: cat /proc/net/softnet_stat";
    "DEV_HDR" Malformed
        "the header that a driver or a virtual machine put on the packet is not valid";
    "DEV_READY" Link
        "the network device is down or not ready"
        => "see its state: ip -d link show dev IF";
    "DUALPI2_STEP_DROP" Resource
        "the dualpi2 queue dropped the packet since it had waited too long"
        => "see the queue: tc -s qdisc show dev IF";
    // Only the repeated fragment goes; the one that came first stays queued.
    "DUP_FRAG" Benign
        "the fragment was already received";
    "FQ_BAND_LIMIT" Resource
        "the fq queue holds too many packets of this priority"
        => "see the queue: tc -s qdisc show dev IF";
    "FQ_FLOW_LIMIT" Resource
        "the fq queue holds too many packets of this flow"
        => "see flows_plimit in: tc -s qdisc show dev IF";
    "FQ_HORIZON_LIMIT" Resource
        "the packet asks to be sent too far in the future for the fq queue"
        => "see horizon_drops in: tc -s qdisc show dev IF";
    "FRAG_REASM_TIMEOUT" Peer
        "the other fragments of the packet did not arrive in time"
        => "compare IpReasmTimeout and IpReasmFails: nstat -az; look for loss or an MTU limit on the path";
    "FRAG_TOO_FAR" Resource
        "too many fragments of other packets came between those of this one"
        => "see the limit: sysctl net.ipv4.ipfrag_max_dist";
    "FULL_RING" Resource
        "the queue to the program or virtual machine behind the device is full"
        => "that reader is too slow; a longer queue helps bursts: ip link set dev IF txqueuelen 5000";
    "HDR_TRUNC" Malformed
        "the packet ends inside its headers";
    "ICMP_CSUM" Malformed
        "the ICMP checksum is wrong"
        => "if all of one interface are wrong, suspect its offloads: ethtool -k IF";
    // Broadcast pings and timestamps (RFC 1122 lets a host ignore them) and
    // multicast that is not IP.
    "INVALID_PROTO" Malformed
        "the message is not one that may be sent this way, such as a ping to a broadcast address";
    "IPV6DISABLED" Policy
        "IPv6 is switched off on the interface"
        => "see the switch: sysctl net.ipv6.conf.IF.disable_ipv6";
    "IPV6_BAD_EXTHDR" Malformed
        "an IPv6 extension header is not valid";
    "IPV6_NDISC_BAD_CODE" Malformed
        "the IPv6 neighbour discovery message has an ICMP code other than 0";
    "IPV6_NDISC_BAD_OPTIONS" Malformed
        "the IPv6 neighbour discovery message has broken options";
    "IPV6_NDISC_FRAG" Malformed
        "the IPv6 neighbour discovery message is fragmented, which is not allowed";
    "IPV6_NDISC_HOP_LIMIT" Malformed
        "the IPv6 neighbour discovery message was routed: its hop limit is not 255";
    // One multicast group serves many addresses, so such questions reach hosts
    // that they are not for.
    "IPV6_NDISC_NS_OTHERHOST" Benign
        "the neighbour solicitation asks for another host";
    "IPV6_TOO_MANY_EXTHDRS" Malformed
        "the IPv6 packet has more extension headers than the kernel accepts";
    "IPVLAN_MULTICAST_BACKLOG" Resource
        "the ipvlan device's queue of multicast packets is full"
        => "see which device floods: ip -s link show type ipvlan";
    "IP_CSUM" Malformed
        "the IPv4 header checksum is wrong"
        => "if all of one interface are wrong, suspect its offloads: ethtool -k IF";
    "IP_INADDRERRORS" Routing
        "there is no route for the packet: the host is unreachable or forwarding is off"
        => "check the route and forwarding: ip route get ADDR; sysctl net.ipv4.ip_forward";
    // Also used for a hop count that ran out while forwarding.
    "IP_INHDR" Malformed
        "the IP header is broken, or the packet's time to live ran out"
        => "if the time to live is 1, look for a routing loop: tracepath ADDR";
    "IP_INNOROUTES" Routing
        "there is no route for the packet: the network is unreachable"
        => "check the route: ip route get ADDR";
    "IP_INVALID_DEST" Malformed
        "the destination address is not one that a packet may go to";
    "IP_INVALID_SOURCE" Malformed
        "the source address is not one that a packet may come from";
    "IP_LOCALNET" Routing
        "a loopback address (127.0.0.0/8) showed up outside the loopback interface"
        => "if redirected to loopback on purpose: sysctl net.ipv4.conf.IF.route_localnet";
    "IP_LOCAL_SOURCE" Routing
        "a packet came in with an address of this machine as its source"
        => "look for a duplicate address or a loop: ip -br address";
    "IP_NOPROTO" NoListener
        "nothing on this machine handles the packet's IP protocol";
    "IP_OUTNOROUTES" Routing
        "there is no route to the destination"
        => "check the route: ip route get ADDR";
    "IP_RPFILTER" Routing
        "reverse path filter: replies to the source would leave by another interface"
        => "compare: ip route get SRC; sysctl net.ipv4.conf.IF.rp_filter (2 is the loose mode)";
    "IP_TUNNEL_ECN" Malformed
        "inner and outer header of the tunnelled packet contradict each other about congestion";
    // The sender's own multicast or flooded frame coming back to it.
    "LOCAL_MAC" Benign
        "the tunnel brought back a frame of its own"
        => "if it goes on, look for a loop or a duplicate MAC address: bridge fdb show";
    "MACVLAN_BROADCAST_BACKLOG" Resource
        "the macvlan device's queue of broadcast packets is full"
        => "see the limit and which device floods: ip -d -s link show type macvlan";
    // Pause frames end at the first device by design.
    "MAC_IEEE_MAC_CONTROL" Benign
        "an Ethernet control frame (such as pause) is not for forwarding";
    "MAC_INVALID_SOURCE" Malformed
        "the frame's source MAC address is not valid";
    "NEIGH_CREATEFAIL" Neighbour
        "the neighbour table had no room for the next hop"
        => "compare its size with the limit: ip -s neigh | wc -l; sysctl net.ipv4.neigh.default.gc_thresh3";
    "NEIGH_DEAD" Neighbour
        "the next hop's neighbour entry was just being deleted"
        => "see the entry: ip neigh show dev IF";
    "NEIGH_FAILED" Neighbour
        "the next hop did not answer ARP or neighbour discovery"
        => "see its state (FAILED or INCOMPLETE): ip neigh show dev IF; ip route get ADDR";
    "NEIGH_HH_FILLFAIL" Neighbour
        "the link header for the next hop could not be written"
        => "see the entry: ip neigh show dev IF";
    "NEIGH_QUEUEFULL" Neighbour
        "too many packets wait for the next hop to answer ARP or neighbour discovery"
        => "see its state (FAILED or INCOMPLETE): ip neigh show dev IF; ip route get ADDR";
    "NETFILTER_DROP" Policy
        "a netfilter rule or hook dropped the packet"
        => "find the rule: nft -a list ruleset; for the legacy tools: iptables-save -c";
    "NOMEM" Resource
        "the kernel could not get memory for the packet"
        => "see memory and kernel messages: free -m; dmesg | grep -i allocation";
    "NOT_DROPPED_YET" Unknown
        "the kernel gives no reason";
    "NOT_SPECIFIED" Unknown
        "the kernel gives no reason";
    "NO_SOCKET" NoListener
        "no socket matches: nothing listens on the port, or the connection is gone"
        => "see who listens, on which address: ss -ltn (TCP), ss -lun (UDP)";
    "NO_TX_TARGET" Link
        "the bridge or tunnel has no port or peer to send the frame to"
        => "see ports and addresses: bridge link; bridge fdb show dev IF";
    // Promiscuous mode or a flooding switch brings in frames for other MAC
    // addresses; they reach their owner by another way. The same goes for a VLAN
    // that this machine has no interface for, hence the advice.
    "OTHERHOST" Benign
        "the frame is for another machine's MAC address or for an unknown VLAN"
        => "if it should be for this machine, compare MAC and VLAN: ip -d link show dev IF";
    // The copy for a capture is lost; the packet itself goes its way.
    "PACKET_SOCK_ERROR" Resource
        "a packet capture missed its copy: its buffer was full"
        => "give it a larger buffer (tcpdump -B) or a narrower filter; see ss -0 -m";
    "PFMEMALLOC" Resource
        "memory is so short that the kernel used its emergency reserve and gave the packet up"
        => "see memory: free -m; sysctl vm.min_free_kbytes; nstat -az TcpExtPFMemallocDrop";
    "PKT_TOO_BIG" Link
        "the packet is larger than the interface or the route allows and must not be fragmented"
        => "compare the MTUs: ip route get ADDR; ip link show; tracepath ADDR";
    "PKT_TOO_SMALL" Malformed
        "the packet is shorter than its headers say";
    "PROTO_MEM" Resource
        "the memory limit of the protocol or socket is reached"
        => "compare use and limits: cat /proc/net/sockstat; sysctl net.ipv4.udp_mem net.ipv4.tcp_mem";
    "PSP_INPUT" Policy
        "the connection's PSP encryption and that of the received packet do not match";
    "PSP_OUTPUT" Policy
        "the packet could not be sent under the connection's PSP encryption";
    "PTYPE_ABSENT" NoListener
        "nothing on this machine handles the frame's protocol";
    "QDISC_BURST_DROP" Resource
        "too many CPUs queued packets for the interface at the same moment"
        => "see the limit: sysctl net.core.qdisc_max_burst";
    "QDISC_CONGESTED" Resource
        "the queue dropped the packet early to make its sender slow down"
        => "see the queue: tc -s qdisc show dev IF";
    "QDISC_DROP" Resource
        "the interface's send queue was full or its shaper dropped the packet"
        => "see which queue drops: tc -s qdisc show dev IF";
    "QDISC_OVERLIMIT" Resource
        "the interface's send queue is full"
        => "see the queue: tc -s qdisc show dev IF";
    "QUEUE_PURGE" Benign
        "the packet was still in a queue that was emptied, usually of a closed socket";
    "RECURSION_LIMIT" Link
        "virtual devices pass the packet round in a loop"
        => "look for a device that leads back to itself: ip -d link show";
    "SECURITY_HOOK" Policy
        "a security module (such as SELinux or AppArmor) refused the packet"
        => "see its log: ausearch -m avc -ts recent; journalctl -k -g DENIED";
    "SKB_BAD_GSO" Malformed
        "the large packet to be split has headers that cannot be right"
        => "find the program or virtual machine that sends it on IF";
    "SKB_CSUM" Malformed
        "the packet's checksum could not be computed";
    "SKB_GSO_SEG" Malformed
        "the large packet could not be split into segments"
        => "try without the offload: ethtool -K IF tso off gso off";
    "SKB_UCOPY_FAULT" Resource
        "the packet's data could not be copied from the program's memory";
    "SOCKET_BACKLOG" Resource
        "the program keeps its socket busy, and the packets waiting for it are too many"
        => "see the counter: nstat -az TcpExtTCPBacklogDrop; the program reads too slowly";
    // Data for a program that chose not to read it.
    "SOCKET_CLOSE" Benign
        "the data was unread when the program closed its socket";
    "SOCKET_FILTER" Policy
        "a filter on the socket or a BPF program of its control group dropped the packet"
        => "see filters and programs: ss -tuanp --bpf; bpftool cgroup tree";
    "SOCKET_RCVBUFF" Resource
        "the socket's receive buffer is full: the program reads too slowly"
        => "see d (drops) in: ss -uanm; raise the limit: sysctl net.core.rmem_max";
    "TAP_FILTER" Policy
        "a BPF program on the tun or tap device dropped the packet";
    "TAP_TXFILTER" Policy
        "the tap device's address filter does not let the frame through";
    "TCP_ABORT_ON_DATA" Protocol
        "data came after the program had closed the connection; the kernel answers with a reset"
        => "see the counter: nstat -az TcpExtTCPAbortOnData";
    "TCP_ACK_UNSENT_DATA" Protocol
        "the segment acknowledges data that this machine never sent";
    "TCP_AOFAILURE" Policy
        "the segment's TCP-AO signature is wrong"
        => "compare the keys of both ends; see the counter: nstat -az TcpExtTCPAOBad";
    "TCP_AOKEYNOTFOUND" Policy
        "the segment is signed with a TCP-AO key that this machine does not have"
        => "compare the keys of both ends; see the counter: nstat -az TcpExtTCPAOKeyNotFound";
    "TCP_AONOTFOUND" Policy
        "the connection requires TCP-AO signatures, and the segment has none"
        => "configure the key on the other end; see the counter: nstat -az TcpExtTCPAORequired";
    "TCP_AOUNEXPECTED" Policy
        "the segment has a TCP-AO signature that this connection does not expect"
        => "configure the same key on both ends, or on none";
    "TCP_AUTH_HDR" Malformed
        "the segment has two TCP signatures or a broken one";
    "TCP_CLOSE" Protocol
        "the segment came for a socket that is already closed";
    "TCP_CSUM" Malformed
        "the TCP checksum is wrong"
        => "if all of one interface are wrong, suspect its offloads: ethtool -k IF";
    "TCP_FASTOPEN" Protocol
        "the segment does not fit a connection that TCP Fast Open is still setting up";
    "TCP_FLAGS" Protocol
        "the segment's flags do not fit the state of the connection";
    "TCP_INVALID_ACK_SEQUENCE" Protocol
        "the reply to a connection attempt acknowledges something that was not sent"
        => "look for an old connection on the same ports or a middlebox: ss -tan";
    "TCP_INVALID_END_SEQUENCE" Protocol
        "the segment ends beyond the receive window"
        => "see the counter: nstat -az TcpExtBeyondWindow";
    "TCP_INVALID_SEQUENCE" Protocol
        "the segment's sequence number is outside the receive window"
        => "see the counter: nstat -az TcpExtBeyondWindow";
    "TCP_INVALID_SYN" Protocol
        "a SYN came in the middle of a connection";
    "TCP_LISTEN_OVERFLOW" Resource
        "the listener's accept queue is full: the program accepts too slowly"
        => "compare Recv-Q with Send-Q: ss -ltn; nstat -az TcpExtListenOverflows; sysctl net.core.somaxconn";
    "TCP_MD5FAILURE" Policy
        "the segment's TCP-MD5 signature is wrong"
        => "compare the passwords of both ends (often BGP); nstat -az TcpExtTCPMD5Failure";
    "TCP_MD5NOTFOUND" Policy
        "the connection requires TCP-MD5 signatures, and the segment has none"
        => "configure the password on the other end (often BGP); nstat -az TcpExtTCPMD5NotFound";
    "TCP_MD5UNEXPECTED" Policy
        "the segment has a TCP-MD5 signature that this connection does not expect"
        => "configure the password on both ends, or on none; nstat -az TcpExtTCPMD5Unexpected";
    "TCP_MINTTL" Policy
        "the packet came from further away than the program allows (its minimum time to live)";
    // The receive queue already has the bytes.
    "TCP_OFOMERGE" Benign
        "the data is already in the queue of out-of-order segments";
    "TCP_OFO_DROP" Benign
        "the out-of-order data has meanwhile arrived another way";
    "TCP_OFO_QUEUE_PRUNE" Resource
        "memory for the socket ran out, so out-of-order data was thrown away"
        => "see the counters: nstat -az TcpExtOfoPruned TcpExtTCPOFODrop; sysctl net.ipv4.tcp_rmem";
    // In the kernel this ends a connection that is being set up: a reset follows.
    "TCP_OLD_ACK" Protocol
        "an outdated acknowledgement came while the connection was being set up";
    // The bytes were received and are acknowledged once more.
    "TCP_OLD_DATA" Benign
        "the data was already received: the sender repeated it needlessly"
        => "if frequent, acknowledgements get lost or late: nstat -az TcpExtDelayedACKLost";
    // Every keepalive probe looks like this; it is answered.
    "TCP_OLD_SEQUENCE" Benign
        "the segment repeats what was already received, as keepalive probes do";
    "TCP_OVERWINDOW" Protocol
        "the segment lies beyond the receive window, as probes of a closed window do"
        => "see whether the program reads (Recv-Q): ss -tn; nstat -az TcpExtBeyondWindow";
    // Resets that end a connection have a record of their own. What is freed
    // with this name are those plus the ones that had no effect.
    "TCP_RESET" Benign
        "a received TCP reset ended here; one that closes a connection has its own record";
    "TCP_RFC7323_PAWS" Protocol
        "the segment's TCP timestamp is older than that of earlier segments"
        => "see the counter: nstat -az TcpExtPAWSEstab; look for hosts sharing an address (NAT)";
    // A pure acknowledgement overtaken by a later one.
    "TCP_RFC7323_PAWS_ACK" Benign
        "an outdated acknowledgement arrived after newer ones";
    "TCP_RFC7323_TSECR" Protocol
        "the TCP timestamp echoed while connecting is not one that this machine sent"
        => "see the counter: nstat -az TcpExtTSEcrRejected";
    "TCP_RFC7323_TW_PAWS" Protocol
        "the port pair was just in use, and the segment's TCP timestamp is older than before"
        => "see the counter: nstat -az TcpExtPAWSTimewait; look for hosts sharing an address (NAT)";
    "TCP_TOO_OLD_ACK" Protocol
        "the segment acknowledges data from too long ago";
    "TCP_ZEROWINDOW" Resource
        "the receive window is closed: the program does not read its data"
        => "see Recv-Q: ss -tnp; nstat -az TcpExtTCPZeroWindowDrop";
    "TC_CHAIN_NOTFOUND" Policy
        "a tc filter points to a chain that does not exist"
        => "list the filters: tc filter show dev IF ingress; tc filter show dev IF egress";
    "TC_COOKIE_ERROR" Policy
        "the tc filters could not go on where the hardware stopped"
        => "list the filters: tc filter show dev IF ingress";
    "TC_EGRESS" Policy
        "a tc filter or BPF program on the sending side dropped the packet"
        => "list them: tc -s filter show dev IF egress; bpftool net show dev IF";
    "TC_ERROR" Policy
        "the tc filters contradict each other or point nowhere"
        => "list the filters: tc filter show dev IF ingress; tc filter show dev IF egress";
    "TC_INGRESS" Policy
        "a tc filter or BPF program on the receiving side dropped the packet"
        => "list them: tc -s filter show dev IF ingress; bpftool net show dev IF";
    "TC_RECLASSIFY_LOOP" Policy
        "the tc filters send the packet back to the start again and again"
        => "list the filters: tc filter show dev IF ingress; tc filter show dev IF egress";
    "TUNNEL_TXINFO" Link
        "the tunnel device takes only packets that a route or program gives a tunnel for"
        => "see the device (external) and routes (encap): ip -d link show dev IF; ip route get ADDR";
    "UDP_CSUM" Malformed
        "the UDP checksum is wrong"
        => "if all of one interface are wrong, suspect its offloads: ethtool -k IF";
    // Nobody here handles it, whether that matters (MPLS, PPPoE) or not (LLDP on
    // every switch port): the record's ethertype tells, the reason does not.
    "UNHANDLED_PROTO" NoListener
        "nothing on this machine handles the packet's protocol, as with LLDP from a switch";
    "UNICAST_IN_L2_MULTICAST" Policy
        "a packet for one host came in a broadcast or multicast frame"
        => "see the switch: sysctl net.ipv4.conf.IF.drop_unicast_in_l2_multicast";
    // Messages between programs on this machine, not packets.
    "UNIX_DISCONNECT" Benign
        "messages of a unix socket were unread when it was connected anew";
    "UNIX_SKIP_OOB" Benign
        "the reader of a unix socket skipped out-of-band data";
    "VXLAN_ENTRY_EXISTS" Policy
        "the VXLAN frame's sender is pinned to another tunnel end"
        => "see the entry: bridge fdb show dev IF";
    "VXLAN_INVALID_HDR" Malformed
        "the VXLAN header is not valid for this tunnel";
    "VXLAN_VNI_NOT_FOUND" NoListener
        "no VXLAN device on this machine has the frame's network number"
        => "list them with their numbers: ip -d link show type vxlan";
    "XDP" Policy
        "an XDP program dropped the packet"
        => "see the program: bpftool net show dev IF";
    "XFRM_POLICY" Policy
        "the IPsec policy does not allow the packet, for example since it is not encrypted"
        => "see policies and counters: ip xfrm policy; cat /proc/net/xfrm_stat";
};
