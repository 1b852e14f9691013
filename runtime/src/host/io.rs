//! `wasi:io`: streams, polling and errors, over the instance's resource table.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::io;

use crate::wasm::store::State;

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

pub fn error(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<State, Table>(linker, |state| &mut state.table)
}

pub fn poll(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    io::poll::add_to_linker::<State, Table>(linker, |state| &mut state.table)
}

pub fn streams(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    io::streams::add_to_linker::<State, Table>(linker, |state| &mut state.table)
}
