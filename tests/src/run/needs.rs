//! Whether this machine has what a scenario needs. Features are found by
//! trying them, never by a version.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::bail;

use crate::sandbox::Sandbox;
use crate::scenario::Topology;

/// The running kernel's types and enum values.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The first unmet need, in words.
pub fn unmet(needs: &[String]) -> anyhow::Result<Option<String>> {
    for need in needs {
        let reason = match need.split_once(':') {
            Some(("tool", tool)) => missing_tool(tool),
            Some(("btf", name)) => missing_name(name)?,
            Some(("try", line)) => refused(line)?,
            _ => bail!("`{need}`: use tool:NAME, btf:NAME or try:COMMAND"),
        };
        if reason.is_some() {
            return Ok(reason);
        }
    }
    Ok(None)
}

fn missing_tool(tool: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(tool).exists());
    (!found).then(|| format!("no program `{tool}`"))
}

/// Looks for a name (an enum value, a struct, a function) among BTF's strings.
fn missing_name(name: &str) -> anyhow::Result<Option<String>> {
    Ok((!kernel_knows(name)?).then(|| format!("this kernel has no {name}")))
}

/// Whether the running kernel's BTF has this name.
pub fn kernel_knows(name: &str) -> anyhow::Result<bool> {
    if !Path::new(BTF).exists() {
        return Ok(false);
    }
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    Ok(std::fs::read(BTF)?
        .windows(wanted.len())
        .any(|window| window == wanted))
}

/// Tries a command in a network namespace of its own.
fn refused(line: &str) -> anyhow::Result<Option<String>> {
    let sandbox = Sandbox::new(&Topology::scratch())?;
    let mut command = Command::new("sh");
    command
        .args(["-ec", line])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = sandbox.spawn(Topology::SCRATCH_HOST, &mut command)?;
    let output = child.finish(std::time::Duration::from_secs(10))?;
    if output.status.success() {
        return Ok(None);
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Ok(Some(format!(
        "`{line}`: {}",
        error.lines().next().unwrap_or("failed")
    )))
}
