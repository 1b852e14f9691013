//! `wasi:random` 0.3: numbers from the thread's own generator.

use rand::RngCore;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::p3::bindings::random as wasi;

use crate::host::random::{MAX_RANDOM_BYTES, bytes};
use crate::wasm::store::State;

pub fn random(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::random::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn insecure(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::insecure::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn insecure_seed(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::insecure_seed::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl wasi::random::Host for State {
    /// Fewer bytes than asked for may be given.
    fn get_random_bytes(&mut self, most: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(most.min(MAX_RANDOM_BYTES))
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::rng().next_u64())
    }
}

impl wasi::insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, most: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(most.min(MAX_RANDOM_BYTES))
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::rng().next_u64())
    }
}

impl wasi::insecure_seed::Host for State {
    fn get_insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((rand::rng().next_u64(), rand::rng().next_u64()))
    }
}
