//! How a pod runs on this node: the agent, and the engine that runs its containers.
//!
//! * [`agent`]: one loop over a closed enum of events; it owns the node's pods.
//! * [`pod`]: one pod as pure functions: its state machine, status, environment, mounts, probes.
//! * [`node`]: the Node object and its Lease.
//! * [`identity`]: who a node is to its cluster, and how it becomes one of it.
//! * [`image`]: from an image reference to one file on this node.
//! * [`server`]: the node's HTTP API, as a kubelet serves it.
//! * [`recorder`]: Events about pods and the node.
//! * [`config`]: what a node is told when it starts.
//! * [`network_sync`]: keeps the network tables up to date with the API.
//! * [`node_ports`]: serves the node ports of Services.
//! * [`ingress_certificates`]: says on Ingresses which certificates cannot be used.
//! * [`engine`]: the contract between the agent and whatever runs a container. It consists of messages.
//! * [`wasm`]: the wasmtime engine, and [`host`]: what a component can import.
//! * [`guest_path`]: paths as a guest knows them, which all of these speak of.
//!
//! The agent knows the API and no wasm; an engine knows wasm and no API.

pub mod agent;
pub mod config;
pub mod engine;
pub mod guest_path;
pub mod host;
pub mod identity;
pub mod image;
pub mod ingress_certificates;
pub mod network_sync;
pub mod node;
pub mod node_ports;
pub mod pod;
pub mod recorder;
pub mod server;
pub mod wasm;

pub use agent::{Error, Node};
pub use config::NodeConfig;
pub use server::NodeService;
