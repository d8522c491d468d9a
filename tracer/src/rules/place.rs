//! Where on the kernel's stack the rule stands that dropped a packet.
//!
//! That is the compiler's choice and differs from kernel to kernel. So it is
//! found by trial: in a network namespace of its own, which is gone afterwards,
//! packets are sent to rules that drop them, and the one place is looked for at
//! which the right rule stands every time. Where there is none, no rule is told.

use std::{
    fs, io,
    net::UdpSocket,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    thread,
};

use droptrace_types::{RULE_STACK_BELOW, RULE_STACK_WORDS, RuleHead, RulePlace, RuleStack};

use super::nft;
use crate::tracer::RuleMaps;

/// Rules that drop, next to each other and behind others that were looked at and
/// did not, in a chain with a hook and in one that is jumped to. Each port has
/// its rule; what comes to [`POLICY`] no rule drops. Made of nothing that takes a
/// kernel module beside that of nftables itself, and of a family in which a new
/// namespace sends nothing of its own.
const RULES: &str = "\
table ip droptrace {
  chain deep {
    udp dport 19 drop
    udp dport 11 drop
    udp dport 12 drop
    udp dport 13 counter drop
    udp dport 18 drop
  }
  chain empty {
    udp dport 19 drop
  }
  chain output {
    type filter hook output priority filter; policy drop;
    udp dport 19 drop
    jump empty
    udp dport 1 drop
    udp dport 2 counter drop
    udp dport 3 drop
    udp dport vmap { 4 : drop }
    udp dport 10-18 jump deep
    udp dport 19 drop
    udp dport 5 drop
    udp dport 6-19 drop
  }
}
";
/// The kernel function whose drops have a rule on the stack.
pub const FUNCTION: &str = "nft_do_chain";
/// Ports that have a rule.
const PORTS: [u16; 8] = [1, 2, 3, 4, 5, 11, 12, 13];
/// A port without a rule.
const POLICY: u16 = 99;
/// The tracepoint's second argument, as a word: where the packet was freed.
const LOCATION: usize = RULE_STACK_BELOW + 1;
/// Behind the tracepoint's arguments.
const CALLERS: usize = RULE_STACK_BELOW + 4;

/// Finds the place and tells the kernel side; false where there is none that
/// holds for all rules. The packets of the trial are counted nowhere.
///
/// # Errors
///
/// If the trial could not be made.
pub fn find(maps: &mut RuleMaps) -> io::Result<bool> {
    // The namespace is the thread's, and goes with it.
    let place = thread::scope(|scope| {
        let trial = scope.spawn(|| try_rules(maps));
        let failed = |_| Err(io::Error::other("the trial ended early"));
        trial.join().unwrap_or_else(failed)
    });
    let found = place.as_ref().ok().copied().flatten();
    maps.set_place(&found.unwrap_or_default())?;
    place.map(|place| place.is_some())
}

fn try_rules(maps: &mut RuleMaps) -> io::Result<Option<RulePlace>> {
    // SAFETY: gives this thread, which ends with the trial, a namespace of its own.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let netns = fs::metadata("/proc/thread-self/ns/net")?.ino();
    raise_loopback()?;
    nft::add(RULES).map_err(io::Error::other)?;
    let listing = nft::list().map_err(io::Error::other)?;
    let search = RulePlace {
        trial_netns: u32::try_from(netns).map_err(io::Error::other)?,
        ..RulePlace::default()
    };
    maps.set_place(&search)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let mut places = Places::all();
    for port in PORTS.into_iter().chain([POLICY]) {
        maps.forget_stack()?;
        // It is refused, which is the point.
        let _ = socket.send_to(&[0], ("127.0.0.1", port));
        places.keep(&*maps.stack()?, handle_of(&listing, port));
    }
    Ok(places.outermost())
}

/// The places at which all is right so far.
struct Places {
    location: Vec<usize>,
    rule: Vec<usize>,
}

impl Places {
    fn all() -> Self {
        Self {
            location: (CALLERS..RULE_STACK_WORDS).collect(),
            rule: (0..RULE_STACK_WORDS).collect(),
        }
    }

    /// Keeps those at which this stack has the rule with the handle, or for the
    /// policy the end of a chain, and the location.
    fn keep(&mut self, stack: &RuleStack, handle: Option<u64>) {
        let location = stack.words[LOCATION];
        self.location
            .retain(|at| location != 0 && stack.words[*at] == location);
        self.rule.retain(|at| {
            let head = RuleHead(stack.heads[*at]);
            handle.map_or(head.is_last(), |handle| {
                !head.is_last() && head.handle() == handle
            })
        });
    }

    /// The place. Of several the outermost: a register that a function on the way
    /// did not use shows once more further down.
    fn outermost(&self) -> Option<RulePlace> {
        let (location, rule) = (self.location.first()?, self.rule.last()?);
        Some(RulePlace {
            is_known: 1,
            trial_netns: 0,
            location_at: u32::try_from(*location).ok()?,
            rule_at: u32::try_from(*rule).ok()?,
        })
    }
}

/// Handle of the rule for `port`.
fn handle_of(listing: &str, port: u16) -> Option<u64> {
    let of_port = [
        format!("udp dport {port} "),
        format!("udp dport {{ {port} }}"),
        format!("vmap {{ {port} :"),
    ];
    let line = listing
        .lines()
        .find(|line| of_port.iter().any(|text| line.contains(text)))?;
    line.rsplit_once("# handle ")?.1.trim().parse().ok()
}

fn raise_loopback() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: zeros are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    // SAFETY: a valid request for this socket.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
