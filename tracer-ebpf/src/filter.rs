//! Which events are recorded.

use droptrace_types::{
    FILTER_BY_CGROUP, FILTER_BY_FLOW, FILTER_BY_INTERFACE, FILTER_BY_NETNS, FILTER_BY_REASON,
    FILTER_BY_SOCKET, Filter, IfName, Key, Tuple,
};

use crate::{
    device,
    event::Event,
    kernel::constant,
    maps::{CGROUPS, FILTER, REASONS, SOCKETS},
};

/// Whether the command line selects the event. What it does not ask for costs
/// nothing: the verifier removes it.
#[inline(always)]
pub fn selects(event: &Event) -> bool {
    constant!(CONFIG.filters) == 0 || selects_by(event)
}

/// As [`selects`], where something is asked for. A function of its own as
/// [`crate::count::count_new`].
#[inline(never)]
fn selects_by(event: &Event) -> bool {
    let key = &event.key;
    let by = constant!(CONFIG.filters);
    if by & FILTER_BY_REASON != 0 {
        let reason = u64::from(key.cause.kind) << 32 | u64::from(key.cause.reason);
        if REASONS.get_ptr(reason).is_none() {
            return false;
        }
    }
    if by & (FILTER_BY_INTERFACE | FILTER_BY_NETNS) != 0 {
        let Some(filter) = FILTER.get(0) else {
            return false;
        };
        if by & FILTER_BY_NETNS != 0 && !selects_netns(filter, key.cause.netns) {
            return false;
        }
        if by & FILTER_BY_INTERFACE != 0 && !selects_interface(filter, event) {
            return false;
        }
    }
    if by & FILTER_BY_FLOW != 0 && !selects_flow(key) {
        return false;
    }
    if by & FILTER_BY_SOCKET != 0 {
        let (inode, _) = event.socket.owner();
        if inode == 0 || SOCKETS.get_ptr(inode).is_none() {
            return false;
        }
    }
    if by & FILTER_BY_CGROUP != 0 {
        let cgroup = event.socket.cgroup();
        if cgroup == 0 || CGROUPS.get_ptr(cgroup).is_none() {
            return false;
        }
    }
    true
}

/// A packet whose flow could not be read may be one of those asked for: it is
/// recorded, as undecoded. Messages and other protocols than IP are not.
#[inline(always)]
fn selects_flow(key: &Key) -> bool {
    use droptrace_types::Decode;
    if key.flow.family == 0 {
        let decode = key.cause.decode;
        return decode != Decode::NotIp as u8 && decode != Decode::Message as u8;
    }
    selects_either(&key.flow, &key.about)
}

/// Whether the filter selects the flow, or the one that an error is about, if it is one.
#[inline(always)]
pub fn selects_either(flow: &Tuple, about: &Tuple) -> bool {
    selects_tuple(flow) || (about.family != 0 && selects_tuple(about))
}

#[inline(always)]
fn selects_tuple(tuple: &Tuple) -> bool {
    // SAFETY: a tuple is words without padding.
    let words: &[u64; 5] = unsafe { &*core::ptr::from_ref(tuple).cast() };
    filter_selects(words[0], words[1], words[2], words[3], words[4]) != 0
}

/// Whether the filter selects the [`Tuple`] of these words. By its name in the object the
/// kernel verifies it once and not for every call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn filter_selects(a: u64, b: u64, c: u64, d: u64, e: u64) -> u64 {
    let words = [a, b, c, d, e];
    // SAFETY: the words are those of a tuple.
    let tuple: &Tuple = unsafe { &*words.as_ptr().cast() };
    let Some(filter) = FILTER.get(0) else {
        return 0;
    };
    u64::from(filter.selects(tuple))
}

#[inline(always)]
pub fn selects_netns(filter: &Filter, netns: u32) -> bool {
    for wanted in &filter.netns {
        if *wanted == 0 {
            break;
        }
        if *wanted == netns {
            return true;
        }
    }
    false
}

/// By name; where the packet has lost its device, by the index that the name
/// has in the tracer's own namespace.
#[inline(always)]
pub fn selects_interface(filter: &Filter, event: &Event) -> bool {
    let name = words(&device::name(event.device));
    let cause = &event.key.cause;
    for (wanted, ifindex) in filter.ifnames.iter().zip(&filter.ifindexes) {
        if wanted.0[0] == 0 {
            break;
        }
        if event.device.is_null() {
            if *ifindex != 0 && *ifindex == cause.ifindex && filter.ifnetns == cause.netns {
                return true;
            }
        } else if words(wanted) == name {
            return true;
        }
    }
    false
}

/// A name as two words, without what may stand behind its end.
#[inline(always)]
fn words(name: &IfName) -> (u64, u64) {
    // SAFETY: the name is two aligned words.
    let [first, second]: [u64; 2] = unsafe { core::mem::transmute(*name) };
    let (first, ended) = until_zero(first);
    if ended {
        (first, 0)
    } else {
        (first, until_zero(second).0)
    }
}

/// `word` with everything behind its first zero byte made zero, and whether it
/// has one. The lowest byte comes first.
#[inline(always)]
fn until_zero(word: u64) -> (u64, bool) {
    const LOW: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le(word);
    // The highest bit of each zero byte, up to the first one for certain.
    let zeros = word.wrapping_sub(LOW) & !word & (LOW << 7);
    if zeros == 0 {
        return (word, false);
    }
    // All bits below the first zero byte's highest one.
    (word & ((zeros & zeros.wrapping_neg()) - 1), true)
}
