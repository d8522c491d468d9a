//! Part 6: what grows with the number of rules, of network namespaces and of CPUs. Of
//! flows, part 1 tells.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Bench;
use super::contender::Contender;
use super::cost::{self, ACCOUNTED, KERNEL_TIME};
use super::load::{self, Load};
use super::report::several;
use super::samples::{Metric, figure, metric};
use super::space::{MEMORY, mib};
use super::start::{ALL, millis};
use super::usage;
use crate::run::statistics;
use crate::sandbox::NetNs;

/// As the report names these parts.
pub const RULES: &str = "growth: rules";
pub const NAMESPACES: &str = "growth: namespaces";
pub const CPUS: &str = "growth: CPUs";

/// Of flows that have one drop each.
const FIRST: Metric = metric("kernel time, first drop", "ns");
/// Of one flow.
const LATER: Metric = metric("kernel time, later drops", "ns");
/// The same, by that of a daemon which names no rules. Both grow with a rule set: the
/// kernel walks over it for each packet, which takes the caches.
pub const FIRST_RATIO: Metric = metric("first drop, × without rules", "×");
pub const LATER_RATIO: Metric = metric("later drops, × without rules", "×");
/// Drops whose rule is named.
const NAMED: Metric = metric("with rule", "%");
/// Of the process, from its start on.
const CPU: Metric = metric("user space", "s of CPU");
/// At rest.
const REST: Metric = metric("CPU at rest", "% of one");

/// Of the CPUs that send, together.
const THROUGHPUT: Metric = metric("throughput", "packets/s");

/// All CPUs count the same flow, which is the worst for a map that they share.
const ON_CPUS: [Contender; 4] = [
    Contender::Nothing,
    Contender::Floor,
    Contender::Daemon,
    Contender::BpftraceCount,
];

const CONTENDERS: [Contender; 2] = [Contender::Daemon, Contender::DaemonNoRules];

const SIZES: [u32; 5] = [10, 100, 1_000, 10_000, 50_000];
const HOSTS: [u32; 4] = [1, 10, 100, 1_000];

/// Few, since with many rules the kernel takes long for each.
const PACKETS: u32 = 2_000;

/// A port that nobody listens on.
const CLOSED: u16 = 10;

/// How long a rule set may be read.
const READING: Duration = Duration::from_secs(3);

/// Measures it.
pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let rounds = bench.rounds_or(3);
    let sizes = if bench.is_short { 2 } else { SIZES.len() };
    for size in &SIZES[..sizes] {
        let rules = rules(*size);
        bench.ground.sandbox.shell("server", "nft -f -", &rules)?;
        bench.rounds(rounds, &CONTENDERS, |bench, contender| {
            with_rules(bench, contender, *size)
        })?;
    }
    let without = Contender::DaemonNoRules.name();
    let samples = &mut bench.samples;
    samples.relate(RULES, FIRST, without, FIRST_RATIO, 1.0);
    samples.relate(RULES, LATER, without, LATER_RATIO, 1.0);
    let few = rules(1);
    bench.ground.sandbox.shell("server", "nft -f -", &few)?;
    let counts = if bench.is_short { 1 } else { HOSTS.len() };
    for count in &HOSTS[..counts] {
        let hosts = hosts(*count)?;
        bench.rounds(rounds, &CONTENDERS[..1], |bench, contender| {
            with_namespaces(bench, contender, &hosts)
        })?;
    }
    bench.rounds(rounds, &ON_CPUS, on_cpus)
}

/// The case's name.
pub fn case(size: u32) -> String {
    several(size.into(), "rule")
}

/// The last rule of the largest set that this run measures.
pub fn largest(is_short: bool) -> u32 {
    if is_short { SIZES[1] } else { SIZES[4] }
}

/// The smallest rule set.
pub const SMALLEST: u32 = SIZES[0];

/// The load's table with so many rules, of which the last one drops.
fn rules(size: u32) -> String {
    // Of a network for documentation, which sends nothing.
    let others: Vec<_> = (1..size)
        .map(|rule| format!("ip saddr 192.0.2.1 udp dport {} drop", 1 + rule % 65_535))
        .collect();
    let others = others.join("\n");
    format!(
        "flush ruleset
        table ip bench {{
            counter dropped {{ }}
            chain early {{
                type filter hook prerouting priority raw;
                {others}
                udp dport 9 counter name dropped drop
            }}
        }}"
    )
}

