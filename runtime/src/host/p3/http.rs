//! `wasi:http` 0.3: requests leave by the same way as those of 0.2 ([`Outgoing`](crate::host::http::Outgoing)), so that a
//! component of either version calls one of the other in process.

use wasmtime::component::Linker;
use wasmtime_wasi_http::WasiHttp;
use wasmtime_wasi_http::p3::bindings::http as wasi;

use crate::wasm::store::State;

pub fn types(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::types::add_to_linker::<State, WasiHttp>(linker, State::http_p3)
}

pub fn client(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::client::add_to_linker::<State, WasiHttp>(linker, State::http_p3)
}
