//! What connection tracking knows of a packet.

use droptrace_types::{ABSENT, CT_NONE, ConntrackAt};

use crate::{
    event::Event,
    kernel::{Pointer, constant, zero},
    maps::CONNTRACK,
};

/// `NF_INET_PRE_ROUTING`
const PREROUTING: u32 = 0;
/// `NF_INET_LOCAL_OUT`
const OUTPUT: u32 = 3;

/// Makes `found` that of a packet without an entry.
#[inline(always)]
pub fn forget(found: &mut ConntrackAt) {
    zero(found);
    found.info = CT_NONE;
}

/// Reads the packet's entry. The lowest three bits of `skb->_nfct`
/// (`NFCT_INFOMASK`) say how the packet relates to the entry that the others
/// point to.
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/skbuff.h>
#[inline(never)]
pub fn read(skb: Pointer, found: &mut ConntrackAt) -> u32 {
    if constant!(LAYOUT.skb_nfct) == ABSENT {
        return 0;
    }
    let word: u64 = skb.read(constant!(LAYOUT.skb_nfct));
    if word == 0 {
        return 0;
    }
    found.info = (word & 7) as u32;
    let entry = Pointer::new(word & !7);
    let Some(layout) = CONNTRACK.get(0) else {
        return 0;
    };
    if entry.is_null() || layout.is_known == 0 {
        return 0;
    }
    found.is_known = 1;
    if layout.mark != ABSENT {
        found.mark = entry.read(layout.mark);
    }
    if layout.zone != ABSENT {
        found.zone = entry.read(layout.zone);
    }
    found.status = entry.read(layout.status);
    found.tcp_state = entry.read(layout.tcp_state);
    let [original, reply] = &mut found.words;
    entry.at(layout.original).read_into(original);
    entry.at(layout.reply).read_into(reply);
    if layout.helper_name != ABSENT {
        let ext = entry.follow(layout.ext);
        let offset: u8 = ext.read(layout.ext_offset);
        if offset != 0 {
            let help = ext.at(u32::from(offset));
            let helper = help.follow(layout.help_helper);
            helper.at(layout.helper_name).read_into(&mut found.helper);
        }
    }
    0
}

/// For a packet without an entry: the functions at the hooks where connection
/// tracking would have looked at it.
#[inline(never)]
pub fn read_hooks(event: &Event, found: &mut ConntrackAt) -> u32 {
    if found.info != CT_NONE || constant!(LAYOUT.hooks_ipv4) == ABSENT {
        return 0;
    }
    let hooks = if event.key.flow.family == 4 {
        constant!(LAYOUT.hooks_ipv4)
    } else {
        constant!(LAYOUT.hooks_ipv6)
    };
    let net = event.device.follow(constant!(LAYOUT.dev_net)).at(hooks);
    let [prerouting, output] = &mut found.words;
    first_functions(net.follow(PREROUTING * 8), prerouting);
    first_functions(net.follow(OUTPUT * 8), output);
    0
}

/// Of the functions in a `struct nf_hook_entries`, as many as there is room for.
#[inline(always)]
fn first_functions(entries: Pointer, found: &mut [u64; 5]) {
    // `num_hook_entries`
    let len: u16 = entries.read(0);
    for (i, function) in found.iter_mut().enumerate() {
        if i < usize::from(len) {
            let entry = constant!(LAYOUT.hooks_of_entries) + i as u32 * constant!(CONFIG.hook_size);
            *function = entries.read(entry + constant!(LAYOUT.hook_function));
        }
    }
}
