//! The file, the environment and the flags, each over the one before.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{Config, FILE};

/// How variables of the environment begin.
const PREFIX: &str = "DROPTRACE_";
/// Names the file, and is none of its keys.
pub const VARIABLE: &str = "DROPTRACE_CONFIG";
/// More than any configuration has.
const MAX_SIZE: u64 = 1 << 20;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// A key or a value is wrong.
    #[error("{place}: {problem}")]
    Wrong {
        /// File and line, variable, or flag.
        place: String,
        /// What is wrong there, and what to write instead.
        problem: String,
    },
}

/// The file that is read: `path`, or what the environment names, or the usual one where
/// it is there.
#[must_use]
pub fn place(path: Option<&Path>) -> Option<PathBuf> {
    let usual = || Path::new(FILE).exists().then(|| PathBuf::from(FILE));
    path.map(Path::to_owned)
        .or_else(|| env::var_os(VARIABLE).map(PathBuf::from))
        .or_else(usual)
}

/// Reads the configuration: `path`, or what the environment names, or the usual file
/// where it is there; then the environment's variables, then `sets` (`section.key=value`).
///
/// # Errors
///
/// At the first key or value that is wrong, with its place.
pub fn read(path: Option<&Path>, sets: &[String]) -> Result<Config, ConfigError> {
    let variables = env::vars_os().filter_map(|(name, value)| {
        let text = |text: std::ffi::OsString| text.into_string().ok();
        Some((text(name)?, text(value)?))
    });
    let mut variables: Vec<(String, String)> = variables.collect();
    variables.sort();
    let mut merged = match place(path) {
        Some(path) => file(&path)?,
        None => Table::new(),
    };
    for (name, value) in &variables {
        let Some(key) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if name == VARIABLE {
            continue;
        }
        let key = key.to_ascii_lowercase().replacen('_', ".", 1);
        merge(&mut merged, one(&key, value, name)?);
    }
    for set in sets {
        let place = format!("--set {set}");
        let (key, value) = set.split_once('=').ok_or_else(|| ConfigError::Wrong {
            place: place.clone(),
            problem: "write section.key=value, such as trace.interval=2s".to_owned(),
        })?;
        merge(&mut merged, one(key.trim(), value.trim(), &place)?);
    }
    whole(merged, "the configuration as a whole")
}

/// The file's table. That all of it is right, is seen here, while lines are known.
fn file(path: &Path) -> Result<Table, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable {
        path: path.display().to_string(),
        error,
    };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_SIZE {
        return Err(unreadable(io::Error::other("it is larger than 1 MiB")));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, name: &str) -> Result<Table, ConfigError> {
    let wrong = |error: toml::de::Error| {
        let line = error.span().map(|span| {
            let before = text.get(..span.start).unwrap_or_default();
            before.matches('\n').count() + 1
        });
        let place = match line {
            Some(line) => format!("{name}, line {line}"),
            None => name.to_owned(),
        };
        ConfigError::Wrong {
            place,
            problem: problem(error.message()),
        }
    };
    let _: Config = toml::from_str(text).map_err(wrong)?;
    toml::from_str(text).map_err(wrong)
}

/// The table with one value. What is no value of TOML is a text.
fn one(key: &str, value: &str, place: &str) -> Result<Table, ConfigError> {
    let literal: Option<Value> = toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"));
    let mut value = match literal {
        // Sizes and times are texts, numbers of ports too.
        Some(value) => value,
        None => Value::String(value.to_owned()),
    };
    for part in key.rsplit('.') {
        value = Value::Table(Table::from_iter([(part.to_owned(), value)]));
    }
    let Value::Table(table) = value else {
        return Ok(Table::new());
    };
    Ok(table).and_then(|table: Table| {
        // Of a section that cannot do with one key, the rest may come from elsewhere.
        match Config::deserialize(Value::Table(table.clone())) {
            Err(error) if !error.message().starts_with("missing field") => {
                Err(ConfigError::Wrong {
                    place: place.to_owned(),
                    problem: problem(error.message()),
                })
            }
            _ => Ok(table),
        }
    })
}

fn whole(table: Table, name: &str) -> Result<Config, ConfigError> {
    Config::deserialize(Value::Table(table)).map_err(|error| ConfigError::Wrong {
        place: name.to_owned(),
        problem: problem(error.message()),
    })
}

