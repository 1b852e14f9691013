//! The wasmtime engine with real guests: those of `tests/guests`, built from source, and small ones in WAT.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod calls;
#[path = "../../../networking/tests/cases/mod.rs"]
mod cases;
mod command;
mod hostile;
mod http;
mod image;
mod limits;
mod matrix;
mod network;
mod node;
mod p3;
mod policies;
