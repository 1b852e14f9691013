//! Guests of WASI 0.3.

mod command;
mod http;
mod network;
