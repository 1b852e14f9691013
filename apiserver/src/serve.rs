//! The API server's port: TLS, then HTTP/2 or HTTP/1.1, each connection within bounds.
//!
//! A connection is one task, and of HTTP/2 each request in flight one more. What is known about a connection (address,
//! certificates) is gathered once, in its [`Peer`]; a request costs the shared pointer to it and nothing else here. The
//! protocol is what TLS agreed on (ALPN), so no bytes are sniffed, and HTTP/1.1 connections can be upgraded (exec,
//! port-forward).

mod cork;
mod streams;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use cork::Cork;
use futures::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use streams::Streams;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::ApiServer;
use crate::body::{Body, BodyError};
use crate::bootstrap;
use crate::effects;
use crate::identity::{Connection, Peer};
use crate::kubernetes_service;

/// What one client, and all of them together, may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's accept queue.
    pub connections: usize,
    /// A client that has not finished the TLS handshake by then is dropped.
    pub handshake_ms: u64,
    /// A client that has not sent a whole HTTP/1.1 request header by then is dropped; idle connections too.
    pub header_ms: u64,
    /// A request's header, all fields together.
    pub header_bytes: u32,
    /// Requests at once on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// An HTTP/2 connection that answers no ping for this long (sent after as long a silence) is dropped.
    pub ping_ms: u64,
    /// How long requests in flight may take to end once the server stops.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 16_384,
            handshake_ms: 10_000,
            header_ms: 60_000,
            header_bytes: 128 * 1024,
            streams_per_connection: 250,
            ping_ms: 30_000,
            drain_ms: 1_000,
        }
    }
}

/// Request bodies in flight: what a stream, and a connection's streams together, may send ahead of being read.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// How long to leave the listener alone when the process is out of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 50;

impl ApiServer {
    /// Serves `listener` until `shutdown` is done, as an endpoint of the Service `kubernetes`; then takes no more
    /// connections, lets requests in flight finish within [`Limits::drain_ms`], and returns.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let server = self.clone();
        let handler = move |request: Request<Incoming>, peer: Peer| {
            let server = server.clone();
            async move { server.handle(request.map(Body::from), peer).await }
        };
        let shutdown = async {
            tokio::select! {
                () = shutdown => {}
                () = kubernetes_service::stay(&self) => {}
                () = bootstrap::keep(&self) => {}
                () = bootstrap::service_cidr::keep(&self) => {}
                () = effects::keep_node_ports(&self) => {}
            }
            kubernetes_service::leave(&self).await;
        };
        serve(listener, tls, Limits::default(), handler, shutdown).await
    }
}

/// `handler` answers one request of a peer.
async fn serve<H, R>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    limits: Limits,
    handler: H,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()>
where
    H: Fn(Request<Incoming>, Peer) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let port = Arc::new(Port { acceptor: TlsAcceptor::from(tls), limits, handler });
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let room = connections.len() < port.limits.connections;
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if room => match accepted {
                Ok((stream, address)) => {
                    let (port, stopping) = (port.clone(), stopping.clone());
                    connections.spawn(async move { port.connection(stream, address, stopping).await });
                }
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            },
        }
    }
    drop(listener);
    stop.send_replace(true);
    let drain = async { while connections.join_next().await.is_some() {} };
    if timeout(Duration::from_millis(port.limits.drain_ms), drain).await.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

/// What all connections share.
struct Port<H> {
    acceptor: TlsAcceptor,
    limits: Limits,
    handler: H,
}

impl<H, R> Port<H>
where
    H: Fn(Request<Incoming>, Peer) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    async fn connection(&self, stream: TcpStream, address: SocketAddr, stopping: watch::Receiver<bool>) {
        // Small answers must not wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let handshake = timeout(Duration::from_millis(self.limits.handshake_ms), self.acceptor.accept(stream));
        let stream = match handshake.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return debug!(%address, %error, "TLS handshake failed"),
            Err(_) => return debug!(%address, "TLS handshake took too long"),
        };
        let (_, session) = stream.get_ref();
        let http2 = session.alpn_protocol() == Some(b"h2");
        let certificates = session.peer_certificates().unwrap_or_default().to_vec();
        let peer = Peer::new(Connection { address: Some(address), certificates, ..Connection::default() });
        let ended =
            if http2 { self.http2(stream, peer, stopping).await } else { self.http1(stream, peer, stopping).await };
        if let Err(error) = ended {
            debug!(%address, %error, "connection ended");
        }
    }

    async fn http2(
        &self,
        stream: TlsStream<TcpStream>,
        peer: Peer,
        stopping: watch::Receiver<bool>,
    ) -> Result<(), BodyError> {
        let ping = Duration::from_millis(self.limits.ping_ms);
        let (cork, streams) = (Cork::new(stream), Streams::default());
        // A request that its client gives up is dropped.
        let respond = |request| AbortOnDropHandle::new(tokio::spawn((self.handler)(request, peer.clone())));
        let connection = http2::Builder::new(streams.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams_per_connection)
            .max_header_list_size(self.limits.header_bytes)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(ping)
            .keep_alive_timeout(ping)
            .serve_connection(TokioIo::new(cork.clone()), service_fn(respond));
        let connection = async {
            let mut connection = pin!(connection);
            until_stopped(connection.as_mut(), stopping, |connection| connection.graceful_shutdown()).await
        };
        streams.run(connection, cork).await
    }

    async fn http1(
        &self,
        stream: TlsStream<TcpStream>,
        peer: Peer,
        stopping: watch::Receiver<bool>,
    ) -> Result<(), BodyError> {
        // Not an async block: that would hold the handler's state twice.
        let respond = |request| (self.handler)(request, peer.clone()).map(Ok::<_, Infallible>);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(self.limits.header_ms))
            .max_header_size(self.limits.header_bytes as usize)
            .serve_connection(TokioIo::new(stream), service_fn(respond))
            .with_upgrades();
        let mut connection = pin!(connection);
        Ok(until_stopped(connection.as_mut(), stopping, |connection| connection.graceful_shutdown()).await?)
    }
}

/// Runs a connection to its end; when the server stops meanwhile, tells it to take no further requests.
async fn until_stopped<C>(
    mut connection: Pin<&mut C>,
    mut stopping: watch::Receiver<bool>,
    finish: impl FnOnce(Pin<&mut C>),
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::select! {
        ended = connection.as_mut() => return ended,
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    finish(connection.as_mut());
    connection.await
}

#[cfg(test)]
mod tests;
