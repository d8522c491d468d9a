//! The load: datagrams that a rule drops, as fast as they can be sent, and the rule's
//! own counter as the truth.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::run::truth;
use crate::sandbox::Sandbox;
use crate::scenario::{Topology, link_address};
use crate::traffic::frame::checksum;
use crate::traffic::raw;

/// The reason that the kernel gives for the load's drops.
pub const REASON: &str = "NETFILTER_DROP";

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

/// The port whose datagrams the rule drops.
const PORT: u16 = 9;

/// A port that nobody listens on; what is sent there has another reason.
const CLOSED: u16 = 10;

/// Drops at the earliest hook, so that a drop costs little beside what is measured.
const RULES: &str = "table ip bench {
    counter dropped { }
    chain early {
        type filter hook prerouting priority raw;
        udp dport 9 counter name dropped drop
    }
}";

/// Frames handed to the kernel at a time.
const BATCH: usize = 64;

/// Ethernet, IPv4 and UDP headers and 18 bytes: the least that Ethernet carries.
const FRAME: usize = 60;
const IP: usize = 14;
const UDP: usize = 34;

/// A truth that stays the same for this long is final.
const QUIET: Duration = Duration::from_millis(20);

/// Two hosts, one of which drops what the other sends.
pub struct Ground {
    /// `client` and `server`.
    pub sandbox: Sandbox,
    /// The server's network namespace, as in `where.netns`.
    pub netns: u64,
}

/// What is to be sent.
#[derive(Clone, Copy)]
pub struct Load {
    /// How many datagrams.
    pub packets: u32,
    /// Of how many flows, in turn.
    pub flows: u32,
    /// Datagrams a second; as many as it can without.
    pub rate: Option<u32>,
    /// Threads that send, each on a CPU of its own.
    pub senders: usize,
    /// After this time nothing more is sent.
    pub limit: Duration,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Packets that the rule dropped, by its own counter.
    pub dropped: u64,
    /// From the first to the last.
    pub took: Duration,
}

impl Load {
    /// As fast as one CPU can.
    pub const fn of(packets: u32, flows: u32) -> Self {
        Self {
            packets,
            flows,
            rate: None,
            senders: 1,
            limit: Duration::from_secs(10),
        }
    }
}

impl Ground {
    /// Makes the hosts and the rule.
    pub fn new() -> anyhow::Result<Self> {
        let pair: Topology = toml::Value::from("pair").try_into()?;
        let sandbox = Sandbox::new(&pair)?;
        sandbox.shell("server", "nft -f -", RULES)?;
        let netns = sandbox.host("server")?.inode;
        Ok(Self { sandbox, netns })
    }

    /// Sends, and waits until the rule has dropped the last one.
    pub fn drop(&self, load: Load) -> anyhow::Result<Sent> {
        let before = self.dropped()?;
        let took = self.send(load)?;
        let mut after = self.dropped()?;
        loop {
            std::thread::sleep(QUIET);
            let now = self.dropped()?;
            if now == after {
                break;
            }
            after = now;
        }
        Ok(Sent {
            dropped: after - before,
            took,
        })
    }

    /// What the rule has dropped so far.
    pub fn dropped(&self) -> anyhow::Result<u64> {
        let listing = self.sandbox.shell("server", "nft list counters", "")?;
        truth::counter_in(&listing, "ip", "bench", "dropped", "packets")
    }

    /// While `work` goes on, a datagram a millisecond to a closed port: a drop that a
    /// tracer sees as soon as it is attached, and with a reason that is not the load's.
    pub fn with_probes<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let server = self.sandbox.host("server")?;
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let prober = scope.spawn(|| {
                server.run(|| {
                    let socket = UdpSocket::bind((SERVER, 0))?;
                    while !is_over.load(Ordering::Relaxed) {
                        // The answer that nobody listens comes as an error.
                        let _ = socket.send_to(b"x", (SERVER, CLOSED));
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Ok(())
                })
            });
            let done = work();
            is_over.store(true, Ordering::Relaxed);
            match prober.join() {
                Ok(outcome) => done.and_then(|done| outcome.map(|()| done)),
                Err(_) => bail!("the thread that sends probes panicked"),
            }
        })
    }

    fn send(&self, load: Load) -> anyhow::Result<Duration> {
        let client = self.sandbox.host("client")?;
        let cpus = cpus()?;
        let together = Barrier::new(load.senders);
        let sender = |number: usize| {
            client.run(|| {
                let cpu = cpus[number % cpus.len()];
                let result = pin(cpu).and_then(|()| open());
                together.wait();
                send_frames(&result?, load, number)
            })
        };
        let sender = &sender;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..load.senders)
                .map(|number| scope.spawn(move || sender(number)))
                .collect();
            let mut longest = Duration::ZERO;
            for thread in threads {
                match thread.join() {
                    Ok(took) => longest = longest.max(took?),
                    Err(_) => bail!("a sending thread panicked"),
                }
            }
            Ok(longest)
        })
    }
}

