//! `droptrace probe`: attempts of the tracer's own, and what became of them.

use std::{
    future, io,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type};
use jiff::Timestamp;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{self, Instant},
};

use super::{Failure, trace};
use crate::{
    cli::{Developer, Probe, RulesMode, Select, Trace, VerdictsMode},
    conversation::{Attempt, Endpoints},
    event::Outcome,
    owner::netns,
};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// After the last one, until what comes late has come.
const AFTERWARDS: Duration = Duration::from_millis(600);
/// What a datagram carries.
const PAYLOAD: &[u8] = b"droptrace";

/// Tries to reach the endpoint. The answer is the exit code.
///
/// # Errors
///
/// If the command line asks for what is not there, this kernel or user cannot trace, or
/// something fails on the way. That the endpoint cannot be reached is none.
pub fn probe(args: &Probe) -> Result<u8, Failure> {
    let to = resolve(&args.to)?;
    let namespace = match &args.netns {
        None => None,
        Some(word) => {
            let inode = netns::inode_of(word).map_err(Failure::usage)?;
            let gone = || Failure::Usage(format!("--netns {word}: no file stands for it"));
            Some(netns::open(inode).ok_or_else(gone)?.1)
        }
    };
    let attempts = Attempts::Planned(Plan {
        to,
        is_udp: args.udp,
        count: args.count,
        timeout: args.timeout,
        pings: !args.no_ping,
        namespace,
    });
    let outcome = trace::run(&how(args, to), Some(attempts))?;
    Ok(outcome.map_or(1, exit_code))
}

/// As `--help` has it.
const fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Connected => 0,
        Outcome::Degraded => 4,
        Outcome::Reset => 5,
        Outcome::Refused => 6,
        Outcome::Timeout => 7,
        Outcome::Unreachable => 8,
    }
}

fn resolve(word: &str) -> Result<SocketAddr, Failure> {
    let hint =
        "write an address and a port, such as 10.0.0.5:443, [fd00::5]:443 or example.org:443";
    let found = word.to_socket_addrs();
    let mut found = found.map_err(|error| Failure::Usage(format!("{word}: {error}; {hint}")))?;
    found
        .next()
        .filter(|to| to.port() != 0)
        .ok_or_else(|| Failure::Usage(format!("{word}: no address; {hint}")))
}

/// How to trace meanwhile.
fn how(args: &Probe, to: SocketAddr) -> Trace {
    Trace {
        select: Select {
            dst: vec![to.to_string()],
            netns: args.netns.iter().cloned().collect(),
            ..Select::default()
        },
        format: args.format,
        output: None,
        all: false,
        color: args.color,
        duration: None,
        count: None,
        interval: Duration::from_millis(200),
        max_flows: 1024,
        rules: RulesMode::Auto,
        allow_system_changes: false,
        verdicts: VerdictsMode::Auto,
        developer: Developer::default(),
    }
}

/// Attempts of the tracer's own.
pub enum Attempts {
    /// They begin when everything is attached.
    Planned(Plan),
    /// Each is told when it has ended.
    Begun(UnboundedReceiver<Attempt>),
    /// What comes late may come until then.
    Ended(Instant),
}

/// What is to be tried.
pub struct Plan {
    to: SocketAddr,
    is_udp: bool,
    count: u32,
    timeout: Duration,
    pings: bool,
    /// Where from; `None` for the tracer's own namespace.
    namespace: Option<std::fs::File>,
}

impl Attempts {
    /// Lets them begin, on a thread of their own.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        let (sender, receiver) = unbounded_channel();
        if let Self::Planned(plan) = std::mem::replace(self, Self::Begun(receiver)) {
            thread::Builder::new()
                .name("probe".to_owned())
                .spawn(move || plan.make(&sender))
                .context("cannot start a thread for the attempts")?;
        }
        Ok(())
    }
}

