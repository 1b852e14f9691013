//! How the C library's allocator spends memory.

use std::num::NonZero;
use std::thread::available_parallelism;

/// Gives the allocator an arena per processor and one for the main thread, in place of eight per processor. Memory that is free
/// in one arena is of no use to threads of another, and there are many threads that work now and then: with the usual number a
/// thousand pods take almost twice the memory, and no request is faster. With one less, the threads that serve requests share
/// an arena, and spend their time waiting for its lock.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn bound_arenas() {
    let arenas = 1 + available_parallelism().map_or(1, NonZero::get);
    let arenas = i32::try_from(arenas).unwrap_or(i32::MAX);
    // What a refusal costs is memory alone.
    #[expect(unsafe_code, reason = "the C library has no other way to set this from inside")]
    // SAFETY: takes two numbers; the process has one thread yet.
    let _set = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn bound_arenas() {}
