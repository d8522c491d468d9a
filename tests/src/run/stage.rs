//! Plays one scenario: setup, tracer, traffic, end.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::compare;
use super::daemon::Place;
use super::rule::{self, Rules};
use super::statistics::{self, Statistics};
use super::tracer::{Printed, Tracer};
use super::truth::{self, Truths};
use crate::sandbox::{Process, Sandbox};
use crate::scenario::{Probe, Scenario, Setup, Traffic, Verb};
use crate::traffic::{NAME, READY, UID};

/// How long a step of the traffic may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often a step is done at most for what it waits for to happen.
const ROUNDS: u16 = 20;
/// How often all of it is made at most until a program is interrupted, which takes a while
/// the shorter it is and the slower the machine.
const INTERRUPTED_ROUNDS: u16 = 60;

/// Truths that stay the same for this long are final.
const QUIET: Duration = Duration::from_millis(30);

/// This thread, and what it starts, on one CPU; until it is dropped.
struct Pinned(CpuSet);

impl Pinned {
    fn new() -> anyhow::Result<Self> {
        let before = sched_getaffinity(Pid::from_raw(0)).context("cannot ask for the CPUs")?;
        let first = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu) == Ok(true));
        let mut one = CpuSet::new();
        one.set(first.context("there is no CPU to run on")?)
            .context("cannot choose a CPU")?;
        sched_setaffinity(Pid::from_raw(0), &one).context("cannot stay on one CPU")?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // What was allowed before is allowed again.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// Everything that is to be judged.
pub struct Seen {
    /// What droptrace printed.
    pub printed: Printed,
    /// By how much each truth rose during the traffic.
    pub truths: Truths,
    /// Rules, by the name that the scenario gave.
    pub rules: Rules,
    /// How often the kernel ran droptrace's programs, where that matters.
    pub runs: Option<u64>,
    /// How often it kept one of them from running, where that matters.
    pub skipped: Option<u64>,
    /// Inode numbers of the network namespaces, by host.
    pub netns: BTreeMap<String, u64>,
    /// Process identifiers, by the name that the scenario gave.
    pub pids: BTreeMap<String, u32>,
}

/// How droptrace is started beside what the scenario says.
#[derive(Clone, Copy)]
pub struct Tracing {
    /// With all means to name a rule.
    pub compares: bool,
    /// As a daemon.
    pub daemon: bool,
    /// How rules are to be found, unless the scenario says.
    pub rules: Option<&'static str>,
}

