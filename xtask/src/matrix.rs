//! How do the scenarios fare on several kernels?

mod column;
mod results;

use std::{
    collections::VecDeque, fmt, fs, path::Path, str::FromStr, sync::Mutex, thread, time::Duration,
};

use anyhow::{Context as _, Error, Result, bail};

pub use self::results::Matrix;
use self::{
    column::{Lines, column, in_guest, on_host},
    results::Column,
};
use crate::{
    cmd,
    scenarios::Selection,
    vm::{
        self,
        kernel::{Kernel, Wanted},
    },
    workspace::Workspace,
};

/// What CI proves the scenarios on.
pub const DEFAULT: [&str; 4] = ["host", "5.10", "6.1", "6.12"];

/// What `all` means.
const ALL: [&str; 6] = ["host", "5.10", "6.1", "6.12", "6.18", "newest"];

/// What `droptrace doctor` may deny on the stock kernels: what docs/kernels.md says
/// they lack. Of others, the running one among them, that is not known.
const MAY_DENY: [(&str, &str); 5] = [
    ("5.10", "tcp_own_drops,reset_reasons"),
    ("6.1", "reset_reasons,netfilter_hook"),
    ("6.12", "none"),
    ("6.18", "ebtables_rule"),
    ("newest", "ebtables_rule"),
];

/// A kernel to prove the scenarios on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machine {
    /// This machine's own.
    Host,
    /// In a guest.
    Guest(Wanted),
    /// Each of [`ALL`].
    All,
}

impl FromStr for Machine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "host" => Ok(Self::Host),
            "all" => Ok(Self::All),
            _ => text
                .parse()
                .map(Self::Guest)
                .map_err(|error: String| format!("{error}, `host` (this machine's own) or `all`")),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Guest(wanted) => wanted.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

/// A kernel as it was asked for, and what is there of it.
#[derive(Debug)]
pub struct Ready {
    name: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Host,
    Guest(Kernel),
    /// There is no such kernel here, for this reason.
    Nowhere(Error),
}

/// Sets up all kernels. One that is not to be had does not keep the scenarios
/// from the others; it is an error if no guest can be started at all.
pub fn prepare(ws: &Workspace, machines: &[Machine]) -> Result<Vec<Ready>> {
    if !cmd::is_root() {
        bail!(
            "scenarios make network namespaces and trace the kernel; \
             run them as root, those in guests too"
        );
    }
    let machines = each(machines);
    let guests = machines.iter().filter(|one| **one != Machine::Host);
    let source = match guests.count() {
        0 => None,
        _ => Some(vm::ready(ws).context(NO_GUESTS)?),
    };
    let ready: Vec<_> = machines
        .iter()
        .map(|machine| Ready {
            name: machine.to_string(),
            place: match (machine, &source) {
                (Machine::Guest(wanted), Some(source)) => {
                    vm::fetch(ws, source, wanted).map_or_else(Place::Nowhere, Place::Guest)
                }
                _ => Place::Host,
            },
        })
        .collect();
    any_guest(ready)
}

const NO_GUESTS: &str = "could not set up guests to prove the scenarios on other kernels \
     (`--kernel host` proves them on the running kernel alone)";

/// Fails if guests were asked for and none can be started.
fn any_guest(ready: Vec<Ready>) -> Result<Vec<Ready>> {
    let is_guest = |one: &Ready| matches!(one.place, Place::Guest(_));
    let mut reasons: Vec<_> = ready
        .iter()
        .filter_map(|one| match &one.place {
            Place::Nowhere(error) => Some(format!("{error:#}")),
            _ => None,
        })
        .collect();
    reasons.dedup();
    if !reasons.is_empty() && !ready.iter().any(is_guest) {
        bail!("{NO_GUESTS}: {}", reasons.join("; "));
    }
    // Said now, not only behind the last scenario on the others.
    for reason in reasons {
        eprintln!("warning: {reason}; the others are run all the same");
    }
    Ok(ready)
}

