//! A scenario's droptrace as a daemon: the same filter by its configuration, the records
//! from its file.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

/// A directory of its own, gone with it.
pub struct Place(PathBuf);

impl Place {
    /// Makes the directory, among those of temporary files.
    pub fn new() -> anyhow::Result<Self> {
        let name = format!("droptrace-daemon-{}", std::process::id());
        Self::at(std::env::temp_dir().join(name))
    }

    /// Makes the directory.
    pub fn at(path: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// The daemon's command line that traces what `args` trace; `None` where a daemon
    /// cannot.
    pub fn arguments(&self, args: &[String]) -> Option<Vec<String>> {
        let mut sets = vec![
            // As the command line does if nothing else is said.
            "trace.verdicts=auto".to_owned(),
            "trace.interval=500ms".to_owned(),
            "trace.max_flows=16384".to_owned(),
            "socket.keep=64MiB".to_owned(),
            "metrics.listen=off".to_owned(),
        ];
        sets.extend(self.settings());
        let mut lists: Vec<(&str, Vec<&String>)> = Vec::new();
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            let key = flag.strip_prefix("--")?;
            match key {
                "dst" | "src" | "host" | "port" | "proto" | "iface" | "netns" | "reason"
                | "cgroup" => {
                    let value = args.next()?;
                    match lists.iter_mut().find(|(name, _)| *name == key) {
                        Some((_, values)) => values.push(value),
                        None => lists.push((key, vec![value])),
                    }
                }
                "rules" | "interval" | "verdicts" => {
                    sets.push(format!("trace.{key}={}", args.next()?));
                }
                "max-flows" => sets.push(format!("trace.max_flows={}", args.next()?)),
                "all" => sets.push("trace.all=true".to_owned()),
                _ => return None,
            }
        }
        sets.extend(
            lists
                .iter()
                .map(|(name, values)| format!("trace.{name}={values:?}")),
        );
        Some(command_line(sets))
    }

    /// Everything the daemon writes, in here.
    pub fn settings(&self) -> [String; 4] {
        let dir = self.0.display();
        [
            format!("state.dir={dir}/state"),
            format!("state.run={dir}/run"),
            format!("socket.path={dir}/run/events.sock"),
            format!("file.path={}", self.file().display()),
        ]
    }

    /// Where the records are written.
    pub fn file(&self) -> PathBuf {
        self.0.join("events.ndjson")
    }

    /// The records that the daemon wrote.
    pub fn records(&self) -> anyhow::Result<String> {
        let path = self.file();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// The daemon's command line with these settings alone.
pub fn command_line(settings: impl IntoIterator<Item = String>) -> Vec<String> {
    let words = ["daemon", "--config", "/dev/null"].map(ToOwned::to_owned);
    let settings = settings.into_iter();
    let settings = settings.flat_map(|setting| ["--set".to_owned(), setting]);
    words.into_iter().chain(settings).collect()
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