/// Plays a scenario to its end.
pub fn play(droptrace: &Path, scenario: &Scenario, how: Tracing) -> anyhow::Result<Seen> {
    let _pinned = scenario.one_cpu.then(Pinned::new).transpose()?;
    let sandbox = Sandbox::new(&scenario.topology)?;
    prepare(&sandbox, &scenario.setup)?;
    let before = truth::read(scenario, &sandbox)?;
    let mut rules = rule::read(scenario, &sandbox, false)?;
    let mut cast = Cast::default();
    let traced = match &scenario.probe {
        Some(probe) => probe_after(&mut cast, droptrace, scenario, probe, &sandbox, &before)?,
        None => trace(&mut cast, droptrace, scenario, how, &sandbox, &before)?,
    };
    let Traced {
        printed,
        truths,
        runs,
        skipped,
    } = traced;
    let after =
        truths.map_err(|error| anyhow!("{error:#}\ndroptrace printed:\n{}", printed.stdout))?;
    for (index, after) in scenario.after.iter().enumerate() {
        sandbox
            .shell(&after.r#in, &after.run, "")
            .with_context(|| format!("after {}", index + 1))?;
    }
    let truths = after.into_iter().map(|(name, number)| {
        let risen = number.saturating_sub(before[&name]);
        (name, risen)
    });
    rules.extend(rule::read(scenario, &sandbox, true)?);
    let netns = scenario
        .topology
        .hosts
        .keys()
        .map(|host| Ok((host.clone(), sandbox.host(host)?.inode)));
    Ok(Seen {
        printed,
        truths: truths.collect(),
        rules,
        runs,
        skipped,
        netns: netns.collect::<anyhow::Result<_>>()?,
        pids: cast.pids,
    })
}

/// What happened while droptrace ran.
struct Traced {
    printed: Printed,
    /// The truths as they are now, or why the traffic was not as it should be.
    truths: anyhow::Result<Truths>,
    runs: Option<u64>,
    skipped: Option<u64>,
}

/// Has droptrace trace the traffic.
fn trace(
    cast: &mut Cast,
    droptrace: &Path,
    scenario: &Scenario,
    how: Tracing,
    sandbox: &Sandbox,
    before: &Truths,
) -> anyhow::Result<Traced> {
    cast.perform(sandbox, scenario, before, true)?;
    let mut arguments = arguments(scenario, sandbox, &cast.pids)?;
    if how.compares {
        arguments.extend(compare::arguments(scenario, sandbox)?);
    }
    if let Some(rules) = how.rules
        && !arguments.iter().any(|argument| argument == "--rules")
    {
        arguments.extend(["--rules", rules].map(ToOwned::to_owned));
    }
    let is_daemon = how.daemon || scenario.tracer.daemon;
    let place = is_daemon.then(Place::new).transpose()?;
    let arguments = match &place {
        Some(place) => place
            .arguments(&arguments)
            .context("a daemon has no such flags")?,
        None => as_json(arguments),
    };
    let tracer = Tracer::start(droptrace, &arguments)?;
    let statistics = (scenario.tracer.runs_only_for_records)
        .then(|| Statistics::of(tracer.process()))
        .transpose();
    // Whatever goes wrong from here on, the tracer is ended first.
    let skipped = || statistics::skipped(tracer.process());
    let truths = cast
        .perform(sandbox, scenario, before, false)
        .and_then(|()| {
            // An interrupt cannot be ordered for a moment.
            for _ in 1..INTERRUPTED_ROUNDS {
                if !scenario.tracer.is_interrupted || skipped()? > 0 {
                    break;
                }
                cast.perform(sandbox, scenario, before, false)?;
            }
            Ok(())
        })
        .and_then(|()| settled(scenario, sandbox));
    let skipped = scenario.tracer.is_interrupted.then(skipped).transpose();
    let runs = statistics.and_then(|of| of.map(|of| of.runs()).transpose());
    let mut printed = if scenario.tracer.killed {
        tracer.kill()?
    } else {
        tracer.interrupt()?
    };
    if let Some(place) = place {
        printed.stdout = place.records()?;
    }
    Ok(Traced {
        printed,
        truths,
        runs: runs?,
        skipped: skipped?,
    })
}

/// Has droptrace make an attempt of its own when the traffic is done.
fn probe_after(
    cast: &mut Cast,
    droptrace: &Path,
    scenario: &Scenario,
    probe: &Probe,
    sandbox: &Sandbox,
    before: &Truths,
) -> anyhow::Result<Traced> {
    cast.perform(sandbox, scenario, before, false)?;
    let mut arguments = vec!["probe".to_owned()];
    arguments.extend(probe.args.iter().cloned());
    let netns = sandbox.host(&probe.r#in)?.inode.to_string();
    arguments.extend(["--netns".to_owned(), netns]);
    Ok(Traced {
        printed: Tracer::spawn(droptrace, &as_json(arguments))?.finish()?,
        truths: settled(scenario, sandbox),
        runs: None,
        skipped: None,
    })
}

fn as_json(mut arguments: Vec<String>) -> Vec<String> {
    arguments.extend(["--format", "json"].map(ToOwned::to_owned));
    arguments
}

/// Whether a daemon can trace what the scenario's droptrace does.
pub fn can_be_a_daemon(scenario: &Scenario) -> bool {
    let tracer = &scenario.tracer;
    let is_special = tracer.killed || tracer.as_given || scenario.probe.is_some();
    !is_special && Place::new().is_ok_and(|place| place.arguments(&tracer.args).is_some())
}

/// droptrace's arguments, with inode numbers for `(netns of HOST)` and process identifiers
/// for `(pid of NAME)`.
fn arguments(
    scenario: &Scenario,
    sandbox: &Sandbox,
    pids: &BTreeMap<String, u32>,
) -> anyhow::Result<Vec<String>> {
    let fill_in = |arg: &String| {
        let name = |what| arg.strip_prefix(what)?.strip_suffix(')');
        if let Some(host) = name("(netns of ") {
            return Ok(sandbox.host(host)?.inode.to_string());
        }
        let Some(process) = name("(pid of ") else {
            return Ok(arg.clone());
        };
        let pid = pids.get(process);
        let pid = pid.with_context(|| format!("{process} does not run before droptrace does"))?;
        Ok(pid.to_string())
    };
    scenario.tracer.args.iter().map(fill_in).collect()
}

/// Does every step of `[[setup]]`.
pub fn prepare(sandbox: &Sandbox, setup: &[Setup]) -> anyhow::Result<()> {
    for (index, step) in setup.iter().enumerate() {
        prepare_one(sandbox, step).with_context(|| format!("setup {}", index + 1))?;
    }
    Ok(())
}

fn prepare_one(sandbox: &Sandbox, setup: &Setup) -> anyhow::Result<()> {
    let host = &setup.r#in;
    if let Some(rules) = &setup.nft {
        sandbox.shell(host, "nft -f -", rules)?;
    }
    if let Some(line) = &setup.run {
        sandbox.shell(host, line, "")?;
    }
    for (name, value) in setup.sysctl.iter().flatten() {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        sandbox
            .host(host)?
            .run(|| std::fs::write(&path, value).with_context(|| format!("cannot write {path}")))?;
    }
    Ok(())
}

/// Waits until what was sent last has arrived, as the truths show.
fn settled(scenario: &Scenario, sandbox: &Sandbox) -> anyhow::Result<Truths> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut last = truth::read(scenario, sandbox)?;
    loop {
        std::thread::sleep(QUIET);
        let now = truth::read(scenario, sandbox)?;
        if now == last {
            return Ok(now);
        }
        if Instant::now() > deadline {
            bail!("the truths do not come to rest: {last:?}, then {now:?}");
        }
        last = now;
    }
}

/// The processes that make the traffic.
#[derive(Default)]
pub struct Cast {
    background: Vec<(usize, Process)>,
    meanwhile: Vec<(usize, Verb, Process)>,
    pids: BTreeMap<String, u32>,
}

impl Cast {
    /// Makes the traffic that begins before droptrace does, or (`is_early` false) the rest.
    fn perform(
        &mut self,
        sandbox: &Sandbox,
        scenario: &Scenario,
        before: &Truths,
        is_early: bool,
    ) -> anyhow::Result<()> {
        let steps = scenario.traffic.iter().enumerate();
        for (index, step) in steps.filter(|(_, step)| step.before == is_early) {
            for round in 0..ROUNDS {
                self.step(sandbox, index + 1, step, round)
                    .with_context(|| format!("traffic {}, in {}", index + 1, step.r#in))?;
                let Some(name) = &step.until else { break };
                if truth::read(scenario, sandbox)?[name] > before[name] {
                    break;
                }
            }
        }
        for (number, verb, child) in self.meanwhile.drain(..) {
            finish(child, &verb).with_context(|| format!("traffic {number}"))?;
        }
        for (number, child) in &mut self.background {
            if let Some(status) = child.ended()? {
                bail!("traffic {number} was to run to the end, but ended: {status}");
            }
        }
        Ok(())
    }

    /// Does one step; `number` is its place in the file, `round` how often it was done
    /// before.
    pub fn step(
        &mut self,
        sandbox: &Sandbox,
        number: usize,
        step: &Traffic,
        round: u16,
    ) -> anyhow::Result<()> {
        let verb = step.verb()?.after(round);
        let mut command = Command::new("/proc/self/exe");
        command.arg("traffic").arg(serde_json::to_string(&verb)?);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(name) = &step.name {
            command.env(NAME, name);
        }
        if let Some(uid) = step.uid {
            command.env(UID, uid.to_string());
        }
        let mut child = sandbox.spawn(&step.r#in, &mut command)?;
        if let Some(name) = &step.name {
            self.pids.insert(name.clone(), child.id);
        }
        if verb.is_background() {
            wait_for_ready(&mut child)?;
            self.background.push((number, child));
            return Ok(());
        }
        if verb.is_meanwhile() {
            wait_for_ready(&mut child)?;
            self.meanwhile.push((number, verb, child));
            return Ok(());
        }
        finish(child, &verb)
    }
}

/// Waits for a step that ends by itself.
fn finish(child: Process, verb: &Verb) -> anyhow::Result<()> {
    let output = child.finish(PATIENCE)?;
    if !output.status.success() {
        bail!("{}", explain(verb, &output.stderr));
    }
    Ok(())
}

fn wait_for_ready(child: &mut Process) -> anyhow::Result<()> {
    let stdout = child.stdout().context("no standard output")?;
    let (line, first) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = BufReader::new(stdout).read_line(&mut text);
        let _ = line.send(text);
    });
    let text = first
        .recv_timeout(PATIENCE)
        .context("was not ready in time")?;
    if text.trim() != READY {
        let mut error = String::new();
        if let Some(mut stderr) = child.stderr() {
            std::io::Read::read_to_string(&mut stderr, &mut error)?;
        }
        bail!("did not start: {}", error.trim());
    }
    Ok(())
}

fn explain(verb: &Verb, stderr: &[u8]) -> String {
    let error = String::from_utf8_lossy(stderr);
    match verb {
        Verb::Run(line) => format!("`{line}`: {}", error.trim()),
        _ => error.trim().trim_start_matches("scenarios: ").to_owned(),
    }
}
