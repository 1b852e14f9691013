//! Opens streams to pods of other nodes, over a few connections to each node.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;

use super::ORIGIN;
use super::nodes::{Node, Peer};
use super::origin::Claim;
use super::path::Carries;
use crate::endpoint::Body;
use crate::stream::Stream;

/// How long connecting to a node may take, TLS included, and how long it may take to open a stream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams on one connection, fewer than the other side takes.
const MAX_STREAMS: usize = 200;
/// Connections to one node; when all are full, streams wait for one to end.
const MAX_CONNECTIONS: usize = 16;
/// How long ago a connection's last stream was opened when it is forgotten that no stream uses: as soon as another is made.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// A node that is silent for so long is asked for a sign of life, and given as long again to send one.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Bytes on their way to this node before its pods have read them: of one stream, and of a connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Enough for any sentence.
const MESSAGE_BYTES: usize = 4096;

/// The connections to other nodes.
#[derive(Default)]
pub(crate) struct Dialer {
    tls: OnceLock<TlsConnector>,
    /// By name of the node.
    nodes: Mutex<HashMap<String, Connections>>,
}

/// The connections to one node.
#[derive(Default)]
struct Connections {
    open: Vec<Connection>,
    /// Held by who makes another, so that those who come at the same time share it.
    making: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone)]
struct Connection {
    address: SocketAddr,
    sender: SendRequest<Body>,
    streams: Arc<Semaphore>,
    /// When a stream was last opened.
    used: Instant,
}

impl Connection {
    fn is_worth_keeping(&self, now: Instant) -> bool {
        let is_used = self.streams.available_permits() < MAX_STREAMS;
        !self.sender.is_closed() && (is_used || now.duration_since(self.used) <= IDLE_TIMEOUT)
    }
}

impl Dialer {
    /// Says how this node speaks TLS to others; until then, no stream is opened.
    pub fn speak(&self, tls: Arc<rustls::ClientConfig>) {
        // Whoever says it first has said it.
        let _ = self.tls.set(TlsConnector::from(tls));
    }

    /// Opens a stream. Errors: `ConnectionRefused`, `TimedOut`, and what dialling gives.
    pub async fn open(&self, claim: Claim, peer: &Peer, carries: Carries) -> io::Result<Stream> {
        let opening = async {
            let (connection, place) = self.connection(&peer.node).await?;
            start(connection, place, claim, peer, carries).await
        };
        tokio::time::timeout(CONNECT_TIMEOUT, opening).await?
    }

    /// A connection with room for a stream.
    async fn connection(&self, node: &Node) -> io::Result<(Connection, OwnedSemaphorePermit)> {
        let address = node.address.ok_or_else(|| refused(format!("node {} has no address", node.name)))?;
        if let Some(found) = self.known(node, address) {
            return found.await;
        }
        let making = self.lock().entry(node.name.clone()).or_default().making.clone();
        let made_alone = making.lock().await;
        if let Some(found) = self.known(node, address) {
            drop(made_alone);
            return found.await;
        }
        let sender = self.connect(node, address).await?;
        let (streams, now) = (Arc::new(Semaphore::new(MAX_STREAMS)), Instant::now());
        let place = streams.clone().try_acquire_owned().map_err(io::Error::other)?;
        let made = Connection { address, sender, streams, used: now };
        self.keep(&node.name, made.clone(), now);
        Ok((made, place))
    }

    /// Keeps a connection for later streams, and forgets those that have had their time.
    fn keep(&self, name: &str, made: Connection, now: Instant) {
        let mut nodes = self.lock();
        nodes.retain(|_, known| {
            known.open.retain(|connection| connection.is_worth_keeping(now));
            !known.open.is_empty() || Arc::strong_count(&known.making) > 1
        });
        nodes.entry(name.to_owned()).or_default().open.push(made);
    }

    /// One with a place that is taken at once, or where one is waited for when there are as many as may be.
    fn known(
        &self,
        node: &Node,
        address: SocketAddr,
    ) -> Option<impl Future<Output = io::Result<(Connection, OwnedSemaphorePermit)>> + use<>> {
        let mut nodes = self.lock();
        let known = &mut nodes.get_mut(&node.name)?.open;
        known.retain(|connection| connection.address == address && !connection.sender.is_closed());
        let are_enough = known.len() >= MAX_CONNECTIONS;
        let roomiest = known.iter_mut().max_by_key(|connection| connection.streams.available_permits())?;
        let streams = roomiest.streams.clone();
        let place = streams.clone().try_acquire_owned().ok();
        if place.is_none() && !are_enough {
            return None;
        }
        roomiest.used = Instant::now();
        let connection = roomiest.clone();
        Some(async move {
            let place = match place {
                Some(place) => place,
                None => streams.acquire_owned().await.map_err(io::Error::other)?,
            };
            Ok((connection, place))
        })
    }

    async fn connect(&self, node: &Node, address: SocketAddr) -> io::Result<SendRequest<Body>> {
        let tls = self.tls.get().ok_or_else(|| refused("this node does not speak to others".to_owned()))?;
        // A node is who its certificate says, whatever address it has.
        let name = ServerName::try_from(node.name.clone()).map_err(io::Error::other)?;
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let io = tls.connect(name, socket).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
        // Ends with its last sender and stream, or with the other node.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Connections>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for a stream, and carries its bytes until both directions have ended.
async fn start(
    mut connection: Connection,
    place: OwnedSemaphorePermit,
    claim: Claim,
    peer: &Peer,
    carries: Carries,
) -> io::Result<Stream> {
    let (near, far) = Stream::pipe();
    let (says, hears) = far.split();
    let uri = Uri::builder().scheme("https").authority(peer.node.name.as_str());
    let uri = uri.path_and_query(carries.path(peer.address)).build().map_err(io::Error::other)?;
    let request = Request::post(uri).header(ORIGIN, claim.to_string());
    let request = request.body(says).map_err(io::Error::other)?;
    // Whatever happened to the connection, the pod has seen nothing.
    let broken = |error| io::Error::new(io::ErrorKind::ConnectionAborted, error);
    let response = connection.sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    tokio::spawn(async move {
        hears.take(response.into_body()).await;
        drop(place);
    });
    Ok(near)
}

async fn refusal(response: Response<Incoming>) -> io::Error {
    let is_allowed = response.status() != StatusCode::FORBIDDEN;
    let body = Limited::new(response.into_body(), MESSAGE_BYTES).collect().await;
    let bytes = body.map(|body| body.to_bytes()).unwrap_or_else(|_| Bytes::new());
    let why = String::from_utf8_lossy(&bytes).trim().to_owned();
    if is_allowed { refused(why) } else { io::Error::new(io::ErrorKind::ConnectionRefused, NotAllowed(why)) }
}

/// The other node does not let the client have the stream, whoever else is asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotAllowed(pub String);

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, why)
}
