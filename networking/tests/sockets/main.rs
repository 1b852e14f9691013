//! The network over real sockets and in process, with real HTTP clients and servers on loopback.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "../cases/mod.rs"]
mod cases;
mod connections;
mod harness;
mod ingress;
mod names;
mod node_ports;
mod peers;
mod pods;
mod policies;
mod policy_matrix;
mod resolver;
mod rollouts;
mod service_matrix;
mod udp;
mod ways;
