//! From the words of the command line to what the kernel programs select by.

use std::ops::Range;

use droptrace_types::{
    FILTER_BY_CGROUP, FILTER_BY_FLOW, FILTER_BY_INTERFACE, FILTER_BY_NETNS, FILTER_BY_REASON,
    FILTER_BY_SOCKET, Filter, IfName, Kind,
};

use super::Failure;
use crate::{
    cli::{Select, Trace},
    event::Class,
    filter::{self, Selection},
    kernel::{
        interface,
        reasons::{Known, List, Reasons},
        symbols::Symbols,
    },
    owner::netns,
    reason,
    tracer::Watching,
};

/// A resolved selection.
pub struct Selected {
    /// Addresses, ports, protocols, interfaces, namespaces.
    pub filter: Box<Filter>,
    /// Reasons, kind in the upper half and number in the lower.
    pub reasons: Vec<u64>,
    /// Bits `FILTER_BY_*`.
    pub filters: u32,
    /// Numbers of drop reasons by which no conversation has trouble.
    pub harmless: Vec<u32>,
}

/// Resolves everything but reasons, which need the kernel's BTF; so that a bad
/// word is told before anything else is looked at.
pub fn filter(select: &Select) -> Result<Box<Filter>, Failure> {
    let inodes: Result<Vec<u32>, _> = select
        .netns
        .iter()
        .map(|word| netns::inode_of(word))
        .collect();
    let mut filter = filter::resolve(&Selection {
        src: select.src.clone(),
        dst: select.dst.clone(),
        host: select.host.clone(),
        port: select.port.clone(),
        proto: select.proto.clone(),
        iface: select.iface.clone(),
        netns: inodes.map_err(Failure::usage)?,
    })
    .map_err(Failure::usage)?;
    filter.ifnetns = netns::own();
    for (name, index) in filter.ifnames.iter().zip(&mut filter.ifindexes) {
        let Some(name) = text(name) else { break };
        *index = interface::index_of(&name).unwrap_or(0);
        // In another namespace it may exist; here it can be checked.
        let elsewhere = !select.netns.is_empty();
        if *index == 0 && !elsewhere {
            return Err(Failure::Usage(format!(
                "--iface {name}: there is no such interface here (see `ip link`); for one in \
                 another network namespace add, for example, --netns NAME"
            )));
        }
    }
    Ok(Box::new(filter))
}

/// `None` for the end of the list.
fn text(name: &IfName) -> Option<String> {
    let end = name
        .0
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.0.len());
    (end > 0).then(|| String::from_utf8_lossy(&name.0[..end]).into_owned())
}

/// Adds the reasons.
pub fn with_reasons(
    select: &Select,
    filter: Box<Filter>,
    known: &Reasons,
) -> Result<Selected, Failure> {
    let mut reasons = Vec::new();
    for name in select.reason.iter().flat_map(|words| words.split(',')) {
        let found = known.named(name);
        if found.is_empty() {
            return Err(Failure::Usage(unknown_reason(name, known)));
        }
        reasons.extend(found.into_iter().map(|reason| {
            let kind = match reason.list {
                List::Drop => Kind::Drop,
                List::Reset => Kind::ResetSent,
            };
            (kind as u64) << 32 | u64::from(reason.code)
        }));
    }
    let by = [
        (
            FILTER_BY_FLOW,
            filter.roles != 0 || !select.proto.is_empty(),
        ),
        (FILTER_BY_INTERFACE, !select.iface.is_empty()),
        (FILTER_BY_NETNS, !select.netns.is_empty()),
        (FILTER_BY_REASON, !select.reason.is_empty()),
        (FILTER_BY_SOCKET, !select.pid.is_empty()),
        (FILTER_BY_CGROUP, !select.cgroup.is_empty()),
    ];
    let filters = by
        .iter()
        .filter(|(_, wanted)| *wanted)
        .map(|(bit, _)| bit)
        .sum();
    Ok(Selected {
        filter,
        reasons,
        filters,
        harmless: harmless(known),
    })
}

fn harmless(known: &Reasons) -> Vec<u32> {
    let is_harmless = |known: &&Known| {
        let class = reason::drop_reason(&known.name).map(|text| text.class);
        // Where the kernel does not say, it may be anything.
        let is_clear = |class: Class| class != Class::Unknown && !class.is_trouble();
        known.list == List::Drop && class.is_some_and(is_clear)
    };
    let harmless = known.all().iter().filter(is_harmless);
    harmless.map(|known| known.code).collect()
}

/// The function that frees what a closed TCP socket had not read, where nobody asks of
/// which connection that and the like is: it is clean-up, and not shown. Empty where
/// somebody does.
pub fn left_unread(
    args: &Trace,
    selected: &Selected,
    watching: Watching,
    symbols: &Symbols,
) -> Range<u64> {
    let by_flow = args.all || selected.filters != 0 || watching == Watching::Packets;
    let function = (!by_flow).then(|| symbols.function("sk_stream_kill_queues"));
    function.flatten().unwrap_or_default()
}

fn unknown_reason(name: &str, known: &Reasons) -> String {
    if known.all().is_empty() {
        return format!(
            "--reason {name}: this kernel gives no reasons for dropped packets (they came with \
             Linux 5.17); leave out --reason"
        );
    }
    let similar = known.similar(name);
    let hint = if similar.is_empty() {
        "`droptrace reasons` lists those that it has".to_owned()
    } else {
        format!("did you mean {}?", similar.join(" or "))
    };
    format!("--reason {name}: this kernel has no such reason; {hint}")
}
