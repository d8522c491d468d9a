//! The reasons of `enum mac80211_drop_reason`: why Wi-Fi dropped a received frame.
//!
//! [Where the kernel uses them](https://github.com/torvalds/linux/blob/v6.18/net/mac80211/rx.c).
//! Frames that only steer the radio cell and that nobody here waits for are
//! benign; a frame that fails its cryptographic check is malformed, one that
//! lacks required protection is refused by policy.

use super::{Text, texts};

/// Sorted by name.
pub(super) static TEXTS: &[Text] = texts! {
    "RX_DROP_MONITOR" Unknown
        "Wi-Fi could not use the frame";
    "RX_DROP_M_BAD_BCN_KEYIDX" Malformed
        "the Wi-Fi beacon is signed with a key that is not for beacons";
    "RX_DROP_M_BAD_MGMT_KEYIDX" Malformed
        "the Wi-Fi management frame is signed with a key that is not for such frames";
    "RX_DROP_M_UNEXPECTED_4ADDR_FRAME" Policy
        "a Wi-Fi station sends four-address frames without being set up for it";
    "RX_DROP_UNUSABLE" Unknown
        "Wi-Fi could not use the frame";
    "RX_DROP_U_ACTION_UNKNOWN_SRC" Policy
        "a Wi-Fi action frame came from a station that is not known here";
    "RX_DROP_U_AMSDU_WITHOUT_DATA" Malformed
        "the Wi-Fi frame claims to bundle packets but carries none";
    "RX_DROP_U_AP_RX_GROUPCAST" Malformed
        "a Wi-Fi station sent an encrypted group frame to the access point";
    "RX_DROP_U_BAD_4ADDR" Policy
        "a bundled Wi-Fi frame has four addresses, which this interface is not set up for";
    "RX_DROP_U_BAD_AMSDU" Malformed
        "the Wi-Fi frame's bundle of packets is broken";
    "RX_DROP_U_BAD_AMSDU_CIPHER" Policy
        "the Wi-Fi frame bundles packets under an encryption too weak for that";
    "RX_DROP_U_BAD_BCN_KEYIDX" Malformed
        "the Wi-Fi beacon is signed with a key that is not for beacons";
    "RX_DROP_U_BAD_CIPHER" Malformed
        "the Wi-Fi frame uses an encryption that this machine does not support";
    "RX_DROP_U_BAD_KEY_COLOR" Malformed
        "the Wi-Fi fragments were encrypted with different keys";
    "RX_DROP_U_BAD_MGMT_KEYIDX" Malformed
        "the Wi-Fi management frame is signed with a key that is not for such frames";
    "RX_DROP_U_BAD_MMIE" Malformed
        "the Wi-Fi management frame's signature is not well-formed";
    "RX_DROP_U_BAR_OUTSIDE_SESSION" Protocol
        "a Wi-Fi block acknowledgement request came without an agreement about it";
    "RX_DROP_U_CTRL_FRAME" Benign
        "the Wi-Fi control frame needs no handling";
    "RX_DROP_U_DECRYPT_FAIL" Malformed
        "the Wi-Fi frame could not be decrypted";
    "RX_DROP_U_DEFRAG_MISMATCH" Malformed
        "the Wi-Fi fragment belongs to no frame that is being put together";
    "RX_DROP_U_DEFRAG_OVERFLOW" Malformed
        "the Wi-Fi fragments add up to more than a frame can hold";
    // Sent again since its acknowledgement was lost.
    "RX_DROP_U_DUP" Benign
        "the Wi-Fi frame was already received";
    "RX_DROP_U_EXPECTED_MGMT" Malformed
        "the Wi-Fi frame is of a reserved type";
    "RX_DROP_U_EXPECT_DEFRAG_PROT" Malformed
        "encrypted and open Wi-Fi fragments are mixed";
    "RX_DROP_U_INVALID_8023" Malformed
        "the Wi-Fi frame could not be turned into an Ethernet frame";
    "RX_DROP_U_KEY_TAINTED" Malformed
        "the Wi-Fi frame was encrypted with a key that is no longer trusted";
    "RX_DROP_U_MALFORMED_ACTION" Malformed
        "the Wi-Fi action frame is broken";
    "RX_DROP_U_MCAST_DEAUTH" Malformed
        "a Wi-Fi deauthentication was sent to a group, which is not allowed";
    "RX_DROP_U_MCAST_DISASSOC" Malformed
        "a Wi-Fi disassociation was sent to a group, which is not allowed";
    "RX_DROP_U_MCAST_FRAGMENT" Malformed
        "a Wi-Fi group frame is fragmented, which is not allowed";
    "RX_DROP_U_MESH_A3_MISMATCH" Benign
        "the mesh brought back a Wi-Fi frame of this machine";
    "RX_DROP_U_MESH_A4_MISMATCH" Benign
        "the mesh brought back a Wi-Fi frame of this machine";
    "RX_DROP_U_MESH_BAD_AE" Malformed
        "the mesh frame's address fields are broken";
    "RX_DROP_U_MESH_DS_BITS" Malformed
        "the mesh frame's direction bits are wrong";
    "RX_DROP_U_MESH_NOT_FORWARDING" Policy
        "the mesh frame is for another station, and forwarding is off"
        => "see the switch: iw dev IF get mesh_param mesh_fwding";
    "RX_DROP_U_MESH_NO_A4" Malformed
        "the mesh frame lacks its fourth address";
    "RX_DROP_U_MESH_NO_TTL" Malformed
        "the mesh frame came with no hops left";
    "RX_DROP_U_MESH_RMC" Benign
        "the mesh brought a group frame once more";
    "RX_DROP_U_MESH_TTL_EXPIRED" Routing
        "the mesh frame's hops ran out";
    "RX_DROP_U_MESH_UNEXP_DATA" Policy
        "a mesh frame came from a station that no link is set up with";
    "RX_DROP_U_MESH_UNEXP_MGMT" Policy
        "a mesh management frame came from a station that no link is set up with";
    "RX_DROP_U_MESH_WRONG_ACTION" Policy
        "a mesh action frame came from a station that no link is set up with";
    "RX_DROP_U_MIC_FAIL" Malformed
        "the Wi-Fi frame's integrity check failed";
    "RX_DROP_U_MMIC_FAIL" Malformed
        "the Wi-Fi frame's integrity check (TKIP) failed";
    "RX_DROP_U_NONBCAST_BEACON" Malformed
        "a Wi-Fi beacon was sent to a single station";
    "RX_DROP_U_NONSEQ_PN" Malformed
        "the Wi-Fi fragment is not encrypted the way its predecessors are";
    "RX_DROP_U_NOT_PORT_CONTROL" Policy
        "the Wi-Fi station may only sign in so far";
    "RX_DROP_U_NO_ICV" Malformed
        "the Wi-Fi frame is too short for its integrity check";
    "RX_DROP_U_NO_IV" Malformed
        "the Wi-Fi frame is too short for its encryption header";
    "RX_DROP_U_NO_KEY_ID" Malformed
        "the Wi-Fi frame does not say which key it is encrypted with";
    "RX_DROP_U_NO_LINK" Link
        "the Wi-Fi frame belongs to a radio link that does not exist";
    "RX_DROP_U_NULL_DATA" Benign
        "the Wi-Fi frame carries no data: it only signals power saving";
    "RX_DROP_U_OOM" Resource
        "the kernel could not get memory for the Wi-Fi frame"
        => "see memory: free -m";
    "RX_DROP_U_PORT_CONTROL" Policy
        "the Wi-Fi station has not signed in yet"
        => "see authorized in: iw dev IF station dump";
    "RX_DROP_U_REJECTED_ACTION_RESPONSE" Benign
        "the Wi-Fi frame says that another station rejected an action frame";
    "RX_DROP_U_REPLAY" Malformed
        "the Wi-Fi frame's counter is not newer than before: a repeat or a replay";
    "RX_DROP_U_RUNT_ACTION" Malformed
        "the Wi-Fi action frame is too short";
    "RX_DROP_U_RUNT_BAR" Malformed
        "the Wi-Fi block acknowledgement request is too short";
    "RX_DROP_U_RUNT_DATA" Malformed
        "the Wi-Fi data frame is too short";
    "RX_DROP_U_RUNT_MESH_DATA" Malformed
        "the mesh data frame is too short";
    "RX_DROP_U_RUNT_MGMT" Malformed
        "the Wi-Fi management frame is too short";
    "RX_DROP_U_SHORT_CCMP" Malformed
        "the Wi-Fi frame is too short for its encryption (CCMP)";
    "RX_DROP_U_SHORT_CCMP_MIC" Malformed
        "the Wi-Fi frame is too short for its integrity check (CCMP)";
    "RX_DROP_U_SHORT_CMAC" Malformed
        "the Wi-Fi management frame is too short for its signature (CMAC)";
    "RX_DROP_U_SHORT_CMAC256" Malformed
        "the Wi-Fi management frame is too short for its signature (CMAC-256)";
    "RX_DROP_U_SHORT_GCMP" Malformed
        "the Wi-Fi frame is too short for its encryption (GCMP)";
    "RX_DROP_U_SHORT_GCMP_MIC" Malformed
        "the Wi-Fi frame is too short for its integrity check (GCMP)";
    "RX_DROP_U_SHORT_GMAC" Malformed
        "the Wi-Fi management frame is too short for its signature (GMAC)";
    "RX_DROP_U_SHORT_MMIC" Malformed
        "the Wi-Fi frame is too short for its integrity check (TKIP)";
    "RX_DROP_U_SHORT_TKIP" Malformed
        "the Wi-Fi frame is too short for its encryption (TKIP)";
    "RX_DROP_U_SPURIOUS" Policy
        "Wi-Fi data came from a station that is not associated"
        => "see who is: iw dev IF station dump";
    "RX_DROP_U_SPURIOUS_NOTIF" Policy
        "Wi-Fi data came from a station that is not associated; it is told so"
        => "see who is: iw dev IF station dump";
    "RX_DROP_U_TKIP_FAIL" Malformed
        "the Wi-Fi frame could not be decrypted (TKIP)";
    "RX_DROP_U_UNEXPECTED_4ADDR" Policy
        "a Wi-Fi station sends four-address frames without being set up for it";
    "RX_DROP_U_UNEXPECTED_4ADDR_FRAME" Policy
        "a Wi-Fi station sends four-address frames without being set up for it";
    "RX_DROP_U_UNEXPECTED_EXT_FRAME" Benign
        "the Wi-Fi extension frame is of no use to this kind of interface";
    "RX_DROP_U_UNEXPECTED_STA_4ADDR" Policy
        "the Wi-Fi frame has four addresses, which this interface is not set up for"
        => "see 4addr in: iw dev IF info";
    "RX_DROP_U_UNEXPECTED_VLAN_4ADDR" Policy
        "the Wi-Fi frame has four addresses, but its VLAN has no such station";
    "RX_DROP_U_UNEXPECTED_VLAN_MCAST" Policy
        "a Wi-Fi group frame came on a VLAN that belongs to a single station";
    "RX_DROP_U_UNHANDLED_DEAUTH" Benign
        "the Wi-Fi deauthentication is of no use to this kind of interface";
    "RX_DROP_U_UNHANDLED_DISASSOC" Benign
        "the Wi-Fi disassociation is of no use to this kind of interface";
    "RX_DROP_U_UNHANDLED_MGMT" Benign
        "the Wi-Fi management frame is of no use to this kind of interface";
    "RX_DROP_U_UNHANDLED_MGMT_STYPE" Benign
        "the Wi-Fi management frame is of a kind that nothing here handles";
    "RX_DROP_U_UNHANDLED_PREQ" Benign
        "the Wi-Fi probe request is of no use to this kind of interface";
    "RX_DROP_U_UNKNOWN_ACTION_REJECTED" Policy
        "the Wi-Fi action frame is of an unknown kind; its sender is told so";
    "RX_DROP_U_UNKNOWN_MCAST_ACTION" Benign
        "the Wi-Fi action frame to a group is of an unknown kind";
    "RX_DROP_U_UNKNOWN_STA" Policy
        "a Wi-Fi block acknowledgement request came from a station that is not known here";
    "RX_DROP_U_UNPROTECTED" Policy
        "the Wi-Fi frame is not protected, though protection is required";
    "RX_DROP_U_UNPROT_ACTION" Policy
        "a Wi-Fi action frame that must be protected came before there were keys";
    "RX_DROP_U_UNPROT_BEACON" Policy
        "the Wi-Fi beacon is not protected, though protection is required";
    "RX_DROP_U_UNPROT_DUAL" Policy
        "the Wi-Fi action frame is not protected, though protection is required";
    "RX_DROP_U_UNPROT_MCAST_MGMT" Policy
        "the Wi-Fi group management frame is not protected, though protection is required";
    "RX_DROP_U_UNPROT_ROBUST_ACTION" Policy
        "a Wi-Fi action frame that must be protected came from a station not associated";
    "RX_DROP_U_UNPROT_UCAST_MGMT" Policy
        "the Wi-Fi management frame is not protected, though protection is required";
    "RX_DROP_U_UNPROT_UNICAST_PUB_ACTION" Policy
        "the Wi-Fi public action frame is not protected, though protection is required";
    "RX_DROP_U_WEP_DEC_FAIL" Malformed
        "the Wi-Fi frame could not be decrypted (WEP)";
};
