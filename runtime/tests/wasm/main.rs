//! The wasmtime engine with real guests: those of `tests/guests`, built from source, and small ones in WAT.

mod command;
mod http;
mod image;
mod limits;
mod network;
mod node;