/// Runs the scenarios on each kernel and prints a line for each as it comes.
pub fn run(
    ws: &Workspace,
    ready: Vec<Ready>,
    selection: &Selection,
    limit: Duration,
) -> Result<Matrix> {
    let expected = names(&selection.folder(ws), &selection.filter)?;
    if expected.is_empty() {
        bail!(
            "no scenario in {} has such a name",
            selection.folder(ws).display()
        );
    }
    let columns = Mutex::new(Vec::new());
    let finish = |place: usize, mut column: Column| {
        column.complete(&expected);
        if let Ok(mut columns) = columns.lock() {
            columns.push((place, column));
        }
    };
    // The host alone, so that nothing disturbs it; then guests side by side:
    // each keeps about one processor busy.
    let mut guests = VecDeque::new();
    for (number, Ready { name, place }) in ready.into_iter().enumerate() {
        match place {
            Place::Host => {
                let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
                let run = |out: &mut Lines<'_>, _: &mut Lines<'_>| {
                    on_host(&selection.command_line(ws, false, None), out)
                };
                finish(number, column(&name, release.trim(), run));
            }
            Place::Guest(kernel) => guests.push_back((number, name, kernel)),
            Place::Nowhere(error) => finish(number, column(&name, "", |_, _| Err(error))),
        }
    }
    let guests = Mutex::new(guests);
    let next = || guests.lock().ok()?.pop_front();
    let work = || {
        while let Some((number, name, kernel)) = next() {
            let run = |out: &mut Lines<'_>, err: &mut Lines<'_>| {
                in_guest(
                    ws,
                    &selection.command_line(ws, true, may_deny(&name)),
                    &kernel,
                    limit,
                    out,
                    err,
                )
            };
            finish(number, column(&name, &kernel.release, run));
        }
    };
    let side_by_side = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..side_by_side {
            scope.spawn(work);
        }
    });
    let mut columns = columns.into_inner().unwrap_or_default();
    columns.sort_by_key(|(number, _)| *number);
    Ok(Matrix {
        columns: columns.into_iter().map(|(_, column)| column).collect(),
    })
}

/// What a kernel may lack, if that is known.
fn may_deny(kernel: &str) -> Option<&'static str> {
    let mut known = MAY_DENY.iter();
    known
        .find(|(name, _)| *name == kernel)
        .map(|(_, list)| *list)
}

/// Each once, `all` spelled out.
fn each(machines: &[Machine]) -> Vec<Machine> {
    let mut each: Vec<Machine> = Vec::new();
    for machine in machines {
        let named: Vec<Machine> = match machine {
            Machine::All => ALL.iter().filter_map(|name| name.parse().ok()).collect(),
            one => vec![one.clone()],
        };
        for one in named {
            if !each.contains(&one) {
                each.push(one);
            }
        }
    }
    each
}

/// Names of the scenarios, as the runner selects them.
fn names(folder: &Path, filter: &[String]) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("could not read the scenarios in {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|name| filter.is_empty() || filter.iter().any(|part| name.contains(part)))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machines(text: &str) -> Vec<Machine> {
        text.split(',').map(|one| one.parse().unwrap()).collect()
    }

    #[test]
    fn kernels_are_named_once_in_the_order_of_the_list() {
        assert_eq!(each(&machines("6.12,host,6.12")), machines("6.12,host"));
        assert_eq!(each(&machines("6.1,all"))[..2], machines("6.1,host"));
        assert_eq!(each(&machines("all")).len(), ALL.len());
        assert!("6".parse::<Machine>().is_err());
        assert_eq!(each(&machines(&DEFAULT.join(","))).len(), DEFAULT.len());
    }

    #[test]
    fn every_guest_of_the_matrix_has_a_list_of_what_it_may_lack() {
        for name in ALL.iter().filter(|name| **name != "host") {
            assert!(may_deny(name).is_some(), "{name}");
        }
        assert_eq!(may_deny("host"), None);
    }

    #[test]
    fn kernel_that_is_not_to_be_had_keeps_nobody_but_all_of_them_are_an_error() {
        let host = || Ready {
            name: "host".to_owned(),
            place: Place::Host,
        };
        let nowhere = |name: &str| Ready {
            name: name.to_owned(),
            place: Place::Nowhere(anyhow::anyhow!("no way there")),
        };
        let guest = Ready {
            name: "6.12".to_owned(),
            place: Place::Guest(Kernel::default()),
        };
        assert_eq!(any_guest(vec![host()]).unwrap().len(), 1);
        assert_eq!(any_guest(vec![nowhere("6.1"), guest]).unwrap().len(), 2);
        let error = any_guest(vec![host(), nowhere("6.1"), nowhere("6.12")]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("`--kernel host`"), "{error}");
        assert!(error.ends_with(": no way there"), "{error}");
    }

    #[test]
    fn scenarios_are_selected_as_the_runner_does() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios");
        let all = names(&folder, &[]).unwrap();
        let some = names(&folder, &["traffic_that_flows".to_owned()]).unwrap();
        assert_eq!(some, ["traffic_that_flows_is_not_told"]);
        assert!(all.len() > some.len());
    }
}
