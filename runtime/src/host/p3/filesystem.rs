//! `wasi:filesystem` 0.3: wasmtime-wasi's, beneath the preopens that the container opened when it started.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures::stream;
use futures::{StreamExt as _, TryStreamExt as _};
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Accessor, Destination, HasSelf, Linker, Resource, StreamProducer, StreamReader, StreamResult,
};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem};
use wasmtime_wasi::p3::bindings::filesystem as wasi;

use super::streams;
use crate::host::WASI_P3;
use crate::host::filesystem::by_name::{self, Times};
use crate::host::filesystem::listing::{self, Entry, kind};
use crate::host::filesystem::{answer, shadow, view};
use crate::wasm::store::State;
pub use wasi::types;
use wasi::types::{
    DescriptorFlags, DescriptorType, DirectoryEntry, ErrorCode, HostDescriptorWithStore as _, NewTimestamp, OpenFlags,
    PathFlags,
};

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
    interface.func_wrap(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, State>, (dir,): (Resource<Descriptor>,)| {
            let dir = store.data().directory(&dir)?;
            let entries = stream::once(listing::read_directory(dir)).try_flatten().boxed();
            let (failed, ended) = oneshot::channel();
            let listing = StreamReader::new(&mut store, Listing { entries, failed: Some(failed) })?;
            Ok(((listing, streams::outcome(store, ended)?),))
        },
    )?;
    tell!(interface, "[method]descriptor.stat-at", stat_at, stat)?;
    tell!(interface, "[method]descriptor.metadata-hash-at", metadata_hash_at, metadata_hash)
}

/// What a directory holds, as a stream of the component model.
struct Listing {
    entries: listing::Listing,
    /// Told how it ended, if not well.
    failed: Option<oneshot::Sender<ErrorCode>>,
}

impl<D> StreamProducer<D> for Listing {
    type Item = DirectoryEntry;
    type Buffer = Option<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        mut into: Destination<'a, DirectoryEntry, Option<DirectoryEntry>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if into.remaining(store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        Poll::Ready(Ok(match self.entries.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(Entry { kind, name }))) => {
                let type_ = kind!(types, kind, DescriptorType::Other(None));
                into.set_buffer(Some(DirectoryEntry { type_, name }));
                StreamResult::Completed
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(failed) = self.failed.take() {
                    // A guest that does not want to know has dropped the other end.
                    let _ = failed.send(refused(error));
                }
                StreamResult::Dropped
            }
            Poll::Ready(None) => StreamResult::Dropped,
            Poll::Pending if finish => StreamResult::Cancelled,
            Poll::Pending => return Poll::Pending,
        }))
    }
}

/// As in 0.2 ([`filesystem::refused`](crate::host::filesystem::refused)).
pub fn refused(error: io::Error) -> ErrorCode {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE) => ErrorCode::InsufficientMemory,
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
