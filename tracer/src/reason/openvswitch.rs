//! The reasons of `enum ovs_drop_reason`: why Open vSwitch dropped a packet.

use super::{Text, texts};

/// Sorted by name.
pub(super) static TEXTS: &[Text] = texts! {
    "OVS_DROP_ACTION_ERROR" Unknown
        "an action of the Open vSwitch flow failed"
        => "see the flow: ovs-dpctl dump-flows; dmesg | grep openvswitch";
    "OVS_DROP_CONNTRACK" Unknown
        "Open vSwitch could not track the packet's connection"
        => "see the entries: conntrack -L; conntrack -S";
    "OVS_DROP_DEFERRED_LIMIT" Resource
        "Open vSwitch had too many actions waiting"
        => "see kernel messages: dmesg | grep openvswitch";
    "OVS_DROP_EXPLICIT" Policy
        "an Open vSwitch flow drops such packets"
        => "find the flow: ovs-dpctl dump-flows";
    "OVS_DROP_EXPLICIT_WITH_ERROR" Policy
        "an Open vSwitch flow drops such packets because of an error"
        => "find the flow: ovs-dpctl dump-flows; see ovs-vswitchd's log";
    "OVS_DROP_FRAG_INVALID_PROTO" Malformed
        "Open vSwitch cannot fragment packets of this protocol";
    "OVS_DROP_FRAG_L2_TOO_LONG" Malformed
        "the packet's link header is too long for Open vSwitch to fragment it";
    "OVS_DROP_IP_TTL" Routing
        "the packet's time to live ran out in Open vSwitch"
        => "look for a routing loop: tracepath ADDR";
    "OVS_DROP_LAST_ACTION" Policy
        "the Open vSwitch flow sends such packets nowhere"
        => "find the flow: ovs-dpctl dump-flows";
    "OVS_DROP_METER" Policy
        "an Open vSwitch meter limits the rate of such packets"
        => "list the meters: ovs-ofctl -O OpenFlow13 meter-stats BRIDGE";
    "OVS_DROP_RECURSION_LIMIT" Link
        "Open vSwitch passes the packet round in a loop"
        => "see kernel messages: dmesg | grep openvswitch";
};
