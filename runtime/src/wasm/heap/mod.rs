//! Keeps a core module's own allocator and the adapter of preview 1 off each other's memory.
//!
//! The adapter has its state in the module's memory, which it makes grow when it is called for the first time. There are
//! allocators that cannot know: [`libc`] those that take all memory there is when they are first used, and [`go`] those for
//! which whatever comes after their own memory is theirs. Both are told otherwise by an [`addition`] to the module.

mod addition;
mod go;
mod libc;
mod program;

use program::Program;

/// The module with memory set apart for the adapter, or with a view of its own of how large its memory is; `None` where nothing
/// need be done.
///
/// # Errors
/// With the reason when the module is malformed.
pub fn apart(module: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Some(program) = Program::of(module).map_err(|error| error.to_string())? else { return Ok(None) };
    match go::with_room(&program, module)? {
        Some(made) => Ok(Some(made)),
        None => libc::own_pages(&program, module),
    }
}
