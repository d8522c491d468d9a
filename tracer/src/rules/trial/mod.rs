//! Where on the kernel's stack stands what tells who dropped a packet.
//!
//! That is the compiler's choice and differs from kernel to kernel. So it is
//! found by trial: in a network namespace of its own, which is gone afterwards,
//! packets are sent to rules and programs that drop them, and the one place is
//! looked for at which the right word stood every time. Where there is none,
//! nothing is told.

pub mod verdicts;

use std::{
    fs, io,
    net::UdpSocket,
    ops::Range,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    thread,
};

use droptrace_types::{
    ABSENT, Addresses, ChainPlaces, HookPlaces, Layout, Places, RuleHead, STACK_WORDS,
    STACK_WORDS_BELOW, StackWords,
};

use super::nft;
use crate::tracer::{
    RuleMaps,
    netfilter::{Link, Program, Verdict},
};

/// Rules that drop, next to each other and behind others that were looked at and
/// did not, in chains with a hook and in one that is jumped to; see [`DROPPERS`].
/// Made of nothing that takes a kernel module beside that of nftables itself, and
/// of a family in which a new namespace sends nothing of its own.
const RULES: &str = "\
table ip droptrace_before {
  chain before {
    type filter hook output priority -10;
    udp dport 21 drop
  }
}
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
    type filter hook output priority 0; policy drop;
    udp dport 19 drop
    jump empty
    udp dport 1 drop
    udp dport 2 counter drop
    udp dport 3 drop
    udp dport vmap { 4 : drop }
    udp dport 10-18 jump deep
    udp dport 19 drop
    udp dport 5 drop
    udp dport 22-26 accept
    udp dport 6-19 drop
  }
  chain input {
    type filter hook input priority 0;
    udp dport 24 drop
  }
}
table ip droptrace_after {
  chain after {
    type filter hook output priority 10;
    udp dport 22 drop
  }
  chain nothing {
    udp dport 19 drop
  }
  chain then {
    type filter hook input priority 10; policy drop;
    udp dport 25 drop
    jump nothing
  }
}
";
/// A port of [`RULES`], and who drops what is sent there.
struct Dropper {
    port: u16,
    /// The chain that has the rule, or the policy.
    chain: &'static str,
    policy: bool,
    /// Who called the chain.
    by: Hooked,
}

/// An entry of a netfilter hook.
#[derive(Clone, Copy)]
struct Hooked {
    hook: u8,
    index: u64,
    /// How many entries the hook has.
    entries: u16,
}

/// `NF_INET_LOCAL_IN` and `NF_INET_LOCAL_OUT`
const INPUT: u8 = 1;
const OUTPUT: u8 = 3;

const DROPPERS: [Dropper; 14] = [
    Dropper::new(1, "output", OUTPUT, 1),
    Dropper::new(2, "output", OUTPUT, 1),
    Dropper::new(3, "output", OUTPUT, 1),
    Dropper::new(4, "output", OUTPUT, 1),
    Dropper::new(5, "output", OUTPUT, 1),
    Dropper::new(11, "deep", OUTPUT, 1),
    Dropper::new(12, "deep", OUTPUT, 1),
    Dropper::new(13, "deep", OUTPUT, 1),
    Dropper::new(21, "before", OUTPUT, 0),
    Dropper::new(22, "after", OUTPUT, 2),
    Dropper::new(24, "input", INPUT, 0),
    Dropper::new(25, "then", INPUT, 1),
    Dropper {
        policy: true,
        ..Dropper::new(99, "output", OUTPUT, 1)
    },
    // Right after the packet has come back from another chain.
    Dropper {
        policy: true,
        ..Dropper::new(26, "then", INPUT, 1)
    },
];

impl Dropper {
    const fn new(port: u16, chain: &'static str, hook: u8, index: u64) -> Self {
        let entries = if hook == OUTPUT { 3 } else { 2 };
        Self {
            port,
            chain,
            policy: false,
            by: Hooked {
                hook,
                index,
                entries,
            },
        }
    }
}

