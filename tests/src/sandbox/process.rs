//! A process of a scenario, which never outlives its handle.

use std::io::Read;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// A child that is killed and collected when its handle goes away. Without
/// that, its remains would keep the scenario's PID namespace from ending.
pub struct Process {
    child: Option<Child>,
    /// Its identifier, as the runner sees it.
    pub id: u32,
}

impl Process {
    /// Takes charge of a child.
    pub fn new(child: Child) -> Self {
        Self {
            id: child.id(),
            child: Some(child),
        }
    }

    /// The pipe to its standard input.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.as_mut()?.stdin.take()
    }

    /// The pipe from its standard output.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.as_mut()?.stdout.take()
    }

    /// The pipe from its standard error.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.as_mut()?.stderr.take()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self
            .child
            .as_mut()
            .context("already waited for")?
            .try_wait()?)
    }

    /// Waits for it and its output, at most for this long.
    pub fn finish(mut self, limit: Duration) -> anyhow::Result<Output> {
        let deadline = Instant::now() + limit;
        // Read meanwhile: what does not fit the pipe would keep it from ending.
        let (stdout, stderr) = (read(self.stdout()), read(self.stderr()));
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = self.ended()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("did not end within {} s", limit.as_secs());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let text = |reader: Reader| reader.join().unwrap_or_else(|_| Ok(Vec::new()));
        Ok(Output {
            status,
            stdout: text(stdout)?,
            stderr: text(stderr)?,
        })
    }
}

/// Reads a pipe to its end.
type Reader = JoinHandle<std::io::Result<Vec<u8>>>;

fn read(pipe: Option<impl Read + Send + 'static>) -> Reader {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only if it has ended, which is just as well.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
