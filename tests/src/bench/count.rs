//! What a contender says it saw, from its output.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use droptrace::kernel::btf::Btf;
use droptrace::kernel::reasons::{List, Reasons};
use serde::Deserialize;

use super::load::REASON;
use super::tracefs::with_tracefs;

/// What a contender says it saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Drops of the load. Who does not tell them apart from others' counts those too.
    pub drops: u64,
    /// Drops that it says it lost.
    pub lost: u64,
    /// Drops of the load whose rule is named.
    pub with_rule: u64,
}

/// Of a droptrace record only what is counted here.
#[derive(Deserialize)]
struct Record {
    kind: String,
    #[serde(default)]
    packets: u64,
    reason: Option<Reason>,
    r#where: Option<Where>,
    rule: Option<Rule>,
}

#[derive(Deserialize)]
struct Reason {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Where {
    netns: Option<u64>,
}

#[derive(Deserialize)]
struct Rule {}

/// In a file of droptrace's records: those of the load's reason in this namespace.
pub fn of_records(file: &Path, netns: u64) -> anyhow::Result<Counted> {
    of_reason(file, REASON, |of| of == netns)
}

/// In a file of droptrace's records: those of a reason in some namespaces.
pub fn of_reason(
    file: &Path,
    reason: &str,
    is_ours: impl Fn(u64) -> bool,
) -> anyhow::Result<Counted> {
    let mut counted = Counted::default();
    for line in lines(file)? {
        let record: Record = serde_json::from_str(&line?).context("no record")?;
        if record.kind == "loss" {
            counted.lost += record.packets;
            continue;
        }
        let has_reason = record
            .reason
            .is_some_and(|given| given.name.as_deref() == Some(reason));
        let netns = record.r#where.and_then(|place| place.netns);
        if record.kind == "drop" && has_reason && netns.is_some_and(&is_ours) {
            counted.drops += record.packets;
            if record.rule.is_some() {
                counted.with_rule += record.packets;
            }
        }
    }
    Ok(counted)
}

/// In the summary that droptrace prints at its end: all drops, less those in rows with
/// another cause. Of rows that it leaves out it tells no cause.
pub fn of_summary(file: &Path) -> anyhow::Result<Counted> {
    let mut counted = Counted::default();
    let mut others = 0;
    let mut total = None;
    // Before the table stand the lines of what was seen as it happened.
    let is_live = |line: &std::io::Result<String>| match line {
        Ok(line) => !line.trim_start().starts_with("PACKETS "),
        Err(_) => false,
    };
    for line in lines(file)?.skip_while(is_live) {
        let line = line?;
        if let Some(rest) = line.strip_prefix("drops ") {
            total = leading_number(rest);
        } else if let Some(rest) = line.strip_prefix("lost: ") {
            counted.lost = leading_number(rest).context("the summary has no number of losses")?;
        } else if let Some((packets, rest)) = line.trim_start().split_once("  DROP  ") {
            let Some(packets) = leading_number(packets) else {
                continue;
            };
            if rest.contains("nft rule: ip bench ") {
                counted.with_rule += packets;
            } else if !rest.starts_with(REASON) {
                others += packets;
            }
        }
    }
    let total = total.context("the output has no summary")?;
    counted.drops = total.saturating_sub(others);
    Ok(counted)
}

/// A number with its thousands set apart, at the beginning of a text.
fn leading_number(text: &str) -> Option<u64> {
    let digits = text
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == ',')
        .filter(char::is_ascii_digit);
    digits.collect::<String>().parse().ok()
}

/// What bpftrace prints, for both programs: `@[12]: 345` at its end, or a line for each
/// event, which begins with the reason.
pub fn of_bpftrace(stdout: &Path, stderr: &Path) -> anyhow::Result<Counted> {
    let reason = reason_code()?;
    let (in_all, each) = (format!("@[{reason}]: "), format!("{reason} "));
    let mut counted = Counted::default();
    for line in lines(stdout)?.chain(lines(stderr)?) {
        let line = line?;
        if let Some(count) = line.strip_prefix(&in_all) {
            counted.drops += count.trim().parse::<u64>()?;
        } else if line.starts_with(&each) {
            counted.drops += 1;
        } else if let Some(rest) = line.strip_prefix("Lost ") {
            let count = rest.split(' ').next().and_then(|count| count.parse().ok());
            counted.lost += count.unwrap_or(0);
        }
    }
    Ok(counted)
}

