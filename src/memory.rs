//! How the C library's allocator spends memory and time.

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
