//! How a pod runs on this node: the agent, and the engine that runs its containers.
//!
//! * [`agent`]: one loop over a closed enum of events; it owns the node's objects in the API.
//! * [`config`]: what a node is told when it starts.
//! * [`wasm`]: the wasmtime engine.
//! * [`engine`]: the contract between the agent and whatever runs a container. It consists of messages.
//!
//! The agent knows the API and no wasm; an engine knows wasm and no API.

pub mod agent;
pub mod config;
pub mod engine;
mod host;
pub mod pod;
pub mod wasm;

pub use agent::Error;
pub use config::NodeConfig;
