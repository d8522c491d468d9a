//! Is everything in the kernel object that droptrace will look for?

use std::{fmt, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

use crate::{build::FORMS, workspace::Workspace};

/// Function and section of each kernel program.
const PROGRAMS: [(&str, &str); 17] = [
    ("kfree_skb", "tp_btf/kfree_skb"),
    ("kfree_skb_nested", "tp_btf/kfree_skb"),
    ("tcp_send_reset", "tp_btf/tcp_send_reset"),
    ("tcp_v4_send_reset", "fentry/tcp_v4_send_reset"),
    ("tcp_v6_send_reset", "fentry/tcp_v6_send_reset"),
    ("tcp_receive_reset", "tp_btf/tcp_receive_reset"),
    ("tcp_retransmit_skb", "tp_btf/tcp_retransmit_skb"),
    ("tcp_retransmit_synack", "tp_btf/tcp_retransmit_synack"),
    ("netif_receive_skb", "tp_btf/netif_receive_skb"),
    ("net_dev_queue", "tp_btf/net_dev_queue"),
    ("inet_sock_set_state", "tp_btf/inet_sock_set_state"),
    ("nft_chain", "kprobe"),
    ("nft_immediate", "kprobe"),
    ("nft_decide", "kprobe"),
    ("nft_decided", "kretprobe"),
    ("xt_read", "raw_tp/kfree_skb"),
    ("xt_settle", "raw_tp/kfree_skb"),
];

const MAPS: [&str; 31] = [
    "COUNTS",
    "DETAILS",
    "STACKS",
    "SIGHTINGS",
    "PASSED",
    "TROUBLED",
    "HARMLESS",
    "FILTER",
    "REASONS",
    "SOCKETS",
    "CGROUPS",
    "CONNTRACK",
    "LOSSES",
    "UNLISTED",
    "DETAIL_RATE",
    "ANSWERED",
    "FIRST",
    "RUNNING",
    "STACK_COPY",
    "RULE_LAYOUT",
    "PLACES",
    "TRIAL",
    "VERDICT_TRIAL",
    "VERDICTS",
    "XT_GROUPS",
    "XT_BLOCKS",
    "XT_SEEN",
    "XT_CPU",
    "XT_COPY",
    "XT_MEMORY",
    "AYA_LOGS",
];

/// What user space sets: before it loads the programs, and the addresses afterwards.
const GLOBALS: [&str; 5] = ["LAYOUT", "CONFIG", "SEEDS", "AYA_LOG_LEVEL", "ADDRESSES"];

/// Without a licence like this one the kernel refuses the tracing helpers.
const LICENCE: &str = "Dual MIT/GPL";

const BTF_SECTIONS: [&str; 2] = [".BTF", ".BTF.ext"];

/// `sizeof(struct bpf_insn)`.
const INSTRUCTION_BYTES: u64 = 8;

pub fn verb(ws: &Workspace) -> Result<ExitCode> {
    for form in FORMS {
        let contents = read(&ws.kernel_object(form))?;
        print!("{}\n{contents}\n", form.file);
        contents.complete()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is in a kernel object.
#[derive(Debug)]
pub struct Contents {
    programs: Vec<Symbol>,
    maps: Vec<Symbol>,
    globals: Vec<Symbol>,
    licence: Option<String>,
    btf_sections: Vec<(&'static str, u64)>,
}

#[derive(Debug)]
struct Symbol {
    name: String,
    section: String,
    bytes: u64,
}

pub fn read(path: &Path) -> Result<Contents> {
    let bytes = fs::read(path).with_context(|| {
        format!(
            "could not read the kernel object {}; `cargo xtask build` makes it",
            path.display()
        )
    })?;
    parse(&bytes).with_context(|| {
        format!(
            "could not parse the kernel object {}; delete it and build again",
            path.display()
        )
    })
}

pub fn parse(bytes: &[u8]) -> Result<Contents> {
    let file = object::File::parse(bytes)?;
    let mut contents = Contents {
        programs: Vec::new(),
        maps: Vec::new(),
        globals: Vec::new(),
        licence: None,
        btf_sections: Vec::new(),
    };
    for symbol in file.symbols().filter(object::ObjectSymbol::is_global) {
        let Some(index) = symbol.section_index() else {
            continue;
        };
        let section = file.section_by_index(index)?.name()?.to_owned();
        let list = match (symbol.kind(), section.as_str()) {
            (SymbolKind::Text, _) => &mut contents.programs,
            (SymbolKind::Data, "maps" | ".maps") => &mut contents.maps,
            (SymbolKind::Data, ".rodata" | ".data" | ".bss") => &mut contents.globals,
            _ => continue,
        };
        list.push(Symbol {
            name: symbol.name()?.to_owned(),
            section,
            bytes: symbol.size(),
        });
    }
    for list in [
        &mut contents.programs,
        &mut contents.maps,
        &mut contents.globals,
    ] {
        list.sort_by(|a, b| (&a.section, &a.name).cmp(&(&b.section, &b.name)));
    }
    if let Some(section) = file.section_by_name("license") {
        let text = String::from_utf8_lossy(section.data()?);
        contents.licence = Some(text.trim_end_matches('\0').to_owned());
    }
    for name in BTF_SECTIONS {
        if let Some(section) = file.section_by_name(name) {
            contents.btf_sections.push((name, section.size()));
        }
    }
    Ok(contents)
}

impl Contents {
    /// Fails with the name of everything that is not there.
    pub fn complete(&self) -> Result<()> {
        let missing = self.missing();
        if !missing.is_empty() {
            bail!(
                "the kernel object lacks {}; either tracer-ebpf lost it or the list in \
                 xtask/src/check.rs is behind",
                missing.join(", ")
            );
        }
        Ok(())
    }

    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (name, section) in PROGRAMS {
            let there =
                |found: &Symbol| found.name == name && found.section == section && found.bytes > 0;
            if !self.programs.iter().any(there) {
                missing.push(format!("program {name} in section {section}"));
            }
        }
        for name in MAPS {
            if !self.maps.iter().any(|map| map.name == name) {
                missing.push(format!("map {name}"));
            }
        }
        for name in GLOBALS {
            if !self.globals.iter().any(|global| global.name == name) {
                missing.push(format!("global {name}"));
            }
        }
        if self.licence.as_deref() != Some(LICENCE) {
            let found = self.licence.as_deref().unwrap_or("none");
            missing.push(format!("licence `{LICENCE}` (found: {found})"));
        }
        for name in BTF_SECTIONS {
            let there = |(section, bytes): &(&str, u64)| *section == name && *bytes > 0;
            if !self.btf_sections.iter().any(there) {
                missing.push(format!("section {name}"));
            }
        }
        missing
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || self.programs.iter().chain(&self.maps).chain(&self.globals);
        let width = |text: fn(&Symbol) -> &str, heading: &str| {
            let longest = all().map(|symbol| text(symbol).len()).max().unwrap_or(0);
            longest.max(heading.len())
        };
        let name = width(|symbol| &symbol.name, "program");
        let section = width(|symbol| &symbol.section, "section");
        writeln!(
            f,
            "{:name$}  {:section$}  {:>6}  instructions",
            "program", "section", "bytes"
        )?;
        for program in &self.programs {
            let instructions = program.bytes / INSTRUCTION_BYTES;
            writeln!(
                f,
                "{:name$}  {:section$}  {:>6}  {instructions:>12}",
                program.name, program.section, program.bytes
            )?;
        }
        for (heading, list) in [("map", &self.maps), ("global", &self.globals)] {
            writeln!(
                f,
                "\n{heading:name$}  {:section$}  {:>6}",
                "section", "bytes"
            )?;
            for symbol in list {
                let Symbol {
                    name: symbol,
                    section: place,
                    bytes,
                } = symbol;
                writeln!(f, "{symbol:name$}  {place:section$}  {bytes:>6}")?;
            }
        }
        let licence = self.licence.as_deref().unwrap_or("none");
        write!(f, "\nlicence {licence}")?;
        for (name, bytes) in &self.btf_sections {
            write!(f, ", {name} {bytes} bytes")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests;
