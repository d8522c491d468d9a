//! The programs at nftables' own functions: attached while they are needed, and
//! gone from the kernel afterwards.

use std::collections::HashSet;

use aya::{
    Ebpf,
    programs::{KProbe, Program, ProgramError},
};

use super::{Tracer, programs::verdict};

/// What begins with a base chain, and what sets the verdict of a rule that says
/// `accept`, `drop`, `jump`.
const CHAIN: (&str, &str) = ("nft_chain", "nft_do_chain");
const IMMEDIATE: (&str, &str) = ("nft_immediate", "nft_immediate_eval");
/// At the start and at the end of each of [`DECIDING`].
const DECIDE: &str = "nft_decide";
const DECIDED: &str = "nft_decided";

/// All other functions of expressions that set a verdict which drops or queues, or
/// that call one. Which of them there are depends on the kernel, and on the modules that the
/// rules need.
const DECIDING: [&str; 30] = [
    "nft_lookup_eval",
    "nft_dynset_eval",
    "nft_objref_eval",
    "nft_objref_map_eval",
    "nft_reject_ipv4_eval",
    "nft_reject_ipv6_eval",
    "nft_reject_inet_eval",
    "nft_reject_bridge_eval",
    "nft_reject_netdev_eval",
    "nft_target_eval_xt",
    "nft_target_eval_bridge",
    "nft_match_eval",
    "nft_match_large_eval",
    "nft_connlimit_eval",
    "nft_queue_eval",
    "nft_queue_sreg_eval",
    "nft_synproxy_eval",
    "nft_nat_eval",
    "nft_nat_inet_eval",
    "nft_masq_eval",
    "nft_masq_ipv4_eval",
    "nft_masq_ipv6_eval",
    "nft_masq_inet_eval",
    "nft_redir_eval",
    "nft_redir_ipv4_eval",
    "nft_redir_ipv6_eval",
    "nft_redir_inet_eval",
    "nft_fwd_neigh_eval",
    "nft_ct_set_zone_eval",
    "nft_exthdr_tcp_strip_eval",
];

/// Why rules cannot be seen at nftables' own functions.
#[derive(Debug, thiserror::Error)]
pub enum VerdictsError {
    /// There is no such function now.
    #[error("the kernel has no function {0}, or hides it; is nf_tables loaded?")]
    NoFunction(&'static str),
    /// The kernel refuses.
    #[error("the kernel refuses a program at its function {function}: {}", verdict(.error))]
    Refused {
        /// Where it was to run.
        function: &'static str,
        /// What the kernel said.
        error: ProgramError,
    },
}

/// Which functions have programs.
#[derive(Debug, Default)]
pub struct Verdicts {
    attached: HashSet<&'static str>,
}

impl Verdicts {
    /// Attaches programs to the functions among `present` that have none yet.
    pub(super) fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        present: &HashSet<String>,
    ) -> Result<(), VerdictsError> {
        for (_, function) in [CHAIN, IMMEDIATE] {
            if !present.contains(function) {
                return Err(VerdictsError::NoFunction(function));
            }
        }
        // What is undecided must not look as if nobody had decided: first what
        // decides, then what a packet begins with.
        for function in DECIDING {
            if present.contains(function) && self.is_new(function) {
                attach(ebpf, DECIDED, function)?;
                attach(ebpf, DECIDE, function)?;
                self.attached.insert(function);
            }
        }
        for (program, function) in [IMMEDIATE, CHAIN] {
            if self.is_new(function) {
                attach(ebpf, program, function)?;
                self.attached.insert(function);
            }
        }
        Ok(())
    }

    fn is_new(&self, function: &str) -> bool {
        !self.attached.contains(function)
    }

    /// Takes all programs away.
    pub(super) fn detach(&mut self, ebpf: &mut Ebpf) {
        for name in [CHAIN.0, IMMEDIATE.0, DECIDE, DECIDED] {
            match program(ebpf, name).and_then(KProbe::unload) {
                Ok(()) | Err(ProgramError::NotLoaded) => {}
                Err(error) => log::debug!("the program {name} cannot be taken away: {error}"),
            }
        }
        self.attached.clear();
    }
}

impl Tracer {
    /// Watches nftables' own functions decide, as far as they are among `present`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; then none are watched.
    pub fn watch_verdicts(&mut self, present: &HashSet<String>) -> Result<(), VerdictsError> {
        let result = self.verdicts.attach(&mut self.ebpf, present);
        if result.is_err() {
            self.unwatch_verdicts();
        }
        result
    }

    /// Watches them no longer; nothing of it stays in the kernel.
    pub fn unwatch_verdicts(&mut self) {
        self.verdicts.detach(&mut self.ebpf);
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut KProbe, ProgramError> {
    match ebpf.program_mut(name) {
        Some(Program::KProbe(program)) => Ok(program),
        _ => Err(ProgramError::NotLoaded),
    }
}

fn attach(ebpf: &mut Ebpf, name: &str, function: &'static str) -> Result<(), VerdictsError> {
    let attached = program(ebpf, name).and_then(|program| {
        match program.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
            Err(error) => return Err(error),
        }
        program.attach(function, 0)
    });
    match attached {
        Ok(_) => Ok(()),
        Err(error) => Err(VerdictsError::Refused { function, error }),
    }
}
