//! droptrace's kernel programs: one for each event, and some for what older
//! kernels' tracepoints do not tell.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod conntrack;
mod count;
mod detail;
mod device;
mod drop;
mod event;
mod filter;
mod hook;
mod ip;
mod kernel;
mod kfunc;
mod maps;
mod nested;
mod packet;
mod places;
mod reset;
mod retransmit;
mod rule;
mod sighting;
mod signs;
mod socket;
mod stack;
mod trouble;
mod verdict;
mod xtables;

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, kprobe, kretprobe, raw_tracepoint},
    programs::{
        BtfTracePointContext, FEntryContext, ProbeContext, RawTracePointContext, RetProbeContext,
    },
};
use droptrace_types::SightingKind;

/// `kfree_skb(skb, location, reason, rx_sk)`: reason since Linux 5.17, `rx_sk`
/// since 6.11. Runs for packets freed undelivered, never for packets that pass.
/// <https://github.com/torvalds/linux/blob/v6.12/include/trace/events/skb.h>
#[btf_tracepoint(function = "kfree_skb")]
fn kfree_skb(ctx: BtfTracePointContext) -> i32 {
    nested::run_first(&ctx, drop::record);
    0
}

/// Calls [`kfree_skb`] where the kernel has kept it from a packet, because it runs
/// already on this CPU. It also keeps the stack's form: with two programs at a
/// tracepoint another tracer's does not change how the kernel calls them.
#[btf_tracepoint(function = "kfree_skb")]
fn kfree_skb_nested(ctx: BtfTracePointContext) -> i32 {
    nested::call_first(&ctx);
    0
}

/// `tcp_send_reset(sk, skb, reason)`: reason since Linux 6.10. `skb` is the
/// packet that is answered, null for a reset that the socket sends by itself;
/// `sk` is null where no socket exists.
/// <https://github.com/torvalds/linux/blob/v6.12/include/trace/events/tcp.h>
#[btf_tracepoint(function = "tcp_send_reset")]
fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    reset::record_sent(&ctx);
    0
}

/// `tcp_v4_send_reset(sk, skb)`: the reset that answers a packet for which no
/// socket exists. For kernels whose `tcp_send_reset` tracepoint is passed only
/// with a socket (before Linux 6.10). Runs where a reset is due, never for
/// packets that pass.
/// <https://github.com/torvalds/linux/blob/v6.1/net/ipv4/tcp_ipv4.c>
#[fentry(function = "tcp_v4_send_reset")]
fn tcp_v4_send_reset(ctx: FEntryContext) -> i32 {
    reset::record_sent_without_socket(&ctx);
    0
}

/// As [`tcp_v4_send_reset`].
#[fentry(function = "tcp_v6_send_reset")]
fn tcp_v6_send_reset(ctx: FEntryContext) -> i32 {
    reset::record_sent_without_socket(&ctx);
    0
}

/// `tcp_receive_reset(sk)`: a reset that a connection accepted (`tcp_reset`).
/// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_input.c>
#[btf_tracepoint(function = "tcp_receive_reset")]
fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    reset::record_received(&ctx);
    0
}

/// `tcp_retransmit_skb(sk, skb, err)`: `err` in newer kernels; before, the
/// tracepoint is passed only where sending succeeded.
/// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_output.c>
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    retransmit::record_segment(&ctx);
    0
}

/// `tcp_retransmit_synack(sk, req)`: a listener answers a SYN once more.
/// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_output.c>
#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn tcp_retransmit_synack(ctx: BtfTracePointContext) -> i32 {
    retransmit::record_synack(&ctx);
    0
}

/// `netif_receive_skb(skb)`: an interface has received a packet. Runs on packets that
/// pass, and so does the next; attached only where a filter selects conversations.
/// <https://github.com/torvalds/linux/blob/v6.12/net/core/dev.c>
#[btf_tracepoint(function = "netif_receive_skb")]
fn netif_receive_skb(ctx: BtfTracePointContext) -> i32 {
    sighting::record_packet(&ctx, SightingKind::PacketIn);
    0
}

/// `net_dev_queue(skb)`: an interface is to send a packet.
/// <https://github.com/torvalds/linux/blob/v6.12/net/core/dev.c>
#[btf_tracepoint(function = "net_dev_queue")]
fn net_dev_queue(ctx: BtfTracePointContext) -> i32 {
    sighting::record_packet(&ctx, SightingKind::PacketOut);
    0
}

/// `inet_sock_set_state(sk, oldstate, newstate)`: some times in a connection's life.
/// Attached only where conversations are watched.
/// <https://github.com/torvalds/linux/blob/v6.12/include/trace/events/sock.h>
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    sighting::record_state(&ctx);
    0
}

/// `nft_do_chain(pkt, priv)`. This and the next three run on packets that pass, and
/// are attached only while they are needed.
/// <https://github.com/torvalds/linux/blob/v5.10/net/netfilter/nf_tables_core.c>
#[kprobe]
fn nft_chain(ctx: ProbeContext) -> u32 {
    verdict::begin(&ctx);
    0
}

/// `nft_immediate_eval(expr, regs, pkt)`: `accept`, `drop`, `jump` and the like.
/// <https://github.com/torvalds/linux/blob/v5.10/net/netfilter/nft_immediate.c>
#[kprobe]
fn nft_immediate(ctx: ProbeContext) -> u32 {
    verdict::decide::<true>(&ctx);
    0
}

/// Functions with the same arguments that may set a verdict, as `nft_lookup_eval`
/// does with a verdict map.
/// <https://github.com/torvalds/linux/blob/v5.10/net/netfilter/nft_lookup.c>
#[kprobe]
fn nft_decide(ctx: ProbeContext) -> u32 {
    verdict::decide::<false>(&ctx);
    0
}

/// As [`nft_decide`], when they have.
#[kretprobe]
fn nft_decided(ctx: RetProbeContext) -> u32 {
    verdict::decided(&ctx);
    0
}

/// Never attached: user space runs it to read kernel memory. Its first argument
/// is the address, its second how many bytes.
#[raw_tracepoint(tracepoint = "kfree_skb")]
fn xt_read(ctx: RawTracePointContext) -> i32 {
    xtables::read(&ctx)
}

/// Never attached: user space runs it on each CPU to take the counters of rules as
/// they are. Its arguments are the first block, how many, and the address of this
/// program's own per-CPU memory.
#[raw_tracepoint(tracepoint = "kfree_skb")]
fn xt_settle(ctx: RawTracePointContext) -> i32 {
    xtables::settle(&ctx)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The programs contain no panicking operation; the linker drops this, and
    // the verifier would refuse a program that could reach it.
    loop {}
}

/// Helpers for tracing are offered to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