/// Priorities of BPF programs on a hook, and which of them drops.
const BPF_DROPPERS: [(u8, &[i32], usize); 5] = [
    (OUTPUT, &[-10, 0, 10], 0),
    (OUTPUT, &[-10, 0, 10], 1),
    (OUTPUT, &[-10, 0, 10, 20], 2),
    (INPUT, &[-10, 0], 0),
    (INPUT, &[-10, 0], 1),
];

/// Trials in a row at most, where one has not found the place of the rule: something
/// else may have come in between, or the kernel has skipped a program.
const ATTEMPTS: u32 = 3;

/// Mark of the packets.
pub use droptrace_types::TRIAL_MARK as MARK;
/// The kernel functions whose drops have on the stack who decided.
pub const FUNCTIONS: [&str; 2] = ["nft_do_chain", "nf_hook_slow"];
/// The tracepoint's second argument, as a word: where the packet was freed.
const LOCATION: usize = STACK_WORDS_BELOW + 1;
/// Behind the tracepoint's arguments.
const CALLERS: usize = STACK_WORDS_BELOW + 4;

/// What the trial needs to know of this kernel.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Where `nf_hook_slow` lies in memory.
    pub nf_hook_slow: (u64, u64),
    /// Offsets of `nf_hook_state.hook` and `.pf`.
    pub state: (u32, u32),
    /// nftables is there: in the kernel, or its module is loaded.
    pub has_nftables: bool,
    /// What its rules look like is known.
    pub has_rules: bool,
}

impl Known {
    /// From what the kernel programs are told.
    #[must_use]
    pub fn new(addresses: &Addresses, layout: &Layout) -> Self {
        Self {
            nf_hook_slow: (addresses.nf_hook_slow, addresses.nf_hook_slow_end),
            state: (layout.hook_state_hook, layout.hook_state_family),
            has_nftables: false,
            has_rules: false,
        }
    }
}

/// Finds the places and tells the kernel side, which of them were found is in the
/// result. The packets of the trial are counted nowhere.
///
/// # Errors
///
/// If the trial could not be made.
pub fn find(maps: &mut RuleMaps, known: &Known) -> io::Result<Places> {
    let mut places = apart(|netns| try_all(maps, known, netns));
    for _ in 1..ATTEMPTS {
        let is_missing = |places: &Places| known.has_rules && places.chain.is_known == 0;
        if !places.as_ref().is_ok_and(is_missing) {
            break;
        }
        places = apart(|netns| try_all(maps, known, netns));
    }
    let found = places.as_ref().copied().unwrap_or_default();
    maps.set_places(&found)?;
    places
}

/// Runs a trial on a thread of its own in a network namespace of its own, whose
/// number it gets, and which goes with the thread.
fn apart<T: Send>(trial: impl FnOnce(u32) -> io::Result<T> + Send) -> io::Result<T> {
    let run = || {
        // SAFETY: gives this thread, which ends with the trial, a namespace of its own.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let netns = fs::metadata("/proc/thread-self/ns/net")?.ino();
        raise_loopback()?;
        trial(u32::try_from(netns).map_err(io::Error::other)?)
    };
    thread::scope(|scope| {
        let failed = |_| Err(io::Error::other("the trial ended early"));
        scope.spawn(run).join().unwrap_or_else(failed)
    })
}

fn try_all(maps: &mut RuleMaps, known: &Known, netns: u32) -> io::Result<Places> {
    maps.set_places(&Places {
        trial_netns: netns,
        ..Places::default()
    })?;
    let mut trial = Trial {
        maps,
        known,
        socket: marked_socket()?,
        chain: OfChain::default(),
        hook: OfHook::default(),
    };
    trial.try_programs();
    if known.has_nftables {
        trial.try_rules()?;
    }
    Ok(Places {
        chain: trial.chain.places().unwrap_or_default(),
        hook: trial.hook.places().unwrap_or_default(),
        ..Places::default()
    })
}

/// Sends a packet to be dropped; the stack as it was then.
fn drop_at(maps: &mut RuleMaps, socket: &UdpSocket, port: u16) -> io::Result<Box<StackWords>> {
    maps.forget_stack()?;
    // It is refused, which is the point.
    let _ = socket.send_to(&[0], ("127.0.0.1", port));
    maps.stack()
}

