//! `wasi:random`: numbers from the thread's own generator, which costs an instance nothing to have.

use rand::RngCore;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::p2::bindings::random as wasi;

use crate::wasm::store::State;

/// What a guest may ask for in one call.
pub const MAX_RANDOM_BYTES: u64 = 64 << 10;

pub fn random(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::random::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn insecure(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::insecure::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn insecure_seed(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::insecure_seed::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// A cryptographically secure generator serves both; an insecure one would be no cheaper to an instance.
///
/// # Errors
/// When more than [`MAX_RANDOM_BYTES`] are asked for.
pub fn bytes(length: u64) -> wasmtime::Result<Vec<u8>> {
    if length > MAX_RANDOM_BYTES {
        wasmtime::bail!("{length} random bytes asked for at once; at most {MAX_RANDOM_BYTES} are given");
    }
    let mut bytes = vec![0; length as usize];
    rand::rng().fill_bytes(&mut bytes);
    Ok(bytes)
}

impl wasi::random::Host for State {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::rng().next_u64())
    }
}

impl wasi::insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::rng().next_u64())
    }
}

impl wasi::insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((rand::rng().next_u64(), rand::rng().next_u64()))
    }
}
