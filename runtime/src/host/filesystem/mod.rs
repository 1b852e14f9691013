//! `wasi:filesystem`: wasmtime-wasi's, beneath preopens of our own that are opened once per container, and but for what
//! opens something by its name, or must know what is laid over it ([`by_name`]), and what reads a directory ([`listing`]).
//! What guests open is counted ([`open_files`]).

pub mod by_name;
pub mod listing;
pub mod open_files;
pub mod overlays;

use std::io;
use std::path::Path;

use cap_std::ambient_authority;
use futures::StreamExt as _;
use k8w_networking::open_files::check_room;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceType};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi::filesystem::WasiFilesystem;
pub use wasmtime_wasi::filesystem::{Descriptor, Dir, File, WasiFilesystemCtx, WasiFilesystemCtxView};
pub use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::filesystem as wasi;
pub use wasmtime_wasi::{FsPerms, OpenMode};

use self::by_name::Times;
use self::listing::{Listing, kind};
use super::WASI;
use crate::wasm::store::State;
pub use wasi::types;
use wasi::types::{
    DescriptorFlags, DescriptorType, DirectoryEntry, ErrorCode, HostDescriptor as _, NewTimestamp, OpenFlags, PathFlags,
};

pub fn types(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::types::add_to_linker::<State, WasiFilesystem>(linker, view)?;
    shadow(linker, replace)
}

/// Lets `replace` put functions in the place of those that are there.
pub fn shadow(
    linker: &mut Linker<State>,
    replace: fn(&mut Linker<State>) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let replaced = replace(linker);
    linker.allow_shadowing(false);
    replaced
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
        $interface.func_wrap_async($name, |mut store: StoreContextMut<'_, State>, (dir, path_flags, path): TellAt| {
            Box::new(async move {
                let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
                let overlay = by_name::overlay_at(store.data().directory(&dir)?, &path, follow).await;
                let Some(overlay) = overlay else {
                    return answer(view(store.data_mut()).$function(dir, path_flags, path).await);
                };
                let overlay = store.data_mut().table.push(overlay)?;
                let told = view(store.data_mut()).$of_it(Resource::new_borrow(overlay.rep())).await;
                store.data_mut().table.delete(overlay)?;
                answer(told)
            })
        })
    };
}

fn replace(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(&format!("wasi:filesystem/types@{WASI}"))?;
    interface.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, State>, (dir, path_flags, path, open_flags, flags): OpenAt| {
            Box::new(async move {
                let request = by_name::request!(types, path_flags, open_flags, flags);
                let dir = store.data().directory(&dir)?;
                Ok((match by_name::open_at(dir, path, request).await {
                    Ok(opened) => Ok(store.data_mut().table.push(opened)?),
                    Err(error) => Err(refused(error)),
                },))
            })
        },
    )?;
    interface.func_wrap_async(
        "[method]descriptor.set-times-at",
        |store: StoreContextMut<'_, State>, (dir, path_flags, path, accessed, modified): SetTimesAt| {
            Box::new(async move {
                let dir = store.data().directory(&dir)?;
                let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
                let set = by_name::set_times_at(dir, path, follow, times(accessed, modified)).await;
                Ok((set.map_err(refused),))
            })
        },
    )?;
    interface.func_wrap_async(
        "[method]descriptor.unlink-file-at",
        |store: StoreContextMut<'_, State>, (dir, path): Name| {
            Box::new(async move {
                let dir = store.data().directory(&dir)?;
                Ok((by_name::unlink_file_at(dir, path).await.map_err(refused),))
            })
        },
    )?;
    interface.func_wrap_async(
        "[method]descriptor.rename-at",
        |store: StoreContextMut<'_, State>, (from, old, to, new): RenameAt| {
            Box::new(async move {
                let (from, to) = (store.data().directory(&from)?, store.data().directory(&to)?);
                Ok((by_name::rename_at(from, old, to, new).await.map_err(refused),))
            })
        },
    )?;
    interface.func_wrap_async(
        "[method]descriptor.link-at",
        |store: StoreContextMut<'_, State>, (from, path_flags, old, to, new): LinkAt| {
            Box::new(async move {
                let (from, to) = (store.data().directory(&from)?, store.data().directory(&to)?);
                let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
                Ok((by_name::link_at(from, follow, old, to, new).await.map_err(refused),))
            })
        },
    )?;
    interface.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, State>, (dir,): (Resource<Descriptor>,)| {
            Box::new(async move {
                let dir = store.data().directory(&dir)?;
                Ok((match listing::read_directory(dir).await {
                    Ok(listing) => Ok(store.data_mut().table.push(listing)?),
                    Err(error) => Err(refused(error)),
                },))
            })
        },
    )?;
    interface.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: StoreContextMut<'_, State>, (listing,): (Resource<Listing>,)| {
            Box::new(async move {
                let next = store.data_mut().table.get_mut(&listing)?.next().await.transpose();
                let named = |entry: listing::Entry| {
                    let type_ = kind!(types, entry.kind, DescriptorType::Unknown);
                    DirectoryEntry { type_, name: entry.name }
                };
                Ok((next.map(|next| next.map(named)).map_err(refused),))
            })
        },
    )?;
    interface.resource("directory-entry-stream", ResourceType::host::<Listing>(), |mut store, listing| {
        drop(store.data_mut().table.delete(Resource::<Listing>::new_own(listing))?);
        Ok(())
    })?;
    tell!(interface, "[method]descriptor.stat-at", stat_at, stat)?;
    tell!(interface, "[method]descriptor.metadata-hash-at", metadata_hash_at, metadata_hash)
}

