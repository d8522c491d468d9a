//! The reasons of `enum qdisc_drop_reason`: why a send queue dropped a packet.

use super::{Text, texts};

/// Sorted by name.
pub(super) static TEXTS: &[Text] = texts! {
    "QDISC_DROP_BAND_LIMIT" Resource
        "the queue holds too many packets of this priority"
        => "see the queue: tc -s qdisc show dev IF";
    "QDISC_DROP_CONGESTED" Resource
        "the queue dropped the packet early to make its sender slow down"
        => "see the queue: tc -s qdisc show dev IF";
    "QDISC_DROP_FLOOD_PROTECTION" Resource
        "the queue dropped from a flow that does not slow down"
        => "see the queue: tc -s qdisc show dev IF";
    "QDISC_DROP_FLOW_LIMIT" Resource
        "the queue holds too many packets of this flow"
        => "see the queue: tc -s qdisc show dev IF";
    "QDISC_DROP_GENERIC" Resource
        "the queue was full or its shaper dropped the packet"
        => "see which queue drops: tc -s qdisc show dev IF";
    "QDISC_DROP_HORIZON_LIMIT" Resource
        "the packet asks to be sent too far in the future for the queue"
        => "see the queue: tc -s qdisc show dev IF";
    "QDISC_DROP_L4S_STEP_NON_ECN" Resource
        "the packet waited too long in the queue and cannot be marked instead of dropped"
        => "see the queue: tc -s qdisc show dev IF";
    "QDISC_DROP_MAXFLOWS" Resource
        "the queue keeps track of as many flows as it can"
        => "see the queue: tc -s qdisc show dev IF";
    "QDISC_DROP_OVERLIMIT" Resource
        "the queue is full"
        => "see the queue: tc -s qdisc show dev IF";
    "QDISC_DROP_UNSPEC" Unknown
        "the queue gives no reason"
        => "see which queue drops: tc -s qdisc show dev IF";
};
