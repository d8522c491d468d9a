//! `drop_by_bpf`: a BPF program on a netfilter hook, which drops every IPv4 packet.

use anyhow::Context as _;
use droptrace::tracer::netfilter::{Program, Verdict};

use crate::scenario::DropByBpf;

/// `drop_by_bpf`.
pub fn drop(drop: &DropByBpf) -> anyhow::Result<()> {
    let program = Program::load(Verdict::Drop).context("cannot load the BPF program")?;
    let _link = program
        .attach(drop.hook, drop.priority)
        .context("cannot attach the BPF program to the netfilter hook")?;
    super::ready()?;
    super::stay()
}
