//! A contender at work: started, watched, ended, asked what it saw.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::contender::{Contender, Means};
use super::count::{self, Counted};
use super::floor::Floor;
use super::load::Ground;
use super::tracefs::with_tracefs;
use super::usage;
use crate::run::daemon::{Place, command_line};
use crate::run::die_with_parent;
use crate::run::statistics::{self, Totals};

/// How long a contender may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is looked whether it has started: seldom enough to leave it the CPUs.
const GLANCE: Duration = Duration::from_millis(2);

/// Who started, with what, and where its output goes.
pub struct Start<'a> {
    /// The droptrace to measure.
    pub droptrace: &'a Path,
    /// A folder for outputs.
    pub folder: &'a Path,
    /// Whose drops show that it is attached.
    pub ground: &'a Ground,
}

/// A contender at work.
pub struct Session {
    means: Means,
    child: Option<Child>,
    _floor: Option<Floor>,
    /// A daemon's files.
    place: Option<Place>,
    stdout: PathBuf,
    stderr: PathBuf,
    /// When the first of its programs had run, and when it said that all are attached.
    pub began: Began,
}

/// How long a start took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Began {
    /// Until a program of it has run: it is attached. Until it answers, of perf.
    pub first: Duration,
    /// Until it says that everything is attached; as `first` where it says nothing.
    pub all: Duration,
}

impl Session {
    /// Starts a contender and waits until it traces.
    pub fn start(contender: Contender, with: &Start<'_>) -> anyhow::Result<Self> {
        let means = contender.means();
        let output = |kind: &str| with.folder.join(kind);
        let (stdout, stderr) = (output("stdout"), output("stderr"));
        let floor = matches!(means, Means::Floor).then(Floor::attach);
        let floor = floor.transpose()?;
        let mut session = Self {
            means,
            child: None,
            _floor: floor,
            place: None,
            stdout,
            stderr,
            began: Began::default(),
        };
        let command = match means {
            Means::Nothing | Means::Floor => return Ok(session),
            Means::Bpftrace(program) => {
                let mut command = Command::new("bpftrace");
                command.args(["-e", program]);
                with_tracefs(&mut command);
                command
            }
            Means::Perf => return session.start_perf(with).context("perf"),
            Means::Command(flags) => {
                let mut command = Command::new(with.droptrace);
                command.args(flags);
                command
            }
            Means::Daemon(settings) => {
                let place = Place::at(with.folder.join("daemon"))?;
                let own = settings.iter().map(|setting| (*setting).to_owned());
                let quiet = ["metrics.listen=off", "file.max_size=4GiB"].map(ToOwned::to_owned);
                let mut command = Command::new(with.droptrace);
                command.args(command_line(
                    place.settings().into_iter().chain(quiet).chain(own),
                ));
                session.place = Some(place);
                command
            }
        };
        let statistics = statistics::enable()?;
        let begin = Instant::now();
        session.spawn(command)?;
        with.ground
            .with_probes(|| session.wait_until_attached(begin))
            .with_context(|| contender.name())?;
        drop(statistics);
        Ok(session)
    }

    /// The process that is measured; this one where the contender has none.
    pub fn process(&self) -> u32 {
        self.child.as_ref().map_or_else(std::process::id, Child::id)
    }

    /// Whether it has a process of its own.
    pub const fn has_process(&self) -> bool {
        self.child.is_some()
    }

    /// What its programs did, while the kernel counted.
    pub fn programs(&self) -> anyhow::Result<Totals> {
        statistics::totals(self.process())
    }

