//! What the daemon may do: as little as its work needs.
//!
//! * [`keep_needed`], before the first thread is started: no privilege that tracing has
//!   no use for, and none gained by running a program.
//! * [`keep_after_attaching`], in the thread that has attached the programs.
//! * [`confine`], in a thread that only talks to a receiver and writes a directory: no
//!   capability at all, and by Landlock no file but those it needs.
//!
//! The other threads cannot be confined by Landlock: who is, may not look into
//! processes that are not, not even at `/proc/PID/fd` and `/proc/PID/ns/net`, and so can
//! name neither a process nor a rule of another network namespace. What files they
//! reach, the service manager limits (`packaging/droptrace.service`).

use std::{io, path::Path};

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd,
    PathFdError, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
    Scope,
};

use crate::tracer;

/// What some part of the daemon needs, and for what.
pub const NEEDED: [(Capability, &str); 8] = [
    (Capability::CAP_BPF, "kernel programs and their maps"),
    (
        Capability::CAP_PERFMON,
        "kernel programs that read the kernel's memory",
    ),
    (
        Capability::CAP_SYSLOG,
        "names of functions, also of modules that come later",
    ),
    (
        Capability::CAP_SYS_PTRACE,
        "which process holds a socket, and which network namespaces there are",
    ),
    (
        Capability::CAP_DAC_READ_SEARCH,
        "the same, about processes of other users",
    ),
    (
        Capability::CAP_SYS_ADMIN,
        "rules: trials in a network namespace, and rule sets of other namespaces",
    ),
    (
        Capability::CAP_NET_ADMIN,
        "rules: listing rule sets with nft and iptables-nft-save",
    ),
    (
        Capability::CAP_NET_RAW,
        "rules: the socket by which iptables-legacy-save reads tables",
    ),
];

/// What only rules need.
const FOR_RULES: [Capability; 3] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
];

/// Files that looking up a name and trusting a certificate may read.
const TO_RESOLVE: [&str; 7] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/run/systemd/resolve",
    "/run/nscd",
    "/var/lib/ca-certificates",
];

/// A privilege that could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Of the capabilities.
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] CapsError),
    /// That of programs with a set-user-ID bit.
    #[error("cannot do without the privileges of programs that are started: {0}")]
    NewPrivileges(io::Error),
    /// Files.
    #[error("cannot confine a thread to its files: {0}")]
    Files(#[from] RulesetError),
    /// A directory that it needs.
    #[error("cannot confine a thread to its files: {0}")]
    Directory(#[from] PathFdError),
}

/// Gives up, for this thread and all that it starts, what the daemon needs for nothing;
/// with `rules` off, also what only rules need. Capabilities that it does not have are
/// not missed here.
///
/// # Errors
///
/// If the kernel does not take one away.
pub fn keep_needed(rules: bool) -> Result<(), PrivilegeError> {
    // SAFETY: no pointers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(PrivilegeError::NewPrivileges(io::Error::last_os_error()));
    }
    // Takes CAP_SYS_RESOURCE, which is about to go.
    tracer::raise_memory_limit();
    let needed = NEEDED.iter().map(|(capability, _)| *capability);
    let keep: CapsHashSet = needed
        .filter(|capability| rules || !FOR_RULES.contains(capability))
        .collect();
    // Programs that root starts, such as nft, get no more than this.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&keep) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    only(&keep)
}

/// Gives up, for this thread and all that it starts from now on, what was needed to
/// attach the programs and is not any more. While rules are told, programs still come
/// and go, and all of it is needed.
///
/// # Errors
///
/// If the kernel does not take one away.
pub fn keep_after_attaching(rules: bool) -> Result<(), PrivilegeError> {
    if rules {
        return Ok(());
    }
    let needed = NEEDED.iter().map(|(capability, _)| *capability);
    // Older kernels want CAP_BPF also of who only reads a map.
    let keep = needed
        .filter(|capability| !FOR_RULES.contains(capability))
        .filter(|capability| *capability != Capability::CAP_PERFMON)
        .collect();
    only(&keep)
}

