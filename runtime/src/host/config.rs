//! `wasi:config`: the container's environment, by name.
//!
//! That is where a pod's ConfigMaps arrive (`envFrom`, `configMapKeyRef`), so a component is configured by the same lines of
//! a manifest whichever interface it asks.

use bindings::wasi::config::store as wit;
use wasmtime::component::{HasSelf, Linker};

use crate::wasm::store::State;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "k8w:host/config",
        imports: { default: tracing | trappable },
    });
}

pub fn store(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl wit::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, wit::Error>> {
        let found = self.container.env.iter().find(|(name, _)| *name == key);
        Ok(Ok(found.map(|(_, value)| value.clone())))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, wit::Error>> {
        Ok(Ok(self.container.env.clone()))
    }
}
