//! `wasi:filesystem`: wasmtime-wasi's, beneath preopens of our own that are opened once per container.

use std::fs::File;
use std::io;
use std::path::Path;

use cap_std::ambient_authority;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem as wasi;
use wasmtime_wasi::{FsPerms, OpenMode};

use crate::wasm::store::State;

pub fn types(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::types::add_to_linker::<State, WasiFilesystem>(linker, view)
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
        let descriptors = container.preopens.iter().map(|(dir, path)| {
            let descriptor = self.table.push(Descriptor::Dir(dir.clone()))?;
            Ok((descriptor, path.clone()))
        });
        descriptors.collect()
    }
}

/// A directory handle as a guest's descriptor. Read-only holds for everything beneath it.
pub fn descriptor(dir: File, read_only: bool) -> Dir {
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
/// As opening a directory.
pub fn open_root(path: &Path) -> io::Result<cap_std::fs::Dir> {
    cap_std::fs::Dir::open_ambient_dir(path, ambient_authority())
}
