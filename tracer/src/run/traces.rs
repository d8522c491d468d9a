//! `--allow-system-changes`: whether and where the rule set is made to tell.

use droptrace_types::{ABSENT, Filter};
use tokio::runtime::Handle;

use super::Failure;
use crate::{cli::Trace, kernel::btf::Btf, nftrace::Traces, owner::netns, record::Recorder};

/// Refuses a filter that would have every packet traced.
pub fn check(args: &Trace, filter: &Filter) -> Result<(), Failure> {
    let by_flow = filter.roles != 0 || filter.protos != [0; 4];
    if args.allow_system_changes && !by_flow {
        return Err(Failure::Usage(
            "--allow-system-changes: needs an address, a port or a protocol, since every packet \
             whose trace is on costs time; add, for example, --dst 10.0.0.5:443"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Where a packet shows that its trace is on, if that is to be looked at.
pub fn bit(args: &Trace, btf: &Btf) -> u32 {
    let bit = btf.bit_offset("sk_buff", "nf_trace");
    bit.filter(|_| args.allow_system_changes).unwrap_or(ABSENT)
}

/// Has the rule sets of the namespaces of the filter, or of the tracer's own, tell
/// of the filter's packets. Where one cannot, tracing goes on without it.
pub fn start(args: &Trace, filter: &Filter, recorder: &mut Recorder, runtime: &Handle) -> Traces {
    if args.developer.compare_rules {
        recorder.compare_rules();
    }
    if !args.allow_system_changes {
        return Traces::default();
    }
    let mut namespaces: Vec<u32> = filter
        .netns
        .iter()
        .copied()
        .take_while(|inode| *inode != 0)
        .collect();
    if namespaces.is_empty() {
        namespaces.push(netns::own());
    }
    let _inside = runtime.enter();
    let (nftrace, failures) = Traces::start(filter, &namespaces);
    for (inode, error) in failures {
        log::warn!(
            "the rule set of network namespace {inode} does not tell which rule drops a packet: \
             {error}"
        );
    }
    if nftrace.is_on() {
        recorder.read_rules(args.interval);
    }
    nftrace
}