    /// CPU time so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        if self.has_process() {
            usage::cpu(self.process())
        } else {
            Ok(Duration::ZERO)
        }
    }

    /// Ends it as Ctrl-C does. Gives what it counted of the drops of `ground`, if it
    /// counts any.
    pub fn stop(mut self, ground: &Ground) -> anyhow::Result<Option<Counted>> {
        let Some(mut child) = self.child.take() else {
            return Ok(None);
        };
        interrupt(&mut child)?;
        let counted = match self.means {
            Means::Nothing | Means::Floor => return Ok(None),
            Means::Bpftrace(_) => count::of_bpftrace(&self.stdout, &self.stderr),
            Means::Perf => count::of_perf(&self.data()),
            Means::Command(_) => count::of_summary(&self.stdout),
            Means::Daemon(_) => {
                let place = self.place.as_ref().context("a daemon has files")?;
                count::of_records(&place.file(), ground.netns)
            }
        };
        let said = fs::read_to_string(&self.stderr).unwrap_or_default();
        counted.map(Some).with_context(|| said.trim().to_owned())
    }

    /// As [`stop`](Self::stop), for a daemon: what it recorded of a reason in some
    /// namespaces.
    pub fn stop_and_count(
        mut self,
        reason: &str,
        is_ours: impl Fn(u64) -> bool,
    ) -> anyhow::Result<Counted> {
        let mut child = self.child.take().context("not started")?;
        interrupt(&mut child)?;
        let place = self.place.as_ref().context("a daemon has files")?;
        count::of_reason(&place.file(), reason, is_ours)
    }

    fn spawn(&mut self, mut command: Command) -> anyhow::Result<()> {
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("cannot create {}", path.display()))
        };
        command
            .stdin(Stdio::null())
            .stdout(create(&self.stdout)?)
            .stderr(create(&self.stderr)?);
        die_with_parent(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        self.child = Some(child);
        Ok(())
    }

    fn wait_until_attached(&mut self, begin: Instant) -> anyhow::Result<()> {
        let says_so = matches!(self.means, Means::Command(_) | Means::Daemon(_));
        let mut first = None;
        loop {
            self.fail_if_ended()?;
            // It may end between the two; the next round says why.
            if first.is_none() && self.programs().is_ok_and(|programs| programs.runs > 0) {
                first = Some(begin.elapsed());
            }
            let is_ready = !says_so || self.has_said_ready();
            if let (Some(first), true) = (first, is_ready) {
                let all = if says_so { begin.elapsed() } else { first };
                self.began = Began { first, all };
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                bail!("it saw no drop within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// The command says it, or the daemon's log.
    fn has_said_ready(&self) -> bool {
        fs::read_to_string(&self.stderr)
            .is_ok_and(|said| said.contains("droptrace: tracing") || said.contains("] tracing "))
    }

    fn fail_if_ended(&mut self) -> anyhow::Result<()> {
        let child = self.child.as_mut().context("not started")?;
        if let Some(status) = child.try_wait()? {
            let said = fs::read_to_string(&self.stderr).unwrap_or_default();
            bail!("it ended with {status}: {}", said.trim());
        }
        Ok(())
    }

    /// perf answers on a pipe that its events are on.
    fn start_perf(mut self, with: &Start<'_>) -> anyhow::Result<Self> {
        let pipe = |kind: &str| -> anyhow::Result<(PathBuf, File)> {
            let path = with.folder.join(kind);
            let _ = fs::remove_file(&path);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)
                .with_context(|| format!("cannot make {}", path.display()))?;
            // For both directions, so that nobody waits for the other end.
            let file = File::options().read(true).write(true).open(&path)?;
            Ok((path, file))
        };
        let (control, mut to) = pipe("control")?;
        let (answers, mut from) = pipe("answers")?;
        let mut command = Command::new("perf");
        command
            .args([
                "record",
                "-q",
                "-a",
                "-e",
                "skb:kfree_skb",
                "-D",
                "-1",
                "-o",
            ])
            .arg(self.data())
            .arg(format!(
                "--control=fifo:{},{}",
                control.display(),
                answers.display()
            ));
        with_tracefs(&mut command);
        let begin = Instant::now();
        self.spawn(command)?;
        to.write_all(b"enable\n")?;
        loop {
            let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(10_u8))? > 0 {
                let _ = from.read(&mut [0; 16])?;
                let took = begin.elapsed();
                self.began = Began {
                    first: took,
                    all: took,
                };
                return Ok(self);
            }
            self.fail_if_ended()?;
            if begin.elapsed() > PATIENCE {
                bail!("no answer within {} s", PATIENCE.as_secs());
            }
        }
    }

    /// perf's file.
    fn data(&self) -> PathBuf {
        self.stdout.with_extension("perf")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn interrupt(child: &mut Child) -> anyhow::Result<()> {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("it did not end within {} s of SIGINT", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
