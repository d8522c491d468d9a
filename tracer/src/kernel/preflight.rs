//! Whether this user may trace this kernel: asked before anything is loaded,
//! so that the answer is a cause and a remedy and not an error number.

use std::{fs, io, path::Path};

use super::btf::{Btf, VMLINUX};

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// `uid_map` of the machine's own user namespace: every user is itself.
const ALL_USERS: [&str; 3] = ["0", "0", "4294967295"];

/// What stands in the way.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The kernel offers no BTF.
    #[error(
        "this kernel offers no type information ({VMLINUX} is missing), without which its \
         packets cannot be read; boot a kernel built with CONFIG_DEBUG_INFO_BTF=y \
         (the stock kernels of all current distributions are)"
    )]
    NoBtf,
    /// The user's capabilities are not the machine's.
    #[error(
        "this process has its capabilities in a user namespace only, and the kernel takes \
         programs from the machine's own root; run it outside of the container or namespace"
    )]
    UserNamespace,
    /// The user lacks capabilities.
    #[error(
        "loading kernel programs needs the capabilities {0}, which this process lacks; \
         run it as root, for example with sudo"
    )]
    Capabilities(String),
    /// The kernel is older than the ring buffer.
    #[error(
        "this kernel has no ring buffer between programs and user space (it came with Linux \
         5.8), without which no packet can be seen closely; boot a newer kernel"
    )]
    NoRingBuffer,
    /// The kernel is locked down.
    #[error(
        "the kernel is locked down (confidentiality) and lets no program read its memory; \
         boot with lockdown=integrity or without lockdown"
    )]
    Lockdown,
}

/// Whether the kernel is too old, as its types tell.
///
/// # Errors
///
/// What it lacks.
pub fn check_types(btf: &Btf) -> Result<(), Obstacle> {
    let kinds_of_maps = btf.enumerators("bpf_map_type").unwrap_or_default();
    let is_there = kinds_of_maps
        .iter()
        .any(|(name, _)| *name == "BPF_MAP_TYPE_RINGBUF");
    is_there.then_some(()).ok_or(Obstacle::NoRingBuffer)
}

/// What the checks look at; a value of its own so that they can be tested.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The kernel's BTF is there.
    pub has_btf: bool,
    /// Effective capabilities, a bit each.
    pub capabilities: u64,
    /// Contents of `/proc/self/uid_map`.
    pub uid_map: String,
    /// Contents of `/sys/kernel/security/lockdown`; empty where there is none.
    pub lockdown: String,
}

impl Surroundings {
    /// As they are.
    ///
    /// # Errors
    ///
    /// If `/proc/self/status` cannot be read.
    pub fn look() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let capabilities = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        Ok(Self {
            has_btf: Path::new(VMLINUX).exists(),
            capabilities,
            uid_map: fs::read_to_string("/proc/self/uid_map").unwrap_or_default(),
            lockdown: fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default(),
        })
    }

    fn has(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// The first thing that stands in the way, if any.
    ///
    /// # Errors
    ///
    /// That thing.
    pub fn check(&self) -> Result<(), Obstacle> {
        self.obstacles().into_iter().next().map_or(Ok(()), Err)
    }

    /// Everything that stands in the way.
    #[must_use]
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        let missing: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
            .into_iter()
            .filter(|(capability, _)| !self.has(*capability) && !self.has(CAP_SYS_ADMIN))
            .map(|(_, name)| name)
            .collect();
        if !missing.is_empty() {
            obstacles.push(Obstacle::Capabilities(missing.join(" and ")));
        }
        if !self.uid_map.split_whitespace().eq(ALL_USERS) {
            obstacles.push(Obstacle::UserNamespace);
        }
        if !self.has_btf {
            obstacles.push(Obstacle::NoBtf);
        }
        if self.lockdown.contains("[confidentiality]") {
            obstacles.push(Obstacle::Lockdown);
        }
        obstacles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able() -> Surroundings {
        Surroundings {
            has_btf: true,
            capabilities: 1 << CAP_BPF | 1 << CAP_PERFMON,
            uid_map: "         0          0 4294967295\n".to_owned(),
            lockdown: "none [integrity] confidentiality".to_owned(),
        }
    }

    #[test]
    fn two_capabilities_or_the_old_one_are_enough() {
        assert_eq!(able().check(), Ok(()));
        assert_eq!(
            Surroundings {
                capabilities: 1 << CAP_SYS_ADMIN,
                ..able()
            }
            .check(),
            Ok(())
        );
    }

    #[test]
    fn a_kernel_without_the_ring_buffer_is_too_old() {
        // A header, no types, one empty string.
        let mut empty = u16::to_ne_bytes(0xeb9f).to_vec();
        empty.extend([1, 0]);
        for word in [24_u32, 0, 0, 0, 1] {
            empty.extend(word.to_ne_bytes());
        }
        empty.push(0);
        let btf = Btf::parse(empty).unwrap();
        assert_eq!(check_types(&btf), Err(Obstacle::NoRingBuffer));
    }

    #[test]
    fn each_obstacle_is_named() {
        let none = Surroundings {
            capabilities: 0,
            ..able()
        };
        let both = Obstacle::Capabilities("CAP_BPF and CAP_PERFMON".to_owned());
        assert_eq!(none.check(), Err(both));
        let one = Surroundings {
            capabilities: 1 << CAP_BPF,
            ..able()
        };
        assert_eq!(
            one.check(),
            Err(Obstacle::Capabilities("CAP_PERFMON".to_owned()))
        );
        assert_eq!(
            Surroundings {
                has_btf: false,
                ..able()
            }
            .check(),
            Err(Obstacle::NoBtf)
        );
        let uid_map = "0 1000 1\n".to_owned();
        assert_eq!(
            Surroundings { uid_map, ..able() }.check(),
            Err(Obstacle::UserNamespace)
        );
        let lockdown = "none integrity [confidentiality]".to_owned();
        assert_eq!(
            Surroundings { lockdown, ..able() }.check(),
            Err(Obstacle::Lockdown)
        );
    }
}
