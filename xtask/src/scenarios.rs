//! How are the scenarios proven, on the running kernel or on others?

use std::{
    ffi::{OsStr, OsString},
    iter,
    path::{self, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Result;

use crate::{
    build, cmd,
    matrix::{self, Machine},
    tools,
    ui::Step,
    workspace::Workspace,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    selection: Selection,

    /// Kernels, separated by commas, instead of the running one: series such as
    /// 6.12, `newest`, `host` (the running one), `all`
    #[arg(long, value_name = "KERNELS", value_delimiter = ',')]
    kernel: Vec<Machine>,

    /// Seconds until a guest is stopped
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT.as_secs(), requires = "kernel")]
    timeout: u64,

    /// Results as JSON on standard output
    #[arg(long, conflicts_with = "kernel")]
    json: bool,

    /// Also what droptrace recorded in scenarios that passed
    #[arg(long, conflicts_with = "kernel")]
    records: bool,
}

/// Which scenarios.
#[derive(Debug, Default, clap::Args)]
pub struct Selection {
    /// Folder of scenarios, instead of tests/scenarios
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Only scenarios with NAME in their name; may be repeated
    #[arg(long, value_name = "NAME")]
    pub filter: Vec<String>,

    /// Compare the rules that droptrace names by several means
    #[arg(long)]
    compare_rules: bool,

    /// On other kernels than the running one, leave out what does not depend on it
    #[arg(skip)]
    one_kernel_once: bool,
}

/// Some three times what all of them take in a guest that is emulated in
/// software, beside another one.
pub const LIMIT: Duration = Duration::from_secs(60 * 60);

pub fn verb(ws: &Workspace, args: &Args) -> Result<ExitCode> {
    let step = Step::start("set up the tools of the scenarios");
    tools::ensure_or_warn();
    step.end();
    if !args.kernel.is_empty() {
        let ready = matrix::prepare(ws, &args.kernel)?;
        build::with_runner(ws)?;
        let limit = Duration::from_secs(args.timeout);
        let matrix = matrix::run(ws, ready, &args.selection, limit)?;
        println!("\n{matrix}\n{}", matrix.summary());
        return Ok(if matrix.passed() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    build::with_runner(ws)?;
    let mut runner = runner(ws);
    runner.args(args.selection.arguments(ws));
    if args.json {
        runner.arg("--json");
    }
    if args.records {
        runner.arg("--records");
    }
    Err(cmd::exec(&mut runner))
}

/// The runner, told which droptrace it is about.
pub fn runner(ws: &Workspace) -> Command {
    let mut runner = Command::new(ws.release("scenarios"));
    runner.arg("--droptrace").arg(ws.release("droptrace"));
    runner
}

impl Selection {
    /// All; those that do not depend on the kernel on the running one only.
    pub fn of_test() -> Self {
        Self {
            one_kernel_once: true,
            ..Self::default()
        }
    }

    pub fn folder(&self, ws: &Workspace) -> PathBuf {
        // As the runner reads it, wherever it is started.
        let dir = self.dir.clone().unwrap_or_else(|| ws.scenarios());
        path::absolute(&dir).unwrap_or(dir)
    }

    fn arguments(&self, ws: &Workspace) -> Vec<OsString> {
        let mut arguments = vec!["run".into(), "--dir".into(), self.folder(ws).into()];
        for name in &self.filter {
            arguments.extend(["--filter".into(), name.into()]);
        }
        if self.compare_rules {
            arguments.push("--compare-rules".into());
        }
        arguments
    }

    /// The whole command line of a runner that says its results as JSON, and takes
    /// it as a failure if this kernel lacks more than it may.
    pub fn command_line(
        &self,
        ws: &Workspace,
        is_guest: bool,
        may_deny: Option<&str>,
    ) -> Vec<String> {
        let runner = runner(ws);
        let own = iter::once(runner.get_program()).chain(runner.get_args());
        let arguments = self.arguments(ws);
        own.chain(arguments.iter().map(OsString::as_os_str))
            .chain(iter::once(OsStr::new("--json")))
            .map(|word| word.to_string_lossy().into_owned())
            .chain((self.one_kernel_once && is_guest).then(|| "--other-kernel".to_owned()))
            .chain(may_deny.map(|list| format!("--may-deny={list}")))
            .collect()
    }
}