struct Trial<'a> {
    maps: &'a mut RuleMaps,
    known: &'a Known,
    socket: UdpSocket,
    chain: OfChain,
    hook: OfHook,
}

impl Trial<'_> {
    fn is_of_hook(&self, stack: &StackWords) -> bool {
        let (start, end) = self.known.nf_hook_slow;
        stack.location > start && stack.location <= end
    }

    fn try_rules(&mut self) -> io::Result<()> {
        nft::add(RULES).map_err(io::Error::other)?;
        let listing = nft::list().map_err(io::Error::other)?;
        for dropper in &DROPPERS {
            let stack = drop_at(self.maps, &self.socket, dropper.port)?;
            if self.is_of_hook(&stack) {
                self.hook.keep(&stack, dropper.by, self.known.state);
            } else if self.known.has_rules {
                let handles = Handles::of(&listing, dropper)
                    .ok_or_else(|| io::Error::other("nft lists its rules in an unknown form"))?;
                self.chain.keep(&stack, handles);
            }
        }
        Ok(())
    }

    /// A kernel without such programs has other means, or none.
    fn try_programs(&mut self) {
        let result = self.try_each_program();
        if let Err(error) = result {
            log::debug!("no trial with BPF programs on netfilter hooks: {error}");
        }
    }

    fn try_each_program(&mut self) -> io::Result<()> {
        let drops = Program::load(Verdict::Drop)?;
        let accepts = Program::load(Verdict::Accept)?;
        for (hook, priorities, index) in BPF_DROPPERS {
            let attach = |(n, priority): (usize, &i32)| {
                let program = if n == index { &drops } else { &accepts };
                program.attach(hook, *priority)
            };
            let links = priorities.iter().enumerate().map(attach);
            let _links = links.collect::<io::Result<Vec<Link>>>()?;
            let stack = drop_at(self.maps, &self.socket, 9)?;
            if self.is_of_hook(&stack) {
                let by = Hooked {
                    hook,
                    index: index as u64,
                    entries: u16::try_from(priorities.len()).unwrap_or_default(),
                };
                self.hook.keep(&stack, by, self.known.state);
            }
        }
        Ok(())
    }
}

/// Words at which all is right so far.
struct Words(Vec<usize>);

impl Words {
    fn among(words: Range<usize>) -> Self {
        Self(words.collect())
    }

    fn keep(&mut self, is_right: impl Fn(usize) -> bool) {
        self.0.retain(|at| is_right(*at));
    }

    /// The innermost.
    fn first(&self) -> Option<u32> {
        u32::try_from(*self.0.first()?).ok()
    }

    /// The outermost: a register that a function on the way did not use shows
    /// once more further down.
    fn last(&self) -> Option<u32> {
        u32::try_from(*self.0.last()?).ok()
    }
}

/// Candidates for [`ChainPlaces`].
struct OfChain {
    tried: bool,
    location: Words,
    rule: Words,
    chain: Words,
    packet: Words,
}

impl Default for OfChain {
    fn default() -> Self {
        Self {
            tried: false,
            location: Words::among(CALLERS..STACK_WORDS),
            rule: Words::among(0..STACK_WORDS),
            chain: Words::among(0..STACK_WORDS),
            packet: Words::among(0..STACK_WORDS),
        }
    }
}

impl OfChain {
    /// Keeps those at which this stack has the location, the rule (for a policy the
    /// end of a chain), its chain and the packet.
    fn keep(&mut self, stack: &StackWords, handles: Handles) {
        self.tried = true;
        let location = stack.words[LOCATION];
        self.location
            .keep(|at| location != 0 && stack.words[at] == location);
        self.rule.keep(|at| {
            let head = RuleHead(stack.heads[at]);
            match handles.rule {
                None => head.is_last(),
                Some(handle) => !head.is_last() && head.handle() == handle,
            }
        });
        let before = self.chain.0.clone();
        self.chain.keep(|at| stack.chains[at] == handles.chain);
        if self.chain.0.is_empty() && handles.rule.is_none() {
            // Better none for such a policy than none for all rules: a chain that is not
            // the rule's does not pass for it.
            self.chain.0 = before;
        }
        // The caller has it in its frame; the program's own frame has words like it.
        let callers = stack.at + 8 * CALLERS as u64;
        self.packet.keep(|at| {
            stack.packet != 0 && stack.heads[at] == stack.packet && stack.words[at] >= callers
        });
    }

