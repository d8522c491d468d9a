//! What a process has in the kernel, and whether it is gone with it.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::bail;

/// The kernel frees some of it after the process has ended, when no CPU can be running it
/// any more; on a busy machine that takes a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kinds of objects: as `/proc/PID/fdinfo` calls their identifiers, and the command of
/// `bpf()` that gives the next identifier behind one.
const KINDS: [(&str, libc::c_long); 4] = [
    ("prog_id:", 11),
    ("map_id:", 12),
    ("btf_id:", 23),
    ("link_id:", 31),
];

/// Objects of BPF, by kind and identifier. Identifiers are not given again soon.
pub type Objects = BTreeSet<(usize, u32)>;

/// What the process holds now; nothing if it has ended.
pub fn objects_of(process: u32) -> Objects {
    let mut objects = Objects::new();
    let files = fs::read_dir(format!("/proc/{process}/fdinfo"));
    for file in files.into_iter().flatten().flatten() {
        // It may be closed by now.
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        for (kind, (name, _)) in KINDS.iter().enumerate() {
            let number = text.lines().find_map(|line| line.strip_prefix(name));
            let number = number.and_then(|number| number.trim().parse().ok());
            objects.extend(number.map(|number| (kind, number)));
        }
    }
    objects
}

/// Fails if one of them stays; says how long it took.
pub fn are_gone(objects: &Objects) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let deadline = begun + PATIENCE;
    for (kind, number) in objects {
        while is_there(KINDS[*kind].1, *number) {
            if Instant::now() > deadline {
                bail!("{}{number} is still in the kernel", KINDS[*kind].0);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(begun.elapsed())
}

/// Asks without opening it: the kernel leaks an array of programs that is opened and
/// closed again while it is being cleared (`prog_array_map_clear` takes a reference for
/// work that is queued already).
fn is_there(next: libc::c_long, number: u32) -> bool {
    let mut attribute = [0_u32; 32];
    attribute[0] = number.saturating_sub(1);
    // SAFETY: the attribute is as large as said, and valid to write.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            next,
            attribute.as_mut_ptr(),
            size_of_val(&attribute),
        )
    };
    if result == 0 {
        return attribute[1] == number;
    }
    // None behind it; anything else is no answer.
    std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOENT)
}
