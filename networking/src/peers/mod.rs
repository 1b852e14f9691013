//! Pods on other nodes: which node has an address, and the way there.
//!
//! Pods have no interface, so that no route leads to one. A node opens a stream to a pod of another node through that node's
//! own port: a request over HTTP/2 whose two bodies are the stream's two directions, on connections that all streams between
//! two nodes share; datagrams go the same way. Both prove with certificates of the cluster's CA which node they are. The
//! request says for whom it is; who answers decides by its own policies once more, and believes a node of nobody but its own
//! pods.

mod dial;
mod nodes;
mod origin;
mod path;
mod serve;

pub(crate) use dial::{Dialer, NotAllowed};
pub use nodes::{Node, Nodes, Peer};
pub(crate) use origin::Claim;
pub(crate) use path::Carries;
pub use path::PATH;

/// The header that says for whom a stream is.
const ORIGIN: &str = "k8w-origin";
