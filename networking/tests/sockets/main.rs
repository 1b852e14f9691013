//! The network over real sockets and in process, with real HTTP clients and servers on loopback.

mod harness;
mod ingress;
mod node_ports;
mod pods;
