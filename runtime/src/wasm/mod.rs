//! The wasmtime engine.

pub mod adapt;
