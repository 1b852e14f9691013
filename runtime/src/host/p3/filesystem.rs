//! `wasi:filesystem` 0.3: wasmtime-wasi's, beneath the preopens that the container opened when it started.

use std::io;

use nix::sys::time::TimeSpec;
use wasmtime::component::{Accessor, HasSelf, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem};
use wasmtime_wasi::p3::bindings::filesystem as wasi;

use crate::host::WASI_P3;
use crate::host::filesystem::by_name::{self, Times};
use crate::host::filesystem::{shadow, view};
use crate::wasm::store::State;
use wasi::types::{self, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};

pub fn types(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::types::add_to_linker::<State, WasiFilesystem>(linker, view)?;
    shadow(linker, replace)
}

type OpenAt = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
type SetTimesAt = (Resource<Descriptor>, PathFlags, String, NewTimestamp, NewTimestamp);

/// What opens something by its name, as [`by_name`] does it.
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
                    Err(error) => Err(ErrorCode::from(error)),
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
                Ok((set.map_err(ErrorCode::from),))
            })
        },
    )
}

fn times(accessed: NewTimestamp, modified: NewTimestamp) -> io::Result<Times> {
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
