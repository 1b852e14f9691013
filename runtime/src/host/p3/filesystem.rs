//! `wasi:filesystem` 0.3: wasmtime-wasi's, beneath the preopens that the container opened when it started.

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem};
use wasmtime_wasi::p3::bindings::filesystem as wasi;

use crate::host::filesystem::view;
use crate::wasm::store::State;

pub fn types(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::types::add_to_linker::<State, WasiFilesystem>(linker, view)
}

pub fn preopens(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::preopens::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl wasi::preopens::Host for State {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}