    fn places(&self) -> Option<ChainPlaces> {
        Some(ChainPlaces {
            is_known: u32::from(self.tried),
            location_at: self.location.first()?,
            rule_at: self.rule.last()?,
            chain_at: self.chain.last().unwrap_or(ABSENT),
            packet_at: self.packet.last().unwrap_or(ABSENT),
            pad: 0,
        })
        .filter(|_| self.tried)
    }
}

/// Candidates for [`HookPlaces`].
struct OfHook {
    tried: bool,
    location: Words,
    state: Words,
    entries: Words,
    index: Words,
}

impl Default for OfHook {
    fn default() -> Self {
        Self {
            tried: false,
            location: Words::among(CALLERS..STACK_WORDS),
            state: Words::among(0..STACK_WORDS),
            entries: Words::among(0..STACK_WORDS),
            index: Words::among(0..STACK_WORDS),
        }
    }
}

impl OfHook {
    fn keep(&mut self, stack: &StackWords, by: Hooked, (hook, family): (u32, u32)) {
        self.tried = true;
        let location = stack.words[LOCATION];
        self.location
            .keep(|at| location != 0 && stack.words[at] == location);
        let ipv4 = u8::try_from(libc::NFPROTO_IPV4).unwrap_or_default();
        let byte = |word: u64, n: u32| word.to_le_bytes().get(n as usize).copied();
        self.state.keep(|at| {
            let head = stack.heads[at];
            byte(head, hook) == Some(by.hook) && byte(head, family) == Some(ipv4)
        });
        // `num_hook_entries`, 16 bits wide.
        self.entries
            .keep(|at| stack.heads[at] & 0xffff == u64::from(by.entries));
        self.index.keep(|at| stack.words[at] == by.index);
    }

    fn places(&self) -> Option<HookPlaces> {
        Some(HookPlaces {
            is_known: 1,
            location_at: self.location.first()?,
            state_at: self.state.last()?,
            entries_at: self.entries.last()?,
            index_at: self.index.last()?,
            pad: 0,
        })
        .filter(|_| self.tried)
    }
}

/// The kernel's numbers of a rule and its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Handles {
    chain: u64,
    /// `None` for the chain's policy.
    rule: Option<u64>,
}

impl Handles {
    /// From what nft lists.
    fn of(listing: &str, dropper: &Dropper) -> Option<Self> {
        let head = format!("chain {} {{", dropper.chain);
        let chain = handle_of(listing, |line| line.trim_start().starts_with(&head))?;
        if dropper.policy {
            return Some(Self { chain, rule: None });
        }
        let port = dropper.port;
        let of_port = [
            format!("udp dport {port} "),
            format!("udp dport {{ {port} }}"),
            format!("vmap {{ {port} :"),
        ];
        let is_it = |line: &str| of_port.iter().any(|text| line.contains(text));
        let rule = handle_of(listing, is_it)?;
        Some(Self {
            chain,
            rule: Some(rule),
        })
    }
}

/// What stands at the end of the first such line.
fn handle_of(listing: &str, is_it: impl Fn(&str) -> bool) -> Option<u64> {
    let line = listing.lines().find(|line| is_it(line))?;
    line.rsplit_once("# handle ")?.1.trim().parse().ok()
}

