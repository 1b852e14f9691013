//! Where a connection goes: Services, ingress, cluster names and policy.
//!
//! One set of immutable tables, built from watched API objects ([`tables`]), answers every question about where a
//! connection goes, for host functions and for the node's listeners alike. [`network`] is what both of them hold;
//! [`endpoint`] is what a look-up ends in. What comes from outside enters at [`ingress`], [`node_port`] and, with privilege,
//! [`kernel`]; its whole way is in `stack.rs`. Pods of other nodes are reached through [`peers`].

mod accept;
mod attempts;
pub mod balance;
mod client;
pub mod dns;
pub mod endpoint;
pub mod headers;
mod health_check;
mod host_port;
pub mod https;
pub mod ingress;
pub mod kernel;
mod listener;
pub mod network;
pub mod node_port;
pub mod open_files;
mod origin;
pub mod peers;
mod pipe;
pub mod policy;
mod progress;
mod reach;
mod registry;
mod serve;
pub mod service;
mod stack;
mod stream;
pub mod tables;
mod tls;
pub mod udp;

pub use client::{About, AnyCertificate, Destination, HostAddresses, Pooled, SendError, Tls, Trust};
pub use dns::{Lookup, Meaning};
pub use endpoint::{Accepted, Body, BodyError, Endpoint, Handler, PodIdentity};
pub use host_port::{HostPort, HostPortRegistration};
pub use listener::{AcceptQueue, Incoming, Open, OpenConnections, PodListener};
pub use network::{Config, Network, Refused};
pub use origin::Origin;
pub use registry::Registration;
pub use service::{Protocol, ServiceName};
pub use stream::{Audience, Stream};
pub use tables::{Objects, Tables};
pub use tls::{Fault, TlsError};
