//! What the host keeps for an instance in its table: headers, and what requests are made of. It is its container's memory.
//!
//! What a guest hands over is added up, and once that is more than was reserved, what is really there is measured: what has
//! gone since counts no more. An instance that keeps little, as most do, is never measured.

use http::HeaderMap;
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::bindings::http::types::Method;
use wasmtime_wasi_http::p2::types::{HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse};
use wasmtime_wasi_http::p3::{Request, Response};

use crate::wasm::memory::OutOfMemory;
use crate::wasm::store::State;

/// What is kept for an instance without being reserved.
const UNRESERVED_BYTES: u64 = 64 << 10;
/// What a header takes beside its name and value.
const FIELD_BYTES: usize = 128;

/// How much is kept for one instance.
#[derive(Debug)]
pub struct Kept {
    /// At most: as handed over since it was measured.
    bytes: u64,
    /// To be measured beyond this.
    bound: u64,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept { bytes: 0, bound: UNRESERVED_BYTES }
    }
}

impl State {
    /// Takes memory for what a guest is about to hand over. Nobody waits for memory that others hold.
    ///
    /// # Errors
    /// [`OutOfMemory`], which traps.
    pub fn keep(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        let kept = &mut self.kept;
        kept.bytes += bytes as u64;
        if kept.bytes <= kept.bound {
            return Ok(());
        }
        kept.bytes = measure(&mut self.table) + bytes as u64;
        // However much there is, looking through it costs little beside handing it over.
        kept.bound = kept.bytes + UNRESERVED_BYTES.max(kept.bytes / 8);
        self.memory.keep(kept.bound)
    }
}

/// What a table holds. Copies count as such, though they share their memory until they are changed.
fn measure(table: &mut ResourceTable) -> u64 {
    let each = table.iter_mut().map(|entry| {
        if let Some(fields) = entry.downcast_ref::<FieldMap>() {
            fields_bytes(fields)
        } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
            let method = if let Method::Other(name) = &request.method { name.len() } else { 0 };
            let target = [&request.authority, &request.path_with_query];
            let target: usize = target.into_iter().flatten().map(String::len).sum();
            fields_bytes(&request.headers) + method + target
        } else if let Some(request) = entry.downcast_ref::<Request>() {
            let authority = request.authority.as_ref().map_or(0, |authority| authority.as_str().len());
            let path = request.path_with_query.as_ref().map_or(0, |path| path.as_str().len());
            fields_bytes(&request.headers) + request.method.as_str().len() + authority + path
        } else if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
            fields_bytes(&response.headers)
        } else if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
            fields_bytes(&response.headers)
        } else if let Some(response) = entry.downcast_ref::<Response>() {
            fields_bytes(&response.headers)
        } else {
            0
        }
    });
    each.sum::<usize>() as u64
}

/// What headers take, near enough.
pub fn fields_bytes(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| field_bytes(name.as_str(), value.as_bytes())).sum()
}

/// Likewise one that a guest hands over.
pub fn field_bytes(name: &str, value: &[u8]) -> usize {
    name.len() + value.len() + FIELD_BYTES
}

/// What wasmtime-wasi-http says of headers, as a guest gets it: each version has an error of its own.
///
/// # Errors
/// What traps.
pub fn told<T, S, E>(
    said: Result<T, S>,
    downcast: impl FnOnce(S) -> wasmtime::Result<E>,
) -> wasmtime::Result<(Result<T, E>,)> {
    Ok((match said {
        Ok(told) => Ok(told),
        Err(error) => Err(downcast(error)?),
    },))
}

/// Lets functions of `wasi:http/types` take memory before they keep what they are handed. The versions of WASI differ in
/// the names of types, and of the resource that requests are.
macro_rules! count {
    ($linker:ident, $version:expr, $types:ident, $view:path, $host_request:ident, $request:ident, $name:literal) => {{
        use wasmtime::StoreContextMut;
        use wasmtime::component::Resource;
        use wasmtime_wasi_http::FieldMap;
        use $types::{HostFields, Method, $host_request, $request};

        use $crate::host::kept::{field_bytes, fields_bytes, told};

        type Store<'s> = StoreContextMut<'s, State>;
        let mut interface = $linker.instance(&format!("wasi:http/types@{}", $version))?;
        interface.func_wrap(
            "[static]fields.from-list",
            |mut store: Store<'_>, (entries,): (Vec<(String, Vec<u8>)>,)| {
                let state = store.data_mut();
                state.keep(entries.iter().map(|(name, value)| field_bytes(name, value)).sum())?;
                told(HostFields::from_list(&mut $view(state), entries), |error| error.downcast())
            },
        )?;
        interface.func_wrap(
            "[method]fields.append",
            |mut store: Store<'_>, (fields, name, value): (Resource<FieldMap>, String, Vec<u8>)| {
                let state = store.data_mut();
                state.keep(field_bytes(&name, &value))?;
                told(HostFields::append(&mut $view(state), fields, name, value), |error| error.downcast())
            },
        )?;
        interface.func_wrap(
            "[method]fields.set",
            |mut store: Store<'_>, (fields, name, values): (Resource<FieldMap>, String, Vec<Vec<u8>>)| {
                let state = store.data_mut();
                state.keep(values.iter().map(|value| field_bytes(&name, value)).sum())?;
                told(HostFields::set(&mut $view(state), fields, name, values), |error| error.downcast())
            },
        )?;
        interface.func_wrap("[method]fields.clone", |mut store: Store<'_>, (fields,): (Resource<FieldMap>,)| {
            let state = store.data_mut();
            state.keep(fields_bytes(state.table.get(&fields)?))?;
            Ok((HostFields::clone(&mut $view(state), fields)?,))
        })?;
        interface.func_wrap(
            concat!("[method]", $name, ".set-method"),
            |mut store: Store<'_>, (request, method): (Resource<$request>, Method)| {
                let state = store.data_mut();
                state.keep(if let Method::Other(name) = &method { name.len() } else { 0 })?;
                Ok(($host_request::set_method(&mut $view(state), request, method)?,))
            },
        )?;
        interface.func_wrap(
            concat!("[method]", $name, ".set-authority"),
            |mut store: Store<'_>, (request, authority): (Resource<$request>, Option<String>)| {
                let state = store.data_mut();
                state.keep(authority.as_ref().map_or(0, String::len))?;
                Ok(($host_request::set_authority(&mut $view(state), request, authority)?,))
            },
        )?;
        interface.func_wrap(
            concat!("[method]", $name, ".set-path-with-query"),
            |mut store: Store<'_>, (request, path): (Resource<$request>, Option<String>)| {
                let state = store.data_mut();
                state.keep(path.as_ref().map_or(0, String::len))?;
                Ok(($host_request::set_path_with_query(&mut $view(state), request, path)?,))
            },
        )
    }};
}
pub(crate) use count;
