//! The wasmtime engine.
//!
//! ```text
//! prepare  components -> compile (a worker process, or the control plane) -> machine code on disk -> InstancePre, one per
//!          image
//! start    preopens, container                      -> serve (a Handler in the network) or command (a task)
//! exec     a component of the pod's files, or a built-in command, in the sandbox of a running container
//! run      guest: cpu + ticker + interrupt around every poll; store: memory, resources, epochs;
//!          runners: threads for what is not done within a slice
//! ```
//!
//! An http container that nobody calls is an entry in the network's table and what its [`container::Container`] holds:
//! no instance, no thread, no task and no socket.

pub mod adapt;
mod answers;
mod bucket;
mod burst;
mod command;
pub mod compile;
mod components;
pub mod config;
pub(crate) mod container;
mod cpu;
mod engine;
mod exec;
mod guest;
mod handle;
mod heap;
pub mod lines;
mod log_writer;
pub(crate) mod logs;
pub mod memory;
mod outcome;
mod pool;
mod preopens;
mod response;
mod runners;
mod serve;
pub mod slice;
mod slots;
pub(crate) mod stdio;
pub(crate) mod store;
mod ticker;
mod tty;
mod turns;
mod written;

#[cfg(test)]
pub(crate) mod tests;

pub use config::{TrapBurst, WasmConfig};
pub use engine::WasmEngine;
pub use pool::Instances;
