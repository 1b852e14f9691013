//! What the process keeps in memory: how the C library's allocator spends it, and code that only a start runs.

use std::num::NonZero;
use std::thread::available_parallelism;

/// Gives the allocator an arena per processor and one for the main thread, in place of eight per processor. Memory that is free
/// in one arena is of no use to threads of another, and there are many threads that work now and then: with the usual number a
/// thousand pods take almost twice the memory, and no request is faster. With one less, the threads that serve requests share
/// an arena, and spend their time waiting for its lock.
///
/// And has it join small free blocks at once, in place of keeping them apart (`M_MXFAST`) until one of more than 1 KiB is asked
/// for. Every request's task is such a one, so the blocks of the one before were joined each time, all of them under the
/// arena's lock: 3,100 instructions of a create in one go, when they were out of the processor's cache again.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn tune_allocator() {
    let arenas = 1 + available_parallelism().map_or(1, NonZero::get);
    let arenas = i32::try_from(arenas).unwrap_or(i32::MAX);
    for (option, value) in [(libc::M_ARENA_MAX, arenas), (libc::M_MXFAST, 0)] {
        // What a refusal costs is memory and time alone.
        #[expect(unsafe_code, reason = "the C library has no other way to set this from inside")]
        // SAFETY: takes two numbers; the process has one thread yet.
        let _set = unsafe { libc::mallopt(option, value) };
    }
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn tune_allocator() {}

/// Has the kernel forget which of its code this process has run. A start runs much that is not run again: schemas are read,
/// certificates made, a log is replayed. And with each page of code the kernel maps the fifteen beside it. All of them stay
/// resident until somebody else needs the memory. What is run again is mapped again, from the page cache.
#[cfg(target_os = "linux")]
pub fn forget_code() {
    // What a failure costs is memory alone.
    let (Ok(maps), Ok(program)) = (std::fs::read_to_string("/proc/self/maps"), std::env::current_exe()) else { return };
    let Some(program) = program.to_str() else { return };
    for code in maps.lines().filter_map(|map| code_of(map, program)) {
        #[expect(unsafe_code, reason = "advice of this kind can empty pages that were written")]
        // SAFETY: the pages are those of a file, mapped privately, and nobody may write to them: they come back as they were.
        let _advised = unsafe { libc::madvise(code.start as *mut libc::c_void, code.len(), libc::MADV_DONTNEED) };
    }
}

#[cfg(not(target_os = "linux"))]
pub fn forget_code() {}

/// The addresses of a line of `/proc/self/maps` (proc_pid_maps(5)) where that is code of `program`.
#[cfg(target_os = "linux")]
fn code_of(map: &str, program: &str) -> Option<std::ops::Range<usize>> {
    let mut fields = map.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let code = fields.next()? == "r-xp" && fields.nth(3)? == program;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    code.then_some(address(start)?..address(end)?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_forgotten() {
        let maps = [
            ("1000-3000 r-xp 00001000 fe:00 42                         /usr/bin/k8w", Some(0x1000..0x3000)),
            ("3000-4000 r--p 00003000 fe:00 42                         /usr/bin/k8w", None),
            ("4000-5000 rw-p 00004000 fe:00 42                         /usr/bin/k8w", None),
            ("5000-6000 rwxp 00004000 fe:00 42                         /usr/bin/k8w", None),
            ("7f0000000000-7f0000001000 r-xp 00000000 fe:00 43         /usr/lib/libc.so.6", None),
            ("7f0000002000-7f0000003000 r-xp 00000000 00:00 0", None),
            ("7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0          [vdso]", None),
            ("", None),
        ];
        for (map, code) in maps {
            assert_eq!(code_of(map, "/usr/bin/k8w"), code, "{map}");
        }
    }

    #[test]
    fn what_was_forgotten_runs_again() {
        let resident = || {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let program = std::env::current_exe().unwrap();
            let code = maps.lines().skip_while(|line| code_of(line, program.to_str().unwrap()).is_none());
            let rss = code.take(5).find_map(|line| line.strip_prefix("Rss:")).unwrap();
            rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = resident();
        forget_code();
        let after = resident();
        assert!(after < before, "{after} of {before} kB");
    }
}