/// The CPUs that this process may use, the last one first: the first ones have most of
/// the machine's other work.
pub fn cpus() -> anyhow::Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("cannot ask for the CPUs")?;
    let cpus = (0..CpuSet::count()).rev();
    Ok(cpus
        .filter(|cpu| allowed.is_set(*cpu) == Ok(true))
        .collect())
}

/// This thread on one CPU.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut one = CpuSet::new();
    one.set(cpu).context("cannot choose a CPU")?;
    sched_setaffinity(Pid::from_raw(0), &one).context("cannot stay on one CPU")
}

/// A packet socket that hands frames to the interface without a queue: the receiver
/// drops each before the next one is sent, so that nothing is lost on the way.
fn open() -> anyhow::Result<OwnedFd> {
    let socket = raw::open()?;
    let on: libc::c_int = 1;
    // SAFETY: `on` is valid for the call, of the size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const on).cast(),
            u32::try_from(size_of_val(&on))?,
        )
    };
    Errno::result(result).context("cannot send past the queue of the interface")?;
    Ok(socket)
}

/// The `number`th sender's share. Gives how long it took.
fn send_frames(socket: &OwnedFd, load: Load, number: usize) -> anyhow::Result<Duration> {
    let senders = u32::try_from(load.senders)?;
    let own = u32::try_from(number)?;
    let packets = (own..load.packets).step_by(load.senders);
    let mut frames = [template(); BATCH];
    let mut vectors: Vec<libc::iovec> = frames
        .iter_mut()
        .map(|frame| libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: FRAME,
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: plain data, of which zeros are a valid value.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let begin = Instant::now();
    let mut sent: u32 = 0;
    let mut packets = packets.peekable();
    while packets.peek().is_some() && begin.elapsed() < load.limit {
        if let Some(rate) = load.rate {
            let due = begin + Duration::from_secs(1) * sent / (rate / senders).max(1);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let mut batch = 0;
        for (message, packet) in messages.iter().zip(packets.by_ref().take(BATCH)) {
            // SAFETY: `msg_iov` points to one of `vectors`, and that to one of `frames`;
            // the kernel looks at them only inside the call below.
            let frame = unsafe { &mut *(*message.msg_hdr.msg_iov).iov_base.cast() };
            write_flow(frame, packet % load.flows);
            batch += 1;
        }
        send_batch(socket, &mut messages[..batch])?;
        sent += u32::try_from(batch)?;
    }
    Ok(begin.elapsed())
}

fn send_batch(socket: &OwnedFd, messages: &mut [libc::mmsghdr]) -> anyhow::Result<()> {
    let mut done = 0;
    while done < messages.len() {
        let rest = &mut messages[done..];
        let count = u32::try_from(rest.len())?;
        // SAFETY: `rest` holds so many messages, which point to live memory.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), count, 0) };
        done += usize::try_from(Errno::result(sent).context("cannot send frames")?)?;
    }
    Ok(())
}

/// A datagram to [`PORT`] but for its sender, which [`write_flow`] adds. It has no UDP
/// checksum, which IPv4 allows.
fn template() -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&link_address(SERVER));
    frame[6..12].copy_from_slice(&link_address(CLIENT));
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    // Version and header length; total length; time to live and protocol.
    frame[IP] = 0x45;
    frame[IP + 3] = 46;
    frame[IP + 8..IP + 10].copy_from_slice(&[64, 17]);
    frame[IP + 16..IP + 20].copy_from_slice(&SERVER.octets());
    frame[UDP + 2..UDP + 4].copy_from_slice(&PORT.to_be_bytes());
    frame[UDP + 5] = 26;
    frame
}

/// Sender and header checksum of a flow: 32,768 ports each from 10.128.0.0 on.
fn write_flow(frame: &mut [u8; FRAME], flow: u32) {
    let addr = u32::from(Ipv4Addr::new(10, 128, 0, 0)) + (flow >> 15);
    let port = 1024 + u16::try_from(flow & 0x7fff).unwrap_or_default();
    frame[IP + 12..IP + 16].copy_from_slice(&addr.to_be_bytes());
    frame[UDP..UDP + 2].copy_from_slice(&port.to_be_bytes());
    frame[IP + 10..IP + 12].fill(0);
    let sum = checksum(&frame[IP..UDP]);
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_flow_has_a_sender_of_its_own_and_a_good_header() {
        let mut frame = template();
        let mut senders = BTreeSet::new();
        for flow in (0..1_000_000).step_by(997) {
            write_flow(&mut frame, flow);
            // The sum over a header with its checksum is zero.
            assert_eq!(checksum(&frame[IP..UDP]), 0);
            senders.insert((
                frame[IP + 12..IP + 16].to_vec(),
                frame[UDP..UDP + 2].to_vec(),
            ));
        }
        assert_eq!(senders.len(), 1_000_000_usize.div_ceil(997));
    }
}
