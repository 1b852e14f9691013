//! Keeps a core module's own allocator and the adapter of preview 1 off each other's memory.
//!
//! The adapter has its state in the module's memory, which it makes grow when it is called for the first time. There are
//! allocators that cannot know: [`libc`] those that take all memory there is when they are first used, and [`go`] those for
//! which whatever comes after their own memory is theirs.

mod go;
mod libc;

/// The module with memory set apart for the adapter, or with a view of its own of how large its memory is; `None` where nothing
/// need be done.
///
/// # Errors
/// With the reason when the module is malformed.
pub fn apart(module: &[u8]) -> Result<Option<Vec<u8>>, String> {
    match go::with_room(module)? {
        Some(made) => Ok(Some(made)),
        None => libc::own_pages(module),
    }
}
