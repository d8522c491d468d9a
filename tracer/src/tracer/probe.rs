//! Which programs the kernel takes: each is loaded, none attached, and nothing
//! of them stays.

use aya::programs::ProgramError;

use super::{
    CountMaps, LoadError, Loader, Maps, Means, Setup, XT_PROGRAMS,
    programs::{self, chain},
    sightings, take, verify,
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
    let mut ebpf = programs::load(loader, setup)?;
    let counts = CountMaps::new(take(&mut ebpf, "COUNTS")?, setup.max_flows)?;
    let maps = Maps::fill(&mut ebpf, setup, counts)?;
    let wanted = verify::wanted(setup.config, &sightings::TRACEPOINTS);
    let mut verified = verify::verify(&mut ebpf, setup.targets, &wanted);
    let is_there = |name| {
        XT_PROGRAMS.contains(name)
            || programs::functions(setup.config).contains(name)
            || setup.targets.have_tracepoint(name)
    };
    let probed = wanted.iter().map(|name| {
        let taken = if is_there(name) {
            verified.take(name).map_err(|error| refusal(&error))
        } else {
            Err(format!("this kernel has no tracepoint {name}"))
        };
        (*name, taken)
    });
    let probed = probed.collect();
    drop(maps);
    Ok(probed)
}

/// What the kernel said, without the verifier's log.
fn refusal(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.to_string(),
        other => chain(other),
    }
}
