//! WASI 0.3: what 0.2 gives a guest, with streams, futures and functions that a guest can wait for of the component model.
//!
//! Both versions end in the same container: its preopens, its network, its standard streams and its limits.

pub mod cli;
pub mod clocks;
pub mod filesystem;
pub mod http;
pub mod random;
pub mod sockets;
mod streams;
