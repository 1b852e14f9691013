//! A pod's listening port without a socket: connections made in this process are handed over whole.
//!
//! Two pods can both listen on `0.0.0.0:8080`, because a port belongs to a pod's address and not to the host. A connection
//! that did arrive on a socket (a node port) is handed to the pod as that socket: nobody copies its bytes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

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
    /// To be kept for as long as the acceptor has the connection.
    pub open: Open,
}

/// How many connections are open that came in by one port: those that wait to be accepted, and those that were.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(Arc<watch::Sender<usize>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Open(OpenConnections);

impl OpenConnections {
    pub fn is_none(&self) -> bool {
        *self.0.borrow() == 0
    }

    /// Waits until there are none.
    pub async fn none(&self) {
        // The sender is this one's own.
        let _ = self.0.subscribe().wait_for(|open| *open == 0).await;
    }

    fn one_more(&self) -> Open {
        self.0.send_modify(|open| *open += 1);
        Open(self.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

/// The sending side of a pod's listening port.
#[derive(Debug)]
pub struct AcceptQueue {
    address: SocketAddr,
    /// Bound to the pod's loopback address: only the pod itself may connect.
    private: bool,
    connections: mpsc::Sender<Incoming>,
    open: OpenConnections,
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
    pub async fn hand_over(&self, stream: Stream, peer: SocketAddr) -> io::Result<()> {
        let incoming = Incoming { stream, peer, open: self.open.one_more() };
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
    /// Kept, so that whoever accepts waits at a closed port, and is not told that there is none.
    queue: Arc<AcceptQueue>,
    connections: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    /// Until it is closed.
    registration: Mutex<Option<Registration>>,
}

impl PodListener {
    pub(crate) fn new(
        queue: Arc<AcceptQueue>,
        connections: mpsc::Receiver<Incoming>,
        registration: Registration,
    ) -> Self {
        let connections = tokio::sync::Mutex::new(connections);
        Self { queue, connections, registration: Mutex::new(Some(registration)) }
    }

    /// The pod's address and the port that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.queue.address
    }

    /// Refuses whoever connects from now on. Connections that were made before are still accepted.
    pub fn close(&self) {
        self.registration.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Those by this port.
    pub fn open_connections(&self) -> OpenConnections {
        self.queue.open.clone()
    }

    /// The next connection, in order of arrival. Cancel safe.
    pub async fn accept(&self) -> io::Result<Incoming> {
        let mut connections = self.connections.lock().await;
        connections.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// Both sides of a listening port at `address`.
pub(crate) fn accept_queue(address: SocketAddr, private: bool) -> (Arc<AcceptQueue>, mpsc::Receiver<Incoming>) {
    let (connections, receiver) = mpsc::channel(ACCEPT_BACKLOG);
    let queue = AcceptQueue { address, private, connections, open: OpenConnections::default() };
    (Arc::new(queue), receiver)
}
