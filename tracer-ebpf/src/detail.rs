//! A packet seen closely: what a count cannot say.

use aya_ebpf::{
    EbpfContext as _,
    cty::c_void,
    helpers::generated::bpf_get_current_comm,
    programs::{RawTracePointContext, tracing::StackIdContext as _},
};
use droptrace_types::{COMM_LEN, Detail, HookAt, Loss, RuleAt};

use crate::{
    conntrack,
    count::lose,
    device,
    event::Event,
    hook,
    kernel::constant,
    maps::{DETAIL_RATE, DETAILS, STACKS},
    rule, signs, verdict,
};

const SECOND_NS: u64 = 1_000_000_000;
/// `BPF_F_REUSE_STACKID`: two stacks of one hash share a slot, the newer stays.
const REUSE_STACKID: u64 = 1 << 10;

/// `BPF_RB_NO_WAKEUP`: user space looks when it drains the counts.
const NO_WAKEUP: u64 = 1;

/// Sends a detail to user space, if rate and room allow; else counts it as lost.
/// `ctx` is the program's own. A function of its own as [`crate::count::count_new`].
#[inline(never)]
pub fn send<const DROP: bool>(ctx: *mut c_void, event: &Event, now: u64) -> u32 {
    if !within_rate(now) {
        lose(Loss::DetailRateLimited, 1);
        return 0;
    }
    let Some(mut entry) = DETAILS.reserve(0) else {
        lose(Loss::DetailRingFull, 1);
        return 0;
    };
    // SAFETY: the reservation is writable and as large as a `Detail`; every field is
    // written before it is submitted.
    let detail = unsafe { &mut *entry.as_mut_ptr() };
    detail.time_ns = now;
    name_rule::<DROP>(ctx, event, detail);
    fill::<DROP>(ctx, event, detail);
    entry.submit(NO_WAKEUP);
    1
}

#[inline(always)]
fn within_rate(now: u64) -> bool {
    let Some(rate) = DETAIL_RATE.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's element. An interrupt in between may let one more or
    // one less through, which does no harm.
    let rate = unsafe { &mut *rate };
    if now.wrapping_sub(rate.since_ns) > SECOND_NS {
        rate.since_ns = now;
        rate.sent = 0;
    }
    rate.sent += 1;
    rate.sent <= rate.allowed
}

/// Says what decided, where netfilter dropped the packet.
#[inline(always)]
fn name_rule<const DROP: bool>(ctx: *mut c_void, event: &Event, detail: &mut Detail) {
    detail.rule = RuleAt::UNKNOWN;
    detail.verdict = RuleAt::UNKNOWN;
    detail.hook = HookAt {
        function: 0,
        private: 0,
        prog_id: 0,
        hook: 0,
        family: 0,
        is_known: 0,
        pad: 0,
    };
    if DROP && event.key.cause.rule != 0 {
        hook::find(ctx, event, &mut detail.hook);
        let location = event.key.cause.location;
        if !hook::freed(location) && !hook::freed_by_queue(location) {
            rule::find(ctx, event, &mut detail.rule);
        }
        let is_alone = detail.rule.is_known == 0;
        verdict::tell(event, is_alone, &mut detail.verdict);
    }
}

/// Says all the rest. A function of its own, so that its variables are not on the stack
/// together with those of finding the rule.
#[inline(never)]
fn fill<const DROP: bool>(ctx: *mut c_void, event: &Event, detail: &mut Detail) -> u32 {
    let ctx = RawTracePointContext::new(ctx);
    detail.key = event.key;
    let (inode, uid) = event.socket.owner();
    detail.socket_inode = inode;
    detail.socket_uid = uid;
    detail.tcp_state = event.socket.tcp_state();
    detail.task_pid = ctx.tgid();
    detail.stack_id = match ctx.get_stackid(&STACKS, REUSE_STACKID) {
        Ok(id) => id as i32,
        Err(error) => error,
    };
    detail.len = event.len;
    detail.ttl = event.decoded.ttl();
    detail.tcp_flags = event.tcp_flags as u8;
    detail.tcp_seq = event.tcp_seq;
    detail.tcp_ack = event.tcp_ack;
    detail.socket_held = u8::from(event.socket.is_held_by_current());
    detail.ifname = device::name(event.device);
    // SAFETY: `comm` is as long as said.
    unsafe { bpf_get_current_comm(detail.comm.as_mut_ptr().cast(), COMM_LEN as u32) };
    detail.mark = 0;
    detail.header_len = 0;
    detail.bad_checksum = 0;
    conntrack::forget(&mut detail.conntrack);
    let packet = &event.packet;
    if !packet.skb.is_null() {
        detail.mark = packet.skb.read(constant!(LAYOUT.skb_mark));
        detail.bad_checksum = signs::has_bad_checksum(packet.skb) as u32;
        conntrack::read(packet.skb, &mut detail.conntrack);
        if DROP {
            conntrack::read_hooks(event, &mut detail.conntrack);
        }
        let at = event.decoded.tcp(&event.key.flow);
        if at != 0
            && let Ok(tcp) = packet.load::<[u8; 14]>(at)
        {
            detail.tcp_seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
            detail.tcp_ack = u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]);
            detail.tcp_flags = tcp[13];
        }
        let network = packet.network();
        // Without one, what stands there is not the packet's.
        if network != 0 {
            detail.header_len = packet.copy_headers(network, &mut detail.header);
        }
    }
    1
}