/// `over` goes before what is there.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// In words of the file; with what was perhaps meant.
fn problem(message: &str) -> String {
    let mut parts = message.split('`');
    if message.starts_with("unknown field")
        && let Some(given) = parts.nth(1)
    {
        let known: Vec<&str> = parts.skip(1).step_by(2).collect();
        let nearest = known
            .iter()
            .map(|name| (strsim::osa_distance(name, given), *name))
            .filter(|(distance, _)| *distance <= 2)
            .min();
        return match nearest {
            Some((_, name)) => format!("there is no key `{given}`; did you mean `{name}`?"),
            None => format!("there is no key `{given}`; there are {}", known.join(", ")),
        };
    }
    message.trim_end().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text, "t.toml").unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(
            refusal("[trace]\ndst = [\"10.0.0.5\"]\nintervall = \"1s\"\n"),
            "t.toml, line 3: there is no key `intervall`; did you mean `interval`?"
        );
        assert_eq!(
            refusal("[limits]\nmax_cpu = \"200%\"\n"),
            "t.toml, line 2: `200%` is no share of a CPU; write 0.1% to 100%, such as \"5%\""
        );
        assert!(refusal("[state]\nspool = \"64MB\"\n").starts_with("t.toml, line 2: `64MB`"));
        assert!(refusal("[otlp]\nprotocol = \"grpc\"\n").contains("missing field `endpoint`"));
        assert!(refusal("[nothing]\n").contains("there is no key `nothing`"));
        assert!(refusal("[trace\n").starts_with("t.toml, line 1: "));
    }

    #[test]
    fn a_secret_is_in_no_message() {
        let text = "[otlp]\nendpoint = \"http://a:1\"\nheaders = { authorization = [\"s3cret\"] }";
        assert!(!refusal(text).contains("s3cret"));
        let text = "[otlp]\nendpoint = \"http://a:1\"\nheaders = { authorization = \"s3cret\" }";
        let config = whole(parse(text, "t.toml").unwrap(), "t").unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        assert_eq!(
            config.otlp.unwrap().headers["authorization"].reveal(),
            "s3cret"
        );
    }

    #[test]
    fn one_value_goes_over_another() {
        let mut table = parse("[trace]\ninterval = \"1s\"\nport = [\"53\"]\n", "t").unwrap();
        merge(&mut table, one("trace.interval", "2s", "t").unwrap());
        merge(&mut table, one("trace.port", "[\"80\"]", "t").unwrap());
        merge(&mut table, one("otlp.endpoint", "http://a:1", "t").unwrap());
        merge(&mut table, one("otlp.logs", "false", "t").unwrap());
        let config = whole(table, "t").unwrap();
        assert_eq!(config.trace.interval.0.as_secs(), 2);
        assert_eq!(config.trace.port, ["80"]);
        assert!(!config.otlp.unwrap().logs);
        assert!(
            one("trace.intervall", "2s", "V")
                .unwrap_err()
                .to_string()
                .starts_with("V: ")
        );
        assert!(one("limits.max_cpu", "0%", "V").is_err());
    }

    /// The example of the package.
    const EXAMPLE: &str = include_str!("../../../../packaging/droptrace.toml");

    /// With everything in force that stands there behind a `#`.
    fn example_in_force() -> String {
        let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
                setting
            }
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_example_says_the_defaults() {
        let as_it_is = whole(parse(EXAMPLE, "example").unwrap(), "example").unwrap();
        assert_eq!(as_it_is, Config::default());

        let in_force = parse(&example_in_force(), "example").unwrap();
        let mut expected = Table::new();
        for set in [
            "file.path=/var/log/droptrace/events.ndjson",
            "otlp.endpoint=http://127.0.0.1:4317",
            "otlp.ca=/etc/ssl/certs/ca-certificates.crt",
        ] {
            let (key, value) = set.split_once('=').unwrap();
            merge(&mut expected, one(key, value, set).unwrap());
        }
        let expected = whole(expected, "expected").unwrap();
        assert_eq!(whole(in_force.clone(), "example").unwrap(), expected);

        // And it names every key that there is, and no other.
        let all = Table::try_from(&expected).unwrap();
        let keys = |table: &Table| -> Vec<(String, Vec<String>)> {
            let keys_of = |value: &Value| value.as_table().unwrap().keys().cloned().collect();
            let sections = table.iter();
            sections
                .map(|(name, value)| (name.clone(), keys_of(value)))
                .collect()
        };
        assert_eq!(keys(&in_force), keys(&all));
    }

    #[test]
    fn what_is_shown_reads_as_the_same_but_for_secrets() {
        let text = "[trace]\ninterval = \"1500ms\"\nrules = \"off\"\n[limits]\nmax_cpu = \"2.5%\"\n\
                    max_memory = \"1000KiB\"\n[socket]\nmode = \"0600\"\n[metrics]\n\
                    listen = \"off\"\n[file]\npath = \"/f\"\nmax_size = \"7B\"\n";
        let config = whole(parse(text, "t").unwrap(), "t").unwrap();
        let shown = toml::to_string(&config).unwrap();
        assert_eq!(
            whole(parse(&shown, "shown").unwrap(), "shown").unwrap(),
            config
        );

        let text = "[otlp]\nendpoint = \"http://a:1\"\nheaders = { authorization = \"s3cret\" }";
        let config = whole(parse(text, "t").unwrap(), "t").unwrap();
        let shown = toml::to_string(&config).unwrap();
        assert!(
            !shown.contains("s3cret") && shown.contains("authorization"),
            "{shown}"
        );
    }

    #[test]
    fn what_the_command_line_would_refuse_is_refused() {
        for setting in ["interval = \"1ms\"", "interval = \"2h\"", "max_flows = 0"] {
            let said = refusal(&format!("[trace]\n{setting}\n"));
            assert!(said.starts_with("t.toml, line 2: "), "{said}");
        }
    }

    #[test]
    fn without_anything_there_are_defaults() {
        assert_eq!(whole(Table::new(), "t").unwrap(), Config::default());
    }
}
