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
            Some(("unloaded", module)) => not_unloaded(module)?,
            _ => bail!("`{need}`: use tool:NAME, btf:NAME, try:COMMAND or unloaded:MODULE"),
        };
        if reason.is_some() {
            return Ok(reason);
        }
    }
    Ok(None)
}

/// Says so if a program is not there.
pub fn missing_tool(tool: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(tool).exists());
    (!found).then(|| format!("no program `{tool}`"))
}

/// Why a module is not one that could be loaded now, if it is not.
fn not_unloaded(module: &str) -> anyhow::Result<Option<String>> {
    let loaded = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let names = |text: &str| text.split(' ').next() == Some(module);
    if loaded.lines().any(names) {
        return Ok(Some(format!("{module} is loaded already")));
    }
    if Path::new("/sys/module").join(module).exists() {
        return Ok(Some(format!("{module} is built into this kernel")));
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let list = format!("/lib/modules/{}/modules.dep", release.trim());
    let list = std::fs::read_to_string(list).unwrap_or_default();
    let is_file = |line: &str| {
        let file = line
            .split(':')
            .next()
            .and_then(|path| path.rsplit('/').next());
        file.and_then(|file| file.split('.').next()) == Some(module)
    };
    let is_there = list.lines().any(is_file);
    Ok((!is_there).then(|| format!("this kernel has no module {module}")))
}

/// Looks for a name (an enum value, a struct, a function) among BTF's strings.
fn missing_name(name: &str) -> anyhow::Result<Option<String>> {
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    let is_known = Path::new(BTF).exists()
        && std::fs::read(BTF)?
            .windows(wanted.len())
            .any(|window| window == wanted);
    Ok((!is_known).then(|| format!("this kernel has no {name}")))
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