/// The next attempt that has ended; `None` some time after the last one. Waits for ever
/// where none are made.
pub async fn next(attempts: &mut Option<Attempts>) -> Option<Attempt> {
    if let Some(Attempts::Begun(receiver)) = attempts {
        let attempt = receiver.recv().await;
        if attempt.is_some() {
            return attempt;
        }
        *attempts = Some(Attempts::Ended(Instant::now() + AFTERWARDS));
    }
    match attempts {
        Some(Attempts::Ended(until)) => time::sleep_until(*until).await,
        _ => future::pending().await,
    }
    None
}

impl Plan {
    fn make(self, told: &UnboundedSender<Attempt>) {
        let all = || self.try_all(told);
        let Some(namespace) = &self.namespace else {
            return all();
        };
        if let Err(error) = netns::enter(namespace, all) {
            log::error!("nothing was tried: the network namespace cannot be entered: {error}");
        }
    }

    fn try_all(&self, told: &UnboundedSender<Attempt>) {
        for i in 0..self.count {
            if i > 0 {
                thread::sleep(PAUSE);
            }
            if self.pings
                && let Err(error) = ping(self.to.ip())
            {
                log::debug!("no echo request was sent: {error}");
            }
            if told.send(self.attempt()).is_err() {
                break;
            }
        }
    }

    /// One attempt, and how it ended for an application.
    fn attempt(&self) -> Attempt {
        let began = Timestamp::now();
        let mut attempt = Attempt {
            began,
            ended: began,
            flow: None,
            to: self.to,
            proto: if self.is_udp { 17 } else { 6 },
            error: 0,
            answered: false,
        };
        let ended = if self.is_udp {
            self.ask(&mut attempt)
        } else {
            self.connect(&mut attempt)
        };
        attempt.ended = Timestamp::now();
        if let Err(error) = ended {
            let timed_out = [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock];
            let late = timed_out.contains(&error.kind()).then_some(libc::ETIMEDOUT);
            attempt.error = late.or(error.raw_os_error()).unwrap_or(libc::EIO);
        }
        attempt
    }

    fn connect(&self, attempt: &mut Attempt) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(self.to), Type::STREAM, None)?;
        // Has a port from now on, which would else be told only where it succeeds.
        socket.bind(&any(self.to).into())?;
        attempt.flow = flow(&socket, self.to);
        let connected = socket.connect_timeout(&self.to.into(), self.timeout);
        attempt.flow = flow(&socket, self.to).or(attempt.flow);
        connected
    }

    fn ask(&self, attempt: &mut Attempt) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(self.to), Type::DGRAM, None)?;
        socket.connect(&self.to.into())?;
        attempt.flow = flow(&socket, self.to);
        socket.set_read_timeout(Some(self.timeout))?;
        socket.send(PAYLOAD)?;
        socket.recv(&mut [MaybeUninit::uninit(); 1])?;
        attempt.answered = true;
        Ok(())
    }
}

fn any(like: SocketAddr) -> SocketAddr {
    let address: IpAddr = if like.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    (address, 0).into()
}

fn flow(socket: &Socket, to: SocketAddr) -> Option<Endpoints> {
    let src = socket.local_addr().ok()?.as_socket()?;
    Some(Endpoints { src, dst: to })
}

/// Sends an echo request, whose answer the kernel side will see.
fn ping(to: IpAddr) -> io::Result<()> {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let echo = IcmpEchoHeader {
        id: u16::from_be_bytes([high, low]),
        seq: 1,
    };
    let (domain, protocol, message) = match to {
        IpAddr::V4(_) => {
            let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), PAYLOAD);
            (Domain::IPV4, Protocol::ICMPV4, header.to_bytes().to_vec())
        }
        // The kernel adds the checksum.
        IpAddr::V6(_) => {
            let mut header = vec![128, 0, 0, 0];
            header.extend(echo.to_bytes());
            (Domain::IPV6, Protocol::ICMPV6, header)
        }
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    let to = SockAddr::from(SocketAddr::new(to, 0));
    socket.send_to(&[&message, PAYLOAD].concat(), &to)?;
    Ok(())
}
