//! The kernel programs: how their object is loaded, and how they are attached.

use aya::{
    Ebpf, EbpfError, EbpfLoader, include_bytes_aligned,
    maps::{MapData, MapError, ProgramArray},
    programs::{Program, ProgramError},
};
use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    os::fd::{AsFd, OwnedFd},
};

use droptrace_types::{Config, KEY_WORDS};

use super::{Setup, Watching, kfuncs, syscall, verify::Verified};

/// Built by `cargo xtask build`.
static OBJECT: &[u8] = include_bytes_aligned!(env!("BPF_OBJECT"));

/// The same for kernels with [`Config::rdonly_cast`], which load what others read by a helper.
pub(super) static OBJECT_LOADS: &[u8] = include_bytes_aligned!(env!("BPF_OBJECT_LOADS"));

/// The tracepoints that are watched, which are also the names of the programs;
/// drops first.
pub const TRACEPOINTS: [&str; 5] = [
    "kfree_skb",
    "tcp_send_reset",
    "tcp_receive_reset",
    "tcp_retransmit_skb",
    "tcp_retransmit_synack",
];

/// The program behind that for [`TRACEPOINTS`]' first: it sees to the packets that
/// the kernel keeps from it.
pub(super) const NESTED: &str = "kfree_skb_nested";

/// The functions that answer a packet with a reset, which are also the names of
/// the programs. Watched where a kernel passes the tracepoint `tcp_send_reset`
/// only with a socket; newer ones pass it always, and give it a reason.
pub const SEND_RESET: [&str; 2] = ["tcp_v4_send_reset", "tcp_v6_send_reset"];

/// Log level of the kernel programs, as aya-log numbers them.
const LOG_OFF: u8 = 0;
const LOG_DEBUG: u8 = aya_log::Level::Debug as u8;

/// Why the kernel side could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel's own BTF is unusable.
    #[error("cannot read the kernel's type information: {0}")]
    Btf(#[from] aya::BtfError),
    /// What was built is no object.
    #[error("the kernel programs are damaged ({0}); build them again: cargo xtask build")]
    Damaged(#[from] object::Error),
    /// The object was refused as a whole.
    #[error("cannot load the kernel programs: {}{}", chain(.0), hint(.0))]
    Object(#[from] EbpfError),
    /// A program was refused.
    #[error(
        "the kernel refuses the program for {tracepoint}: {}",
        verdict(.error)
    )]
    Program {
        /// What it was for.
        tracepoint: &'static str,
        /// What the kernel said.
        error: ProgramError,
    },
    /// A map was refused.
    #[error("cannot set up a map of the kernel programs: {}", chain(.0))]
    Map(#[from] MapError),
    /// The object lacks a map; it was built from other sources.
    #[error("the kernel programs have no map {0}; build them again: cargo xtask build")]
    MissingMap(&'static str),
    /// The object lacks a program; it was built from other sources.
    #[error("the kernel programs have no program {0}; build them again: cargo xtask build")]
    MissingProgram(&'static str),
}

/// An error with all its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// What helps where the kernel refuses to a process that has the capabilities.
fn hint(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if inner
            .downcast_ref::<io::Error>()
            .is_some_and(|error| matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)))
        {
            return "; a sandbox (seccomp, as in containers) or a security module forbids the \
                    bpf system call: run it on the machine itself";
        }
        cause = inner.source();
    }
    ""
}

/// What the kernel said, and of the verifier's log only the end.
pub(super) fn verdict(error: &ProgramError) -> String {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    {
        let log = verifier_log.to_string();
        let last: Vec<&str> = log
            .lines()
            .rev()
            .filter(|line| !line.is_empty())
            .take(4)
            .collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        return format!("{io_error}\n{}", last.join("\n"));
    }
    chain(error)
}

/// Bytes of a ring buffer that nothing is written to: whole pages, whatever their size.
const SMALLEST_RING: u32 = 64 * 1024;

