//! Which programs a run takes, and what the kernel says to each: it verifies them at the
//! same time, since that is most of what a start takes.

use std::{
    collections::HashMap,
    fmt, iter,
    num::NonZero,
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Btf, Ebpf, Endianness,
    programs::{Program, ProgramError},
};
use aya_obj::btf::BtfKind;
use droptrace_types::Config;

use super::{
    LoadError, XT_PROGRAMS,
    programs::{NESTED, TRACEPOINTS, functions},
    sightings,
};
use crate::kernel::btf;

/// How a program is called by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Tracepoint whose arguments the verifier knows.
    BtfTracepoint,
    /// Run by this process itself, as at a raw tracepoint.
    RawTracepoint,
    /// Entry of a function.
    Fentry,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BtfTracepoint => "BTF tracepoint",
            Self::RawTracepoint => "raw tracepoint",
            Self::Fentry => "fentry",
        })
    }
}

/// What of the kernel's types says where programs can be attached.
pub struct Targets(Btf);

impl Targets {
    /// Out of the kernel's types, for programs that are set up so. It has few of them, since
    /// aya would keep a value of its own for each member of each.
    ///
    /// # Errors
    ///
    /// If they cannot be handed on.
    pub fn of(kernel: &btf::Btf, config: &Config) -> Result<Self, LoadError> {
        let tracepoints = [&TRACEPOINTS[..], &sightings::TRACEPOINTS].concat();
        let types = kernel.only(&tracepoints, functions(config));
        Ok(Self(Btf::parse(&types, Endianness::default())?))
    }

    /// Whether the kernel has the tracepoint.
    pub(super) fn have_tracepoint(&self, name: &str) -> bool {
        let name = format!("btf_trace_{name}");
        self.0.id_by_type_name_kind(&name, BtfKind::Typedef).is_ok()
    }
}

/// The programs of every run and, at the end, those at `more` tracepoints.
pub fn wanted(config: &Config, more: &[&'static str]) -> Vec<&'static str> {
    let parts = [&TRACEPOINTS[..], functions(config), &XT_PROGRAMS, more];
    parts.concat()
}

/// What the kernel said to each program.
pub struct Verified(HashMap<&'static str, Result<Means, ProgramError>>);

impl Verified {
    /// How the kernel takes this program, or why it does not. Tells it once.
    pub fn take(&mut self, name: &str) -> Result<Means, ProgramError> {
        self.0.remove(name).unwrap_or(Err(ProgramError::NotLoaded))
    }
}

/// Has the kernel verify the `wanted` programs, on as many CPUs as there are: the first ones,
/// which take longest, first. The second for drops goes with them.
pub fn verify(ebpf: &mut Ebpf, Targets(types): &Targets, wanted: &[&'static str]) -> Verified {
    let place = |name| wanted.iter().position(|wanted| *wanted == name);
    let mut programs: Vec<_> = ebpf
        .programs_mut()
        .filter_map(|(name, program)| match place(name) {
            Some(at) => Some((at, wanted[at], program)),
            None if name == NESTED => Some((wanted.len(), NESTED, program)),
            None => None,
        })
        .collect();
    programs.sort_unstable_by_key(|(at, ..)| *at);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(programs.len());
    let queue = Mutex::new(programs.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Vec<_> {
        iter::from_fn(next)
            .map(|(_, name, program)| (name, verify_one(name, program, types)))
            .collect()
    };
    let verified = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut verified = work();
        for other in others {
            verified.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        verified.into_iter().collect()
    });
    Verified(verified)
}

fn verify_one(name: &str, program: &mut Program, types: &Btf) -> Result<Means, ProgramError> {
    let place = if name == NESTED { TRACEPOINTS[0] } else { name };
    match program {
        Program::BtfTracePoint(program) => {
            program.load(place, types)?;
            Ok(Means::BtfTracepoint)
        }
        Program::FEntry(program) => {
            program.load(place, types)?;
            Ok(Means::Fentry)
        }
        Program::RawTracePoint(program) => {
            program.load()?;
            Ok(Means::RawTracepoint)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}
