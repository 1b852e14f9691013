//! `wasi:http` 0.3: requests leave by the same way as those of 0.2 ([`Outgoing`](crate::host::http::Outgoing)), so that a
//! component of either version calls one of the other in process.

use wasmtime::AsContextMut as _;
use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi_http::p3::bindings::http as wasi;
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView};

use crate::host::WASI_P3;
use crate::host::filesystem::shadow;
use crate::host::kept::{count, fields_bytes};
use crate::wasm::store::State;
use wasi::client::HostWithStore;
use wasi::types as wit;

pub fn types(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::types::add_to_linker::<State, WasiHttp>(linker, State::http_p3)?;
    shadow(linker, |linker| count!(linker, WASI_P3, wit, State::http_p3, HostRequest, Request, "request"))
}

pub fn client(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::client::add_to_linker::<State, Client>(linker, State::http_p3)
}

/// wasmtime-wasi-http's client, whose answers take memory.
struct Client;

impl HasData for Client {
    type Data<'a> = WasiHttpCtxView<'a>;
}

impl HostWithStore<State> for Client {
    async fn send(
        accessor: &Accessor<State, Self>,
        request: Resource<wit::Request>,
    ) -> Result<Resource<wit::Response>, TrappableError<wit::ErrorCode>> {
        let sender = accessor.with_getter::<WasiHttp>(State::http_p3);
        let response = <WasiHttp as HostWithStore<State>>::send(&sender, request).await?;
        accessor.with(|mut store| {
            let mut store = store.as_context_mut();
            let state = store.data_mut();
            let bytes = fields_bytes(&state.table.get(&response).map_err(TrappableError::trap)?.headers);
            state.keep(bytes).map_err(TrappableError::trap)?;
            Ok(response)
        })
    }
}
