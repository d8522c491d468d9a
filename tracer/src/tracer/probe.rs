//! Which programs the kernel takes: each is loaded, none attached, and nothing
//! of them stays.

use aya::{Btf, Ebpf, programs::ProgramError};
use aya_obj::btf::BtfKind;

use super::{
    CountMaps, LoadError, Loader, Maps, Means, Setup, TRACEPOINTS, XT_PROGRAMS,
    programs::{self, chain},
    sightings, take, xtables,
};

/// A program by its name, which is that of its tracepoint or function; how the
/// kernel takes it, or why it does not.
pub type Probed = (&'static str, Result<Means, String>);

/// Loads everything as [`super::Tracer::start`] does. Attaches nothing.
///
/// # Errors
///
/// If the kernel refuses the object as a whole or a map.
pub fn probe(loader: Loader, setup: &Setup<'_>) -> Result<Vec<Probed>, LoadError> {
    let (mut ebpf, btf) = programs::load(loader, setup)?;
    let counts = CountMaps::new(take(&mut ebpf, "COUNTS")?, setup.max_flows)?;
    let maps = Maps::fill(&mut ebpf, setup, counts)?;
    let tracepoints = TRACEPOINTS
        .iter()
        .chain(&sightings::TRACEPOINTS)
        .map(|name| (*name, tracepoint(&mut ebpf, &btf, name)));
    let mut probed: Vec<Probed> = tracepoints.collect();
    let functions = programs::functions(setup.config).iter().map(|name| {
        (
            *name,
            programs::load_function(&mut ebpf, &btf, name).map_err(|error| refusal(&error)),
        )
    });
    probed.extend(functions);
    let run = XT_PROGRAMS.iter().map(|name| {
        let taken = xtables::load(&mut ebpf, name).map(|_| Means::RawTracepoint);
        (*name, taken.map_err(|error| refusal(&error)))
    });
    let run: Vec<Probed> = run.collect();
    probed.extend(run);
    drop(maps);
    Ok(probed)
}

fn tracepoint(ebpf: &mut Ebpf, btf: &Btf, name: &str) -> Result<Means, String> {
    if btf
        .id_by_type_name_kind(&format!("btf_trace_{name}"), BtfKind::Typedef)
        .is_err()
    {
        return Err(format!("this kernel has no tracepoint {name}"));
    }
    programs::load_tracepoint(ebpf, btf, name, name).map_err(|error| refusal(&error))
}

/// What the kernel said, without the verifier's log.
fn refusal(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.to_string(),
        other => chain(other),
    }
}
