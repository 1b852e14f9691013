//! `wasi:filesystem` 0.3: wasmtime-wasi's, beneath the preopens that the container opened when it started.

use std::io;
use std::pin::pin;
use std::task::Poll;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use wasmtime::component::{Accessor, HasSelf, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem};
use wasmtime_wasi::p3::bindings::filesystem as wasi;

use crate::host::WASI_P3;
use crate::host::filesystem::by_name::{self, Times};
use crate::host::filesystem::{answer, shadow, view};
use crate::wasm::store::State;
pub use wasi::types;
use wasi::types::{DescriptorFlags, ErrorCode, HostDescriptorWithStore as _, NewTimestamp, OpenFlags, PathFlags};

pub fn types(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::types::add_to_linker::<State, WasiFilesystem>(linker, view)?;
    shadow(linker, replace)
}

type Name = (Resource<Descriptor>, String);
type LinkAt = (Resource<Descriptor>, PathFlags, String, Resource<Descriptor>, String);
type OpenAt = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
type RenameAt = (Resource<Descriptor>, String, Resource<Descriptor>, String);
type SetTimesAt = (Resource<Descriptor>, PathFlags, String, NewTimestamp, NewTimestamp);
type TellAt = (Resource<Descriptor>, PathFlags, String);

/// Lets a function tell of what is laid over a file in its place, as `$of_it` tells of what is open.
macro_rules! tell {
    ($interface:ident, $name:literal, $function:ident, $of_it:ident) => {
        $interface.func_wrap_concurrent($name, |accessor: &Accessor<State>, (dir, path_flags, path): TellAt| {
            Box::pin(async move {
                let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
                let directory = accessor.with(|mut store| store.get().directory(&dir))?;
                let files = accessor.with_getter::<WasiFilesystem>(view);
                let Some(overlay) = by_name::overlay_at(directory, &path, follow).await else {
                    return answer(WasiFilesystem::$function(&files, dir, path_flags, path).await);
                };
                let overlay = accessor.with(|mut store| store.get().table.push(overlay))?;
                let mut telling = pin!(WasiFilesystem::$of_it(&files, Resource::new_borrow(overlay.rep())));
                // It looks at the table before it waits for anything. A guest that cancels the call leaves nothing there.
                let told = futures::poll!(telling.as_mut());
                accessor.with(|mut store| store.get().table.delete(overlay))?;
                answer(match told {
                    Poll::Ready(told) => told,
                    Poll::Pending => telling.await,
                })
            })
        })
    };
}

/// What opens something by its name, or must know what is laid over it, as [`by_name`] does it.
fn replace(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(&format!("wasi:filesystem/types@{WASI_P3}"))?;
    interface.func_wrap_concurrent(
        "[method]descriptor.open-at",
        |accessor: &Accessor<State>, (dir, path_flags, path, open_flags, flags): OpenAt| {
            Box::pin(async move {
                let request = by_name::request!(types, path_flags, open_flags, flags);
                let dir = accessor.with(|mut store| store.get().directory(&dir))?;
                Ok((match by_name::open_at(dir, path, request).await {
                    Ok(opened) => Ok(accessor.with(|mut store| store.get().table.push(opened))?),
                    Err(error) => Err(refused(error)),
                },))
            })
        },
    )?;
    interface.func_wrap_concurrent(
        "[method]descriptor.set-times-at",
        |accessor: &Accessor<State>, (dir, path_flags, path, accessed, modified): SetTimesAt| {
            Box::pin(async move {
                let dir = accessor.with(|mut store| store.get().directory(&dir))?;
                let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
                let set = by_name::set_times_at(dir, path, follow, times(accessed, modified)).await;
                Ok((set.map_err(refused),))
            })
        },
    )?;
    interface.func_wrap_concurrent(
        "[method]descriptor.unlink-file-at",
        |accessor: &Accessor<State>, (dir, path): Name| {
            Box::pin(async move {
                let dir = accessor.with(|mut store| store.get().directory(&dir))?;
                Ok((by_name::unlink_file_at(dir, path).await.map_err(refused),))
            })
        },
    )?;
    interface.func_wrap_concurrent(
        "[method]descriptor.rename-at",
        |accessor: &Accessor<State>, (from, old, to, new): RenameAt| {
            Box::pin(async move {
                let from = accessor.with(|mut store| store.get().directory(&from))?;
                let to = accessor.with(|mut store| store.get().directory(&to))?;
                Ok((by_name::rename_at(from, old, to, new).await.map_err(refused),))
            })
        },
    )?;
    interface.func_wrap_concurrent(
        "[method]descriptor.link-at",
        |accessor: &Accessor<State>, (from, path_flags, old, to, new): LinkAt| {
            Box::pin(async move {
                let from = accessor.with(|mut store| store.get().directory(&from))?;
                let to = accessor.with(|mut store| store.get().directory(&to))?;
                let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
                Ok((by_name::link_at(from, follow, old, to, new).await.map_err(refused),))
            })
        },
    )?;
    tell!(interface, "[method]descriptor.stat-at", stat_at, stat)?;
    tell!(interface, "[method]descriptor.metadata-hash-at", metadata_hash_at, metadata_hash)
}

/// As wasmtime-wasi has it, which does not know of file systems that are several.
pub fn refused(error: io::Error) -> ErrorCode {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EXDEV) => ErrorCode::CrossDevice,
        _ => ErrorCode::from(error),
    }
}

/// Times as a guest gives them.
///
/// # Errors
/// EOVERFLOW.
pub fn times(accessed: NewTimestamp, modified: NewTimestamp) -> io::Result<Times> {
    let spec = |time| match time {
        NewTimestamp::NoChange => Ok(TimeSpec::UTIME_OMIT),
        NewTimestamp::Now => Ok(TimeSpec::UTIME_NOW),
        NewTimestamp::Timestamp(at) => by_name::time(at.seconds, at.nanoseconds),
    };
    Ok(Times { accessed: spec(accessed)?, modified: spec(modified)? })
}

pub fn preopens(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::preopens::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl wasi::preopens::Host for State {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}