/// A socket whose packets another tracer can tell from those of others.
fn marked_socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    // SAFETY: the option is a number of this size.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MARK,
            std::ptr::from_ref(&MARK).cast(),
            libc::socklen_t::try_from(size_of_val(&MARK)).unwrap_or_default(),
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A stack of which all words are zero but for these.
    fn stack(words: &[(usize, u64, u64)]) -> StackWords {
        let mut stack = StackWords {
            at: 0x1000,
            words: [0; STACK_WORDS],
            heads: [0; STACK_WORDS],
            chains: [0; STACK_WORDS],
            packet: 0xbeef,
            location: 0xcafe,
            verdict: 0,
            verdict_head: 0,
        };
        stack.words[LOCATION] = 0xcafe;
        stack.words[CALLERS + 7] = 0xcafe;
        for (at, word, head) in words {
            stack.words[*at] = *word;
            stack.heads[*at] = *head;
        }
        stack
    }

    fn rule(handle: u64) -> u64 {
        handle << 13
    }

    const LAST: u64 = 1;

    #[test]
    fn the_place_is_the_one_that_is_right_every_time() {
        let mut chain = OfChain::default();
        let packet = 0x1000 + 8 * 100;
        for (handle, next) in [(5, 6), (6, 9)] {
            let mut stack = stack(&[
                (10, 1, rule(handle)),
                (20, 1, rule(next)),
                (30, 1, rule(handle)),
                (40, packet, 0xbeef),
                (41, 0x1000, 0xbeef),
            ]);
            stack.chains[50] = 3;
            let handles = Handles {
                chain: 3,
                rule: Some(handle),
            };
            chain.keep(&stack, handles);
        }
        let mut at_policy = stack(&[(10, 1, rule(5)), (30, 1, LAST), (40, packet, 0xbeef)]);
        at_policy.chains[50] = 3;
        let policy = Handles {
            chain: 3,
            rule: None,
        };
        chain.keep(&at_policy, policy);
        let places = chain.places().unwrap();
        assert_eq!(places.location_at as usize, CALLERS + 7);
        assert_eq!((places.rule_at, places.chain_at), (30, 50));
        assert_eq!(places.packet_at, 40, "not the program's own frame");
    }

    #[test]
    fn without_a_place_that_holds_there_is_none() {
        assert_eq!(OfChain::default().places(), None);
        assert_eq!(OfHook::default().places(), None);
        let mut chain = OfChain::default();
        for handle in [5, 6] {
            let handles = Handles {
                chain: 3,
                rule: Some(handle),
            };
            chain.keep(&stack(&[(10, 1, rule(5))]), handles);
        }
        assert_eq!(chain.places(), None);
    }

    #[test]
    fn the_entry_of_a_hook_is_told_by_state_entries_and_index() {
        let mut hook = OfHook::default();
        for (number, index, entries) in [(OUTPUT, 0, 3), (OUTPUT, 2, 3), (INPUT, 1, 2)] {
            let state = u64::from(number) | 2 << 32;
            let stack = stack(&[
                (70, 0x2000, state),
                (71, 0x3000, entries | 0xff_0000),
                (72, index, 0),
                (73, 2, 0),
            ]);
            let by = Hooked {
                hook: number,
                index,
                entries: u16::try_from(entries).unwrap(),
            };
            hook.keep(&stack, by, (0, 4));
        }
        let places = hook.places().unwrap();
        assert_eq!(
            (places.state_at, places.entries_at, places.index_at),
            (70, 71, 72)
        );
    }

    #[test]
    fn handles_come_from_the_listing() {
        let listing = "table ip droptrace { # handle 1\n\tchain deep { # handle 1\n\
            \t\tudp dport 11 drop # handle 9\n\t}\n\tchain output { # handle 3\n\
            \t\tudp dport vmap { 4 : drop } # handle 14\n\t\tudp dport { 1 } drop # handle 8\n";
        let of = |port, chain, policy| {
            let dropper = Dropper {
                policy,
                ..Dropper::new(port, chain, OUTPUT, 1)
            };
            Handles::of(listing, &dropper).map(|found| (found.chain, found.rule))
        };
        assert_eq!(of(11, "deep", false), Some((1, Some(9))));
        assert_eq!(of(4, "output", false), Some((3, Some(14))));
        assert_eq!(of(1, "output", false), Some((3, Some(8))));
        assert_eq!(of(99, "output", true), Some((3, None)));
        assert_eq!(of(77, "output", false), None);
        assert_eq!(of(1, "gone", false), None);
    }

    #[test]
    fn every_dropper_stands_in_the_rules() {
        for dropper in &DROPPERS {
            let chain = format!("chain {} {{", dropper.chain);
            assert!(RULES.contains(&chain), "{chain}");
            let hook = if dropper.by.hook == OUTPUT {
                "hook output"
            } else {
                "hook input"
            };
            assert_eq!(
                RULES.matches(hook).count(),
                usize::from(dropper.by.entries),
                "{hook}"
            );
        }
    }
}
