//! Starts droptrace, waits until it traces, stops it, and hands over what it
//! printed.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getppid};

/// How long droptrace may take to attach, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running droptrace.
pub struct Tracer {
    child: Child,
    stdout: JoinHandle<std::io::Result<String>>,
    stderr: JoinHandle<String>,
}

/// What a droptrace that ended has printed.
pub struct Printed {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code, `None` if it was killed.
    pub code: Option<i32>,
}

impl Tracer {
    /// Starts droptrace and waits until it traces.
    pub fn start(droptrace: &Path, args: &[String]) -> anyhow::Result<Self> {
        let (line, ready) = channel();
        let tracer = Self::spawn_telling(command(droptrace, args), line)?;
        match wait_for_ready(&ready) {
            Ok(()) => Ok(tracer),
            Err(error) => {
                let printed = tracer.stop(Some(Signal::SIGKILL))?;
                Err(anyhow!("{error:#}\n{}", printed.stderr.trim()))
            }
        }
    }

    /// Starts a droptrace that ends by itself.
    pub fn spawn(droptrace: &Path, args: &[String]) -> anyhow::Result<Self> {
        Self::spawn_telling(command(droptrace, args), channel().0)
    }

    /// Starts droptrace; lines of its standard error also go to `line`.
    pub fn spawn_telling(mut command: Command, line: Sender<String>) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        Ok(Self {
            child,
            stdout: std::thread::spawn(move || {
                let mut text = String::new();
                BufReader::new(stdout).read_to_string(&mut text)?;
                Ok(text)
            }),
            stderr: std::thread::spawn(move || {
                let mut text = String::new();
                for read in BufReader::new(stderr).lines().map_while(Result::ok) {
                    text += &read;
                    text.push('\n');
                    // Nobody listens once it is ready.
                    let _ = line.send(read);
                }
                text
            }),
        })
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as Ctrl-C does and waits for the rest of its output.
    pub fn interrupt(self) -> anyhow::Result<Printed> {
        self.stop(Some(Signal::SIGINT))
    }

    /// Ends it as a service manager does.
    pub fn terminate(self) -> anyhow::Result<Printed> {
        self.stop(Some(Signal::SIGTERM))
    }

    /// Ends it so that it can do nothing about it.
    pub fn kill(self) -> anyhow::Result<Printed> {
        self.stop(Some(Signal::SIGKILL))
    }

    /// Waits until it ends by itself.
    pub fn finish(self) -> anyhow::Result<Printed> {
        self.stop(None)
    }

    fn stop(mut self, signal: Option<Signal>) -> anyhow::Result<Printed> {
        if let Some(signal) = signal {
            kill(Pid::from_raw(self.child.id().cast_signed()), signal)?;
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if std::time::Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                bail!(
                    "droptrace did not end within {} s{}",
                    PATIENCE.as_secs(),
                    signal.map_or(String::new(), |signal| format!(" of {signal}"))
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let stdout = self.stdout.join().unwrap_or_else(|_| Ok(String::new()));
        Ok(Printed {
            stdout: stdout.context("droptrace printed bytes that are no text")?,
            stderr: self.stderr.join().unwrap_or_default(),
            code: status.code(),
        })
    }
}

fn command(droptrace: &Path, args: &[String]) -> Command {
    let mut command = Command::new(droptrace);
    command.args(args);
    command
}

/// Whether this line says that it traces: the command says it, or the daemon's log.
pub fn is_ready(line: &str) -> bool {
    line.starts_with("droptrace: tracing") || line.contains("] tracing ")
}

fn wait_for_ready(lines: &Receiver<String>) -> anyhow::Result<()> {
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) if is_ready(&line) => return Ok(()),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => {
                bail!("droptrace was not ready within {} s", PATIENCE.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("droptrace ended before it was ready"),
        }
    }
}

/// Kills the process when the runner ends, however it ends.
pub fn die_with_parent(command: &mut Command) {
    let runner = Pid::this();
    // SAFETY: between fork and exec only bare system calls are made.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // What the runner blocks for itself must reach the child.
            SigSet::empty().thread_set_mask()?;
            if getppid() == runner {
                Ok(())
            } else {
                Err(std::io::ErrorKind::NotConnected.into())
            }
        });
    }
}
