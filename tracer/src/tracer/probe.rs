//! Which programs the kernel takes: each is loaded, none attached, and nothing
//! of them stays.

use std::fmt;

use aya::{
    Btf, Ebpf,
    programs::{Program, ProgramError},
};
use aya_obj::btf::BtfKind;

use super::{
    LoadError, Maps, Setup, TRACEPOINTS,
    programs::{self, chain},
};

/// How a program is called by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Tracepoint whose arguments the verifier knows.
    BtfTracepoint,
    /// Tracepoint, by its name.
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

/// A program by its name, which is that of its tracepoint or function; how the
/// kernel takes it, or why it does not.
pub type Probed = (&'static str, Result<Means, String>);

/// Loads everything as [`super::Tracer::start`] does. Attaches nothing.
///
/// # Errors
///
/// If the kernel refuses the object as a whole or a map.
pub fn probe(setup: &Setup<'_>) -> Result<Vec<Probed>, LoadError> {
    let mut ebpf = programs::load(setup)?;
    let maps = Maps::fill(&mut ebpf, setup)?;
    let btf = Btf::from_sys_fs()?;
    let tracepoints = TRACEPOINTS
        .iter()
        .map(|name| (*name, tracepoint(&mut ebpf, &btf, name)));
    let mut probed: Vec<Probed> = tracepoints.collect();
    let functions = programs::functions(setup.config)
        .iter()
        .map(|name| (*name, function(&mut ebpf, &btf, name)));
    probed.extend(functions);
    drop(maps);
    Ok(probed)
}

fn tracepoint(ebpf: &mut Ebpf, btf: &Btf, name: &str) -> Result<Means, String> {
    // A raw tracepoint is looked for only when it is attached.
    if btf
        .id_by_type_name_kind(&format!("btf_trace_{name}"), BtfKind::Typedef)
        .is_err()
    {
        return Err(format!("this kernel has no tracepoint {name}"));
    }
    let loaded = match ebpf.program_mut(name) {
        Some(Program::BtfTracePoint(program)) => program.load(name, btf),
        _ => Err(ProgramError::NotLoaded),
    };
    let Err(error) = loaded else {
        return Ok(Means::BtfTracepoint);
    };
    if let Some(Program::RawTracePoint(program)) = ebpf.program_mut(&format!("{name}_raw"))
        && program.load().is_ok()
    {
        return Ok(Means::RawTracepoint);
    }
    Err(refusal(&error))
}

fn function(ebpf: &mut Ebpf, btf: &Btf, name: &str) -> Result<Means, String> {
    match ebpf.program_mut(name) {
        Some(Program::FEntry(program)) => match program.load(name, btf) {
            Ok(()) => Ok(Means::Fentry),
            Err(error) => Err(refusal(&error)),
        },
        _ => Err(format!("this version has no program for {name}")),
    }
}

/// What the kernel said, without the verifier's log.
fn refusal(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.to_string(),
        other => chain(other),
    }
}
