//! What a connection ends in: a handler or a listener in this process, a pod of another node, or an address to dial.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;

use crate::listener::AcceptQueue;
use crate::peers::Peer;

/// Any error a body's producer may end with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A streamed HTTP body. Dropping it cancels its producer; polling it is the only back-pressure there is.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Serves HTTP requests inside this process: a component of a wasm pod.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Never fails: what goes wrong inside is an HTTP status (500 for a trap, 503 when over budget,
    /// 504 when out of time). Dropping the future cancels the request.
    fn call(&self, request: http::Request<Body>) -> BoxFuture<'static, http::Response<Body>>;

    /// Takes a connection, on which requests are to come; `None` when it takes none any more.
    fn accept(&self) -> Option<Accepted> {
        Some(Accepted { expected: Box::new(()), closing: Box::pin(std::future::pending()) })
    }
}

/// What a connection is told by who serves its requests.
pub struct Accepted {
    /// Its handler does not stop before its first request has begun: to be dropped then, or when none comes.
    pub expected: Box<dyn Send + Sync>,
    /// Ends when its handler stops: what has begun is answered, and nothing more.
    pub closing: BoxFuture<'static, ()>,
}

/// Where one balanced connection or request goes.
#[derive(Clone)]
pub enum Endpoint {
    /// A component of a wasm http pod of this node, called without a socket.
    Local(Arc<dyn Handler>),
    /// A port on which a wasm pod of this node listens: connections are handed to its accept queue.
    Listener(Arc<AcceptQueue>),
    /// A port of a pod of another node, reached through that node.
    Peer(Peer),
    /// Something that listens elsewhere: a node, or a foreign host.
    Remote(SocketAddr),
}

impl Endpoint {
    /// Where it is, if it may be found to be gone when it is connected to.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Local(_) => None,
            Self::Listener(queue) => Some(queue.address()),
            Self::Peer(peer) => Some(peer.address),
            Self::Remote(address) => Some(*address),
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(_) => f.write_str("Local"),
            Self::Listener(queue) => f.debug_tuple("Listener").field(&queue.address()).finish(),
            Self::Peer(peer) => f.debug_tuple("Peer").field(&peer.node.name).field(&peer.address).finish(),
            Self::Remote(address) => f.debug_tuple("Remote").field(address).finish(),
        }
    }
}

/// Who is on a pod's end of a connection. Policy is decided by this identity, never by packets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PodIdentity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The pod's address as the API shows it.
    pub ip: IpAddr,
    pub service_account: String,
}
