//! `droptrace reasons`: every reason that the running kernel can give.

use std::io::{self, Write as _};

use serde_json::json;

use super::Failure;
use crate::{
    kernel::{
        btf::Btf,
        reasons::{Known, List, Reasons},
    },
    output::Format,
    reason::{self, Text},
};

/// Prints the list. Needs no privilege.
///
/// # Errors
///
/// If the kernel has no BTF or the list cannot be written.
pub fn reasons(format: Format) -> Result<(), Failure> {
    let btf = Btf::of_running_kernel().map_err(Failure::unable)?;
    let reasons = Reasons::from_btf(&btf);
    let list = match format {
        Format::Human => table(&reasons),
        Format::Json => lines(&reasons),
    };
    match io::stdout().write_all(list.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Running(
            anyhow::Error::new(error).context("cannot write the list"),
        )),
        _ => Ok(()),
    }
}

fn text(known: &Known) -> Option<&'static Text> {
    match known.list {
        List::Drop => reason::drop_reason(&known.name),
        List::Reset => reason::reset_reason(&known.name),
    }
}

fn table(reasons: &Reasons) -> String {
    if reasons.all().is_empty() {
        return "this kernel gives no reasons for dropped packets (they came with Linux 5.17);\n\
                droptrace then tells the function that dropped the packet\n"
            .to_owned();
    }
    let width = |of: fn(&Known) -> &str| {
        reasons
            .all()
            .iter()
            .map(|known| of(known).len())
            .max()
            .unwrap_or(0)
    };
    let (name_width, subsystem_width) =
        (width(|known| &known.name), width(|known| &known.subsystem));
    let mut table = String::new();
    for known in reasons.all() {
        let text = text(known);
        let class = text.map_or("unknown".into(), |text| class_name(text.class));
        let summary = text.map_or("", |text| text.summary);
        let line = format!(
            "{:<subsystem_width$}  {:>5}  {:<name_width$}  {class:<11}  {summary}",
            known.subsystem,
            known.code & 0xffff,
            known.name,
        );
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

fn class_name(class: crate::event::Class) -> String {
    serde_json::to_value(class)
        .ok()
        .and_then(|name| Some(name.as_str()?.to_owned()))
        .unwrap_or_default()
}

fn lines(reasons: &Reasons) -> String {
    let mut lines = String::new();
    for known in reasons.all() {
        let text = text(known);
        let line = json!({
            "subsystem": known.subsystem,
            "code": known.code,
            "name": known.name,
            "class": text.map(|text| text.class),
            "summary": text.map(|text| text.summary),
            "advice": text.and_then(|text| text.advice),
        });
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    lines
}
