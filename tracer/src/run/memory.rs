//! Memory that only setting up needed goes back to the kernel.

use std::fs;

/// Buffers from this size on are mapped, and unmapped when they are freed.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 << 10;

/// To be called before any thread starts: what is freed can be given back, however long the
/// daemon runs. Each thread would else have an arena of its own, and large buffers, once
/// freed, would make the next ones part of the heap.
pub fn stay_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets limits of the allocator, which takes them at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// What is free: readings of the kernel's type information, which are larger than all that
/// comes later.
pub fn return_free() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Pages of the program itself, most of which only ran while it started. What is needed
/// again comes from the file, which the kernel mostly still has.
pub fn return_code() {
    match fs::read_to_string("/proc/self/smaps") {
        Ok(maps) => {
            for (start, length) in unchanged(&maps) {
                // SAFETY: a private mapping of a file that nobody can write to and in which
                // no page has been changed: each of them is the file's again when it is
                // read. That it is mapped there, the kernel has just said, and nothing
                // unmaps the program or its libraries.
                unsafe {
                    libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
                }
            }
        }
        Err(error) => log::debug!("cannot read /proc/self/smaps: {error}"),
    }
}

/// Start and length of mappings of files that cannot be written to and have no page of
/// their own: others than those that relocation has changed.
fn unchanged(maps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [range, "r-xp" | "r--p", _, _, _, path, ..] if path.starts_with('/') => {
                candidate = range.split_once('-').and_then(|(start, end)| {
                    let start = usize::from_str_radix(start, 16).ok()?;
                    Some((start, usize::from_str_radix(end, 16).ok()? - start))
                });
            }
            [range, ..] if range.contains('-') => candidate = None,
            ["Anonymous:", "0", "kB"] => found.extend(candidate.take()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
561e613a1000-561e61813000 r--p 00000000 fe:00 5622252                    /usr/bin/droptrace
Rss:                2352 kB
Anonymous:             0 kB
561e61813000-561e61ecc000 r-xp 00471000 fe:00 5622252                    /usr/bin/droptrace
Rss:                5476 kB
Anonymous:             0 kB
561e61ecc000-561e61f10000 r--p 00b29000 fe:00 5622252                    /usr/bin/droptrace
Rss:                 272 kB
Anonymous:           272 kB
561e61f10000-561e61f20000 rw-p 00b6d000 fe:00 5622252                    /usr/bin/droptrace
Anonymous:             0 kB
561ea153f000-561ea486a000 rw-p 00000000 00:00 0                          [heap]
Anonymous:             0 kB
7fef36518000-7fef36719000 r--s 00001000 00:10 1038                       anon_inode:bpf-map
Anonymous:             0 kB
7ffdcdc52000-7ffdcdc73000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
7fef36b00000-7fef36b01000 r--p 00000000 00:00 0
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_the_files_own_goes() {
        assert_eq!(
            unchanged(MAPS),
            [(0x561e_613a_1000, 0x47_2000), (0x561e_6181_3000, 0x6b_9000)]
        );
    }

    #[test]
    fn what_is_needed_again_comes_back() {
        let resident = || {
            let text = fs::read_to_string("/proc/self/status").unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("RssFile:"));
            let size = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            size.unwrap()
        };
        let before = resident();
        return_code();
        let after = resident();
        assert!(after < before, "{before} KiB, then {after}");
        assert_eq!("as before".repeat(2), "as beforeas before");
    }
}