/// Leaves this thread, and all that it starts, without a capability, and with no files
/// but those below `directory` and those that it takes to reach a receiver, of which
/// `ca` may be one. True if the kernel keeps it to these files.
///
/// # Errors
///
/// If the kernel does not take away a capability, or `directory` or `ca` is not there.
pub fn confine(directory: &Path, ca: Option<&Path>) -> Result<bool, PrivilegeError> {
    let abi = ABI::V6;
    let read = AccessFs::from_read(abi);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        // A receiver is connected to; nobody connects to this thread.
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rule(PathBeneath::new(
            PathFd::new(directory)?,
            AccessFs::from_all(abi) & !AccessFs::Execute,
        ))?;
    if let Some(ca) = ca {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(ca)?, AccessFs::ReadFile))?;
    }
    // What is not there is not needed.
    for place in TO_RESOLVE
        .iter()
        .filter_map(|place| PathFd::new(place).ok())
    {
        rules = rules.add_rule(PathBeneath::new(place, read))?;
    }
    let status = rules.restrict_self()?;
    only(&CapsHashSet::new())?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Leaves this thread with these capabilities, as far as it has them.
fn only(keep: &CapsHashSet) -> Result<(), PrivilegeError> {
    // The effective ones first: they must be among the permitted ones. Ambient ones go
    // with the others.
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let has = caps::read(None, set)?;
        caps::set(None, set, &has.intersection(keep).copied().collect())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, net::TcpListener, process, thread};

    use super::*;

    fn has(set: CapSet) -> CapsHashSet {
        caps::read(None, set).unwrap()
    }

    /// On a thread of its own, since there is no way back.
    fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    #[test]
    fn nothing_is_kept_that_is_not_needed() {
        alone(|| {
            let before = has(CapSet::Permitted);
            keep_needed(true).unwrap();
            let needed = NEEDED.iter().map(|(capability, _)| *capability).collect();
            let expected: CapsHashSet = before.intersection(&needed).copied().collect();
            assert_eq!(has(CapSet::Permitted), expected);
            assert_eq!(has(CapSet::Effective), expected);
            // A program that root starts gets what the bounding set has.
            if before.contains(&Capability::CAP_SETPCAP) {
                assert!(has(CapSet::Bounding).is_subset(&needed));
            }
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        });
    }

    #[test]
    fn without_rules_less_is_kept_and_after_attaching_still_less() {
        alone(|| {
            keep_needed(false).unwrap();
            let kept = has(CapSet::Permitted);
            assert!(
                FOR_RULES
                    .iter()
                    .all(|capability| !kept.contains(capability))
            );
            keep_after_attaching(false).unwrap();
            assert!(!has(CapSet::Permitted).contains(&Capability::CAP_PERFMON));
        });
    }

    #[test]
    fn a_confined_thread_reaches_its_directory_and_nothing_else() {
        let temporary = env::temp_dir();
        let own = temporary.join(format!("droptrace-{}-confined", process::id()));
        let other = temporary.join(format!("droptrace-{}-other", process::id()));
        fs::create_dir_all(&own).unwrap();
        fs::write(&other, "secret").unwrap();
        alone(|| {
            let is_enforced = confine(&own, None).unwrap();
            assert_eq!(has(CapSet::Permitted), CapsHashSet::new());
            assert_eq!(has(CapSet::Effective), CapsHashSet::new());
            fs::write(own.join("segment"), "record").unwrap();
            fs::rename(own.join("segment"), own.join("other")).unwrap();
            fs::remove_file(own.join("other")).unwrap();
            fs::read_to_string("/etc/hosts").unwrap();
            if !is_enforced {
                return;
            }
            let denied = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            };
            denied(fs::read(&other).map(|_| ()));
            denied(fs::write(&other, "mine"));
            denied(
                fs::File::options()
                    .append(true)
                    .open("/etc/hosts")
                    .map(|_| ()),
            );
            denied(fs::read("/proc/self/status").map(|_| ()));
            denied(fs::read_link("/proc/1/ns/net").map(|_| ()));
            denied(TcpListener::bind("127.0.0.1:0").map(|_| ()));
        });
        // The other threads are as they were.
        assert_eq!(fs::read_to_string(&other).unwrap(), "secret");
        fs::remove_file(other).unwrap();
        fs::remove_dir_all(own).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        alone(|| {
            let error = confine(Path::new("/nonexistent/state"), None).unwrap_err();
            assert!(error.to_string().contains("/nonexistent/state"), "{error}");
        });
    }
}