fn with_rules(bench: &mut Bench, contender: Contender, size: u32) -> anyhow::Result<()> {
    let case = case(size);
    let session = bench.start(contender)?;
    let begin = session.began.all;
    bench.add(RULES, &case, contender, ALL, millis(begin));
    std::thread::sleep(if size < 10_000 { READING / 3 } else { READING });
    let before = bench.ground.dropped()?;
    for (metric, flows) in [(FIRST, PACKETS), (LATER, 1)] {
        let statistics = statistics::enable()?;
        let begin = session.programs()?;
        let sent = bench.ground.drop(Load::of(PACKETS, flows))?;
        let time = session.programs()?.time - begin.time;
        drop(statistics);
        let each = figure(time) / figure(sent.dropped);
        bench.add(RULES, &case, contender, metric, each);
        cost::settle(contender);
    }
    let cpu = session.cpu()?.as_secs_f64();
    bench.add(RULES, &case, contender, CPU, cpu);
    let peak = usage::peak(session.process())?;
    bench.add(RULES, &case, contender, MEMORY, mib(peak));
    let dropped = figure(bench.ground.dropped()? - before);
    let counted = session.stop(&bench.ground)?;
    let counted = counted.context("a daemon counts")?;
    for (metric, packets) in [(ACCOUNTED, counted.drops), (NAMED, counted.with_rule)] {
        let share = 100.0 * figure(packets) / dropped;
        bench.add(RULES, &case, contender, metric, share);
    }
    Ok(())
}

fn with_namespaces(bench: &mut Bench, contender: Contender, hosts: &[NetNs]) -> anyhow::Result<()> {
    let case = several(u64::try_from(hosts.len())?, "namespace");
    let session = bench.start(contender)?;
    bench.add(NAMESPACES, &case, contender, ALL, millis(session.began.all));
    cost::settle(contender);
    let begin = session.cpu()?;
    let rest = Duration::from_secs(2);
    std::thread::sleep(rest);
    let spent = session.cpu()?.saturating_sub(begin).as_secs_f64();
    let share = 100.0 * spent / rest.as_secs_f64();
    bench.add(NAMESPACES, &case, contender, REST, share);

    let statistics = statistics::enable()?;
    let before = session.programs()?;
    for host in hosts {
        host.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.send_to(b"x", (Ipv4Addr::LOCALHOST, CLOSED))?;
            Ok(())
        })?;
    }
    let time = session.programs()?.time - before.time;
    drop(statistics);
    let drops = figure(u64::try_from(hosts.len())?);
    bench.add(
        NAMESPACES,
        &case,
        contender,
        KERNEL_TIME,
        figure(time) / drops,
    );
    cost::settle(contender);
    let peak = usage::peak(session.process())?;
    bench.add(NAMESPACES, &case, contender, MEMORY, mib(peak));
    let cpu = session.cpu()?.as_secs_f64();
    bench.add(NAMESPACES, &case, contender, CPU, cpu);
    let is_ours = |netns| hosts.iter().any(|host| host.inode == netns);
    let counted = session.stop_and_count("NO_SOCKET", is_ours)?;
    let accounted = 100.0 * figure(counted.drops) / drops;
    bench.add(NAMESPACES, &case, contender, ACCOUNTED, accounted);
    Ok(())
}

fn on_cpus(bench: &mut Bench, contender: Contender) -> anyhow::Result<()> {
    let session = bench.start(contender)?;
    let packets = if bench.is_short { 50_000 } else { 300_000 };
    for senders in 1..=load::cpus()?.len() {
        let case = several(u64::try_from(senders)?, "CPU");
        let load = Load {
            senders,
            ..Load::of(packets * u32::try_from(senders)?, 1)
        };
        let sent = bench.ground.drop(load)?;
        let rate = figure(sent.dropped) / sent.took.as_secs_f64();
        bench.add(CPUS, &case, contender, THROUGHPUT, rate);
        let statistics = statistics::enable()?;
        let begin = session.programs()?;
        let sent = bench.ground.drop(load)?;
        let time = session.programs()?.time - begin.time;
        drop(statistics);
        if time > 0 {
            let each = figure(time) / figure(sent.dropped);
            bench.add(CPUS, &case, contender, KERNEL_TIME, each);
        }
    }
    session.stop(&bench.ground)?;
    Ok(())
}

/// So many namespaces, in which a packet can be sent to oneself.
fn hosts(count: u32) -> anyhow::Result<Vec<NetNs>> {
    // Each is a file of this process. Whom it starts has the limit from before.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = soft.max(u64::from(count) + 256).min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).context("cannot open so many files")?;
    let hosts = (0..count)
        .map(|_| {
            let host = NetNs::new()?;
            host.run(loopback_up)?;
            Ok(host)
        })
        .collect();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    hosts
}

fn loopback_up() -> anyhow::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: plain data, of which zeros are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP)?;
    // SAFETY: the request is valid for the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    Errno::result(result).context("cannot bring up a loopback interface")?;
    Ok(())
}
