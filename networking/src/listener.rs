//! A pod's listening port without a socket: connections made in this process are handed over whole.
//!
//! Two pods can both listen on `0.0.0.0:8080`, because a port belongs to a pod's address and not to the host. A connection
//! that did arrive on a socket (a node port) is handed to the pod as that socket: nobody copies its bytes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::registry::Registration;
use crate::stream::Stream;

/// Connections that wait in front of one listening port before further ones have to wait outside.
const ACCEPT_BACKLOG: usize = 128;
/// How long a connection waits for a place in a full backlog.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection as its acceptor sees it.
#[derive(Debug)]
pub struct Incoming {
    pub stream: Stream,
    /// The other end's address.
    pub peer: SocketAddr,
}

/// The sending side of a pod's listening port.
#[derive(Debug)]
pub struct AcceptQueue {
    address: SocketAddr,
    /// Bound to the pod's loopback address: only the pod itself may connect.
    private: bool,
    connections: mpsc::Sender<Incoming>,
}

impl AcceptQueue {
    /// The pod address and port that this queue stands for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a client at `from` may connect.
    pub(crate) fn admits(&self, from: Option<IpAddr>) -> bool {
        !self.private || from == Some(self.address.ip())
    }

    /// Hands a connection to the pod. Errors: `ConnectionRefused` when the pod has closed the port, `TimedOut` when it does
    /// not accept.
    pub async fn hand_over(&self, incoming: Incoming) -> io::Result<()> {
        match self.connections.send_timeout(incoming, HANDOVER_TIMEOUT).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(io::ErrorKind::ConnectionRefused.into()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A pod's listening port. Dropping it closes the port; connections not yet accepted are closed with it.
#[derive(Debug)]
pub struct PodListener {
    address: SocketAddr,
    connections: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    _registration: Registration,
}

impl PodListener {
    pub(crate) fn new(connections: mpsc::Receiver<Incoming>, address: SocketAddr, registration: Registration) -> Self {
        Self { address, connections: tokio::sync::Mutex::new(connections), _registration: registration }
    }

    /// The pod's address and the port that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, in order of arrival. Cancel safe.
    pub async fn accept(&self) -> io::Result<Incoming> {
        let mut connections = self.connections.lock().await;
        connections.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// Both sides of a listening port at `address`.
pub(crate) fn accept_queue(address: SocketAddr, private: bool) -> (AcceptQueue, mpsc::Receiver<Incoming>) {
    let (connections, receiver) = mpsc::channel(ACCEPT_BACKLOG);
    (AcceptQueue { address, private, connections }, receiver)
}
