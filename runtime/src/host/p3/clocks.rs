//! `wasi:clocks` 0.3: the node's own clocks.

use wasmtime::component::Linker;
use wasmtime_wasi::clocks::WasiClocks;
use wasmtime_wasi::p3::bindings::clocks;

use crate::host::clocks::view;
use crate::wasm::store::State;

pub fn monotonic_clock(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(linker, view)
}

pub fn system_clock(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    clocks::system_clock::add_to_linker::<State, WasiClocks>(linker, view)
}

pub fn types(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    clocks::types::add_to_linker::<State, WasiClocks>(linker, view)
}
