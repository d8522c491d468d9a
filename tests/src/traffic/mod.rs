//! Makes the traffic of a scenario, as a process of its own in the namespace
//! of a host, with real sockets.
//!
//! Every verb checks its own outcome and fails if another one came.

mod conntrack;
mod frame;
mod raw;
mod tcp;
mod udp;

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::scenario::Verb;

/// What a background verb prints when the next step may start.
pub const READY: &str = "ready";

/// The environment variable that names the process.
pub const NAME: &str = "SCENARIO_PROCESS_NAME";

/// Does what the verb (as JSON) says.
pub fn main(verb: &str) -> anyhow::Result<()> {
    if let Ok(name) = std::env::var(NAME) {
        nix::sys::prctl::set_name(&std::ffi::CString::new(name)?)?;
    }
    match serde_json::from_str(verb).context("bad verb")? {
        Verb::TcpListen(listen) => tcp::listen(&listen),
        Verb::TcpConnect(connect) => tcp::connect(&connect),
        Verb::UdpBind(bind) => udp::bind(&bind),
        Verb::UdpSend(send) => udp::send(&send),
        Verb::RawSend(raw) => raw::send(&raw),
        Verb::FillConntrack(fill) => conntrack::fill(&fill),
        Verb::Run(line) => {
            let status = Command::new("sh").args(["-ec", &line]).status()?;
            if !status.success() {
                bail!("`{line}`: {status}");
            }
            Ok(())
        }
        Verb::WaitMs(ms) => {
            std::thread::sleep(Duration::from_millis(ms));
            Ok(())
        }
    }
}

/// Tells the runner that the socket is open.
fn ready() -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{READY}")?;
    stdout.flush()?;
    Ok(())
}
