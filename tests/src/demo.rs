//! Shows droptrace at work: connections between two network namespaces that
//! are refused, dropped by a rule, and reset, all of them real.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::run::die_with_parent;
use crate::sandbox::Sandbox;
use crate::scenario::{Scenario, parse};

/// Long enough for droptrace to show what just happened.
const PAUSE: Duration = Duration::from_millis(1300);

/// How long droptrace may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

const HEADINGS: [&str; 3] = [
    "1 of 3: nobody listens on 10.0.0.5:443, so the server answers with a reset",
    "2 of 3: an nft rule on the server drops the connection attempts, so the client repeats them",
    "3 of 3: the server resets connections that were open",
];

/// The same steps as in a scenario file, a heading before each `wait_ms`.
const SCRIPT: &str = r#"
proves = "what droptrace looks like"
topology = "pair"
needs = ["tool:nft"]

[[setup]]
in = "server"
nft = "table inet filter { chain input { type filter hook input priority 0; }; }"

[[traffic]]
in = "client"
wait_ms = 0
[[traffic]]
in = "client"
name = "browser"
tcp_connect = { to = "10.0.0.5:443", count = 3, expect = "refused" }

[[traffic]]
in = "client"
wait_ms = 0
[[traffic]]
in = "server"
run = "nft add rule inet filter input 'ip saddr 10.0.0.2 tcp dport 443 counter drop comment \"maintenance\"'"
[[traffic]]
in = "client"
name = "browser"
tcp_connect = { to = "10.0.0.5:443", expect = "timeout", timeout_ms = 3500 }
[[traffic]]
in = "server"
run = "nft flush chain inet filter input"

[[traffic]]
in = "client"
wait_ms = 0
[[traffic]]
in = "server"
name = "shop"
tcp_listen = { port = 443, then = "reset" }
[[traffic]]
in = "client"
name = "browser"
tcp_connect = { to = "10.0.0.5:443", count = 2, send = 100, end = "reset" }

[[expect]]
record = { kind = "drop" }
"#;

/// Runs the demo to its end or to Ctrl-C.
pub fn run(droptrace: &Path) -> anyhow::Result<()> {
    let script = parse(SCRIPT)?;
    // Ctrl-C reaches droptrace as well, which then prints its summary; this
    // process stays to see that, and takes everything down afterwards.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let interrupted =
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;

    let sandbox = Sandbox::new(&script.topology)?;
    crate::run::prepare(&sandbox, &script.setup)?;
    let (mut tracer, ready) = start(droptrace)?;
    let outcome = ready
        .recv_timeout(PATIENCE)
        .context("droptrace did not start")
        .and_then(|()| play(&script, &sandbox, &interrupted));
    end(&mut tracer)?;
    outcome
}

fn start(droptrace: &Path) -> anyhow::Result<(Child, Receiver<()>)> {
    let mut command = Command::new(droptrace);
    command
        .args(["--dst", "10.0.0.5:443"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    eprintln!("$ droptrace --dst 10.0.0.5:443");
    die_with_parent(&mut command);
    let mut tracer = command
        .spawn()
        .with_context(|| format!("cannot start {}", droptrace.display()))?;
    let stderr = tracer.stderr.take().context("no standard error")?;
    let (sender, ready) = channel();
    // Passed on line by line, to see when it is ready.
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = writeln!(std::io::stderr(), "{line}");
            if line.starts_with("droptrace: tracing") {
                let _ = sender.send(());
            }
        }
    });
    Ok((tracer, ready))
}

fn play(script: &Scenario, sandbox: &Sandbox, interrupted: &SignalFd) -> anyhow::Result<()> {
    let mut headings = HEADINGS.iter();
    let mut cast = crate::run::Cast::default();
    for (index, step) in script.traffic.iter().enumerate() {
        if matches!(step.verb()?, crate::scenario::Verb::WaitMs(_)) {
            if index > 0 && came(interrupted, PAUSE)? {
                return Ok(());
            }
            if let Some(heading) = headings.next() {
                eprintln!("\n--- {heading}");
            }
        }
        let done = cast.step(sandbox, index + 1, step, 0);
        // Ctrl-C ends the traffic too, which is no failure.
        if came(interrupted, Duration::ZERO)? {
            return Ok(());
        }
        done?;
    }
    came(interrupted, PAUSE)?;
    Ok(())
}

/// Waits; true if Ctrl-C came.
fn came(interrupted: &SignalFd, wait: Duration) -> anyhow::Result<bool> {
    let mut fds = [PollFd::new(interrupted.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::try_from(wait)?)? > 0)
}

fn end(tracer: &mut Child) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    if tracer.try_wait()?.is_none() {
        kill(Pid::from_raw(tracer.id().cast_signed()), Signal::SIGINT)?;
    }
    loop {
        if let Some(status) = tracer.try_wait()? {
            if !status.success() {
                bail!("droptrace: {status}");
            }
            return Ok(());
        }
        if Instant::now() > deadline {
            tracer.kill()?;
            tracer.wait()?;
            bail!(
                "droptrace did not end within {} s of SIGINT",
                PATIENCE.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
