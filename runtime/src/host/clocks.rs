//! `wasi:clocks`: the node's own clocks.

use wasmtime::component::Linker;
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtxView};
use wasmtime_wasi::p2::bindings::clocks;

use crate::wasm::store::State;

/// What both versions work on.
pub fn view(state: &mut State) -> WasiClocksCtxView<'_> {
    WasiClocksCtxView { ctx: &mut state.clocks, table: &mut state.table }
}

pub fn monotonic_clock(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(linker, view)
}

pub fn wall_clock(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(linker, view)
}