/// The number of samples in perf's file, whatever their reason.
pub fn of_perf(file: &Path) -> anyhow::Result<Counted> {
    let mut command = Command::new("perf");
    command.args(["report", "--stats", "-i"]).arg(file);
    with_tracefs(&mut command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("cannot start perf report")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let of = |name: &str| {
        let line = text.lines().find_map(|line| {
            let (found, count) = line.trim().split_once(" events:")?;
            (found == name).then_some(count)
        });
        line.and_then(|count| count.split_whitespace().next()?.parse().ok())
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("perf report: {}: {}", output.status, said.trim());
    }
    let _ = fs::remove_file(file);
    Ok(Counted {
        // None is not listed.
        drops: of("SAMPLE").unwrap_or(0),
        // It tells where some were lost, not how many.
        ..Counted::default()
    })
}

/// The number of [`REASON`] on this kernel.
pub fn reason_code() -> anyhow::Result<u32> {
    let btf = Btf::of_running_kernel().context("cannot read the kernel's types")?;
    let reasons = Reasons::from_btf(&btf);
    let named = reasons.named(REASON);
    let reason = named.iter().find(|reason| reason.list == List::Drop);
    reason
        .map(|reason| reason.code)
        .with_context(|| format!("this kernel gives no reason {REASON}"))
}

fn lines(file: &Path) -> anyhow::Result<std::io::Lines<BufReader<File>>> {
    let open = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    Ok(BufReader::new(open).lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `of` makes of a file with this text.
    fn read(name: &str, text: &str, of: impl Fn(&Path) -> anyhow::Result<Counted>) -> Counted {
        let path = std::env::temp_dir().join(format!("bench-{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        let counted = of(&path).unwrap();
        fs::remove_file(path).unwrap();
        counted
    }

    #[test]
    fn records_of_others_are_not_counted() {
        let text = r#"{"kind":"drop","packets":5,"reason":{"name":"NETFILTER_DROP"},"where":{"netns":7},"rule":{"table":"bench"}}
{"kind":"drop","packets":2,"reason":{"name":"NETFILTER_DROP"},"where":{"netns":7},"rule":null}
{"kind":"drop","packets":11,"reason":{"name":"NETFILTER_DROP"},"where":{"netns":8},"rule":null}
{"kind":"drop","packets":13,"reason":{"name":null},"where":{"netns":7},"rule":null}
{"kind":"retransmit","packets":17,"reason":null,"where":{"netns":7},"rule":null}
{"kind":"loss","packets":3,"reason":null,"where":null,"rule":null}
"#;
        let counted = read("records", text, |file| of_records(file, 7));
        assert_eq!((counted.drops, counted.lost, counted.with_rule), (7, 3, 5));
    }

    #[test]
    fn rows_of_the_summary_are_those_of_the_rule_and_of_the_reason() {
        let text = "\
10:00:00  DROP     ×3           NETFILTER_DROP        udp 10.128.0.0:* → 10.0.0.5:9
1.8 s
  PACKETS  WHAT  CAUSE                                       FLOW
1,181,659  DROP  probably nft rule: ip bench early handle 3  many flows, not listed one by one
  1,846  DROP  nft rule: ip bench early handle 3           udp 10.128.0.0:* → 10.0.0.5:9
    100  DROP  NETFILTER_DROP                              udp 10.128.0.1:* → 10.0.0.5:9
     49  DROP  NO_SOCKET                                   udp 10.0.0.5:51242 → 10.0.0.5:10
     10                                                    3 more rows

drops 1,183,664 · resets sent 0
lost: 1,002 packets, 61,844 details
";
        let counted = read("summary", text, of_summary);
        assert_eq!(
            (counted.drops, counted.lost, counted.with_rule),
            (1_183_615, 1_002, 1_183_505)
        );
    }
}