/// What wasmtime-wasi says, as a guest gets it.
///
/// # Errors
/// What traps.
pub fn answer<T, E>(said: Result<T, TrappableError<E>>) -> wasmtime::Result<(Result<T, E>,)>
where
    E: std::error::Error + Send + Sync + 'static,
{
    Ok((match said {
        Ok(told) => Ok(told),
        Err(error) => Err(error.downcast()?),
    },))
}

/// As wasmtime-wasi has it, which does not know of file systems that are several, nor of too many open files. WASI has no
/// word for those; ENOMEM is what POSIX has for `open` that says to close something first.
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
        NewTimestamp::Timestamp(at) => {
            let seconds = i64::try_from(at.seconds).map_err(|_| Errno::EOVERFLOW)?;
            by_name::time(seconds, at.nanoseconds)
        }
    };
    Ok(Times { accessed: spec(accessed)?, modified: spec(modified)? })
}

pub fn preopens(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::preopens::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// What both versions work on.
pub fn view(state: &mut State) -> WasiFilesystemCtxView<'_> {
    WasiFilesystemCtxView { ctx: &mut state.filesystem, table: &mut state.table }
}

impl wasi::preopens::Host for State {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}

impl State {
    /// A guest's own handles to what its container opened when it started.
    ///
    /// # Errors
    /// When the instance has too many resources.
    pub fn directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let container = self.container.clone();
        let descriptors = container.preopens.dirs.iter().map(|(dir, path)| {
            let descriptor = self.table.push(Descriptor::Dir(dir.clone()))?;
            Ok((descriptor, path.clone()))
        });
        descriptors.collect()
    }
}

/// A directory handle as a guest's descriptor. Read-only holds for everything beneath it.
pub fn descriptor(dir: std::fs::File, read_only: bool) -> Dir {
    let (perms, mode) = match read_only {
        true => (FsPerms::ReadOnly, OpenMode::READ),
        false => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
    };
    // File operations go to the blocking pool: a volume may be a slow network mount.
    Dir::new(dir, perms, mode, false)
}

/// Opens a volume's root. The path comes from the node itself, never from a guest or a manifest.
///
/// # Errors
/// As opening a directory; ENFILE where the node has no room for more open files of guests.
pub fn open_root(path: &Path) -> io::Result<cap_std::fs::Dir> {
    let root = cap_std::fs::Dir::open_ambient_dir(path, ambient_authority())?;
    check_room(&root)?;
    Ok(root)
}
