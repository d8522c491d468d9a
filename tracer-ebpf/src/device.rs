//! Which interface and network namespace a packet was in.

use droptrace_types::{Direction, IfName};

use crate::{
    event::Event,
    kernel::{Pointer, Struct, constant, zero},
};

/// `IFF_LOOPBACK`
const IFF_LOOPBACK: u32 = 1 << 3;
/// `RTN_LOCAL`, a route to this machine itself.
const RTN_LOCAL: u16 = 2;
/// `RTN_BROADCAST` and `RTN_MULTICAST` also end here.
const RTN_MULTICAST: u16 = 5;
/// `RTF_LOCAL`, the same for IPv6.
const RTF_LOCAL: u32 = 0x8000_0000;
const RTF_ANYCAST: u32 = 0x0010_0000;
const AF_INET6: u16 = 10;

/// Finds the interface that `skb` is at and the way it goes; `device` is what stands at
/// `skb->dev`. Where a helper reads memory, which takes a place on the stack for what is read,
/// a function of its own as [`crate::count::count_new`].
#[cfg_attr(feature = "loads", inline(always))]
#[cfg_attr(not(feature = "loads"), inline(never))]
pub fn locate<S: Struct>(event: &mut Event, skb: S, device: Pointer) -> u32 {
    let iif: u32 = skb.read(constant!(LAYOUT.skb_iif));
    let (mut device, mut net) = proven(device);
    let route = route_of(skb);
    let (mut out, mut out_net) = (Pointer::NULL, Pointer::NULL);
    if !route.is_null() {
        // While a packet waits in a TCP queue, other words stand in the route's place.
        (out, out_net) = proven(route.follow(constant!(LAYOUT.dst_dev)));
    }
    let is_routed = !out.is_null();
    if net.is_null() {
        net = out_net;
    }
    if device.is_null() && iif == 0 {
        device = out;
    }
    event.device = device;
    if !net.is_null() {
        event.key.cause.netns = inode_of(net);
        // A packet keeps its sender's socket on its way into another namespace
        // of this machine, until the protocol there takes it over. Zeros are none.
        if event.socket.netns != event.key.cause.netns {
            zero(&mut event.socket);
            event.key.cause.socket_family = 0;
        }
    }
    let flags: u32 = device.read(constant!(LAYOUT.dev_flags));
    let index: u32 = device.read(constant!(LAYOUT.dev_ifindex));
    event.key.cause.ifindex = if index == 0 { iif } else { index };
    let direction = if flags & IFF_LOOPBACK != 0 {
        Direction::Local
    } else if iif == 0 && (is_routed || event.socket.owns()) {
        Direction::Out
    } else if iif == 0 && device.is_null() {
        Direction::Unknown
    } else if is_routed && leads_elsewhere(route) {
        Direction::Forward
    } else {
        Direction::In
    };
    event.key.cause.direction = direction as u8;
    0
}

/// The interface's name; empty where there is none.
#[inline(always)]
pub fn name(device: Pointer) -> IfName {
    device.read(constant!(LAYOUT.dev_name))
}

/// Inode number of a `struct net`, 0 for none.
#[inline(always)]
pub fn inode_of(net: Pointer) -> u32 {
    net.read(constant!(LAYOUT.net_inum))
}

/// `pointer` and its namespace if it is a network device, else null for both.
/// In some queues other words stand in its place, so it must prove itself: its
/// namespace's loopback device belongs to that same namespace.
#[inline(always)]
fn proven(pointer: Pointer) -> (Pointer, Pointer) {
    let net = pointer.follow(constant!(LAYOUT.dev_net));
    let loopback = net.follow(constant!(LAYOUT.net_loopback));
    let back = loopback.follow(constant!(LAYOUT.dev_net));
    if back.address() == net.address() {
        (pointer, net)
    } else {
        (Pointer::NULL, Pointer::NULL)
    }
}

/// Whether the packet's route leads to this machine, by an address that is its
/// alone.
#[inline(always)]
pub fn is_local(skb: Pointer) -> bool {
    let route = route_of(skb);
    if family(route) == AF_INET6 {
        route.read::<u32>(constant!(LAYOUT.rt6_flags)) & RTF_LOCAL != 0
    } else {
        route.read::<u16>(constant!(LAYOUT.rt_type)) == RTN_LOCAL
    }
}

/// The lowest bit says only whether the route is counted.
#[inline(always)]
fn route_of(skb: impl Struct) -> Pointer {
    Pointer::new(skb.read::<u64>(constant!(LAYOUT.skb_refdst)) & !1)
}

#[inline(always)]
fn family(route: Pointer) -> u16 {
    route
        .follow(constant!(LAYOUT.dst_ops))
        .read(constant!(LAYOUT.dst_ops_family))
}

/// Whether a route leads to another machine.
#[inline(always)]
fn leads_elsewhere(route: Pointer) -> bool {
    if family(route) == AF_INET6 {
        let flags: u32 = route.read(constant!(LAYOUT.rt6_flags));
        return flags & (RTF_LOCAL | RTF_ANYCAST) == 0;
    }
    let kind: u16 = route.read(constant!(LAYOUT.rt_type));
    kind < RTN_LOCAL || kind > RTN_MULTICAST
}
