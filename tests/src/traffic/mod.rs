//! Makes the traffic of a scenario, as a process of its own in the namespace
//! of a host, with real sockets.
//!
//! Every verb checks its own outcome and fails if another one came.

mod bpf;
mod conntrack;
pub mod frame;
pub mod raw;
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

/// The environment variable with the user identifier that the process takes on.
pub const UID: &str = "SCENARIO_PROCESS_UID";

/// Does what the verb (as JSON) says.
pub fn main(verb: &str) -> anyhow::Result<()> {
    // Without a name it would be called "exe", as the path it was started by.
    let name = std::env::var(NAME).unwrap_or_else(|_| "scenarios".to_owned());
    nix::sys::prctl::set_name(&std::ffi::CString::new(name)?)?;
    if let Ok(uid) = std::env::var(UID) {
        nix::unistd::setuid(uid.parse::<u32>()?.into())?;
    }
    match serde_json::from_str(verb).context("bad verb")? {
        Verb::TcpListen(listen) => tcp::listen(&listen),
        Verb::TcpConnect(connect) => tcp::connect(&connect),
        Verb::UdpBind(bind) => udp::bind(&bind),
        Verb::UdpSend(send) => udp::send(&send),
        Verb::RawSend(raw) => raw::send(&raw),
        Verb::FillConntrack(fill) => conntrack::fill(&fill),
        Verb::DropByBpf(drop) => bpf::drop(&drop),
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

/// Keeps the process and its sockets until the scenario ends.
fn stay() -> ! {
    loop {
        std::thread::park();
    }
}