/// What loading the programs takes whatever they are to do. Making it takes a while, since
/// aya reads all of the kernel's types for it and tries what the kernel can do, for which a
/// thread of its own may be used.
pub struct Loader(EbpfLoader<'static>);

impl Default for Loader {
    fn default() -> Self {
        raise_memory_limit();
        // Asked here, it is known when it is needed.
        aya::features();
        Self(EbpfLoader::new())
    }
}

/// Loads the object and creates its maps.
pub fn load(Loader(loader): Loader, setup: &Setup<'_>) -> Result<Ebpf, LoadError> {
    // Its numbers are as random as the hashes of std's maps.
    let random = RandomState::new();
    let seeds: [u64; KEY_WORDS] = std::array::from_fn(|word| random.hash_one(word) | 1);
    let mut config = *setup.config;
    if config.rdonly_cast != 0 && !syscall::can_load_untyped(config.rdonly_cast) {
        config.rdonly_cast = 0;
    }
    let level = if setup.config.debug != 0 {
        LOG_DEBUG
    } else {
        LOG_OFF
    };
    // For as long as `setup` lives.
    let mut loader: EbpfLoader<'_> = loader;
    loader
        .override_global("LAYOUT", setup.layout, true)
        .override_global("CONFIG", &config, true)
        .override_global("SEEDS", &seeds, true)
        .override_global(aya_log::LEVEL, &level, true);
    if setup.conversations == Watching::Nothing {
        loader.map_max_entries("SIGHTINGS", SMALLEST_RING);
    }
    if setup.conversations != Watching::Packets {
        loader.map_max_entries("PASSED", 1);
    }
    if setup.conversations != Watching::Troubles {
        loader.map_max_entries("TROUBLED", 1);
    }
    let object = if config.rdonly_cast == 0 {
        OBJECT
    } else {
        OBJECT_LOADS
    };
    let object = kfuncs::resolve(object, &config)?;
    Ok(loader.load(&object)?)
}

/// Before Linux 5.11 maps count against this limit of the process
/// (`bpf_charge_memlock`).
/// <https://github.com/torvalds/linux/blob/v5.10/kernel/bpf/syscall.c>
pub fn raise_memory_limit() {
    let unlimited = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a valid `rlimit`. Without the privilege it fails, and newer
    // kernels do not need it.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}

/// The functions at which this kernel needs programs.
#[must_use]
pub fn functions(config: &Config) -> &'static [&'static str] {
    if config.reset_has_reason == 0 {
        &SEND_RESET
    } else {
        &[]
    }
}

/// A program at work.
pub struct Attached {
    /// Its name, which is also that of the tracepoint or function it runs at.
    pub name: &'static str,
    /// To ask it for statistics.
    pub program: OwnedFd,
}

/// Attaches the programs at [`TRACEPOINTS`], in that order, and those for what this kernel's
/// tracepoints do not tell. `first` is the kernel side's map of the first one.
pub fn attach(
    ebpf: &mut Ebpf,
    verified: &mut Verified,
    config: &Config,
    first: &mut ProgramArray<MapData>,
) -> Result<Vec<Attached>, LoadError> {
    let mut attached = Vec::new();
    for name in TRACEPOINTS {
        let program = attach_one(ebpf, verified, name).map_err(|error| LoadError::Program {
            tracepoint: name,
            error,
        })?;
        if name == TRACEPOINTS[0]
            && let Err(error) = attach_nested(ebpf, verified, first)
        {
            log::info!(
                "packets that are dropped in the middle of another's drop are counted as lost: \
                 {error}"
            );
        }
        attached.push(Attached { name, program });
    }
    for name in functions(config) {
        match attach_one(ebpf, verified, name) {
            Ok(program) => attached.push(Attached { name, program }),
            Err(error) => log::warn!(
                "resets that answer a packet without a socket are not told: \
                 the kernel refuses the program for {name}: {}",
                verdict(&error)
            ),
        }
    }
    Ok(attached)
}

/// Attaches [`NESTED`] behind the program for the first of [`TRACEPOINTS`].
fn attach_nested(
    ebpf: &mut Ebpf,
    verified: &mut Verified,
    first: &mut ProgramArray<MapData>,
) -> Result<(), LoadError> {
    let refused = |error| LoadError::Program {
        tracepoint: NESTED,
        error,
    };
    let fd = match ebpf.program_mut(TRACEPOINTS[0]) {
        Some(Program::BtfTracePoint(program)) => program.fd(),
        _ => Err(ProgramError::NotLoaded),
    };
    first.set(0, fd.map_err(refused)?, 0)?;
    attach_one(ebpf, verified, NESTED).map_err(refused)?;
    Ok(())
}

/// Attaches a program if the kernel takes it.
pub fn attach_one(
    ebpf: &mut Ebpf,
    verified: &mut Verified,
    name: &str,
) -> Result<OwnedFd, ProgramError> {
    verified.take(name)?;
    let fd = match ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)? {
        Program::BtfTracePoint(program) => {
            program.attach()?;
            program.fd()?
        }
        Program::FEntry(program) => {
            program.attach()?;
            program.fd()?
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    Ok(fd.as_fd().try_clone_to_owned()?)
}
