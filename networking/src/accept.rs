//! Accepting connections: a bounded number, until told to stop, and then a while for those that are open to end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections open at one listener. Further ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 8192;
/// How long open connections have to end when their listener stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to set up TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A pause after a failed accept: out of file descriptors, say, which does not pass by trying.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// Calls `serve` for every connection, each in a task of its own, until `stop`; then waits for them, but not for long.
pub(crate) async fn connections<F>(
    listener: TcpListener,
    stop: CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &permits) => match accepted {
                Ok((socket, peer, permit)) => {
                    let served = serve(socket, peer);
                    connections.spawn(async move {
                        served.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    // Those left over are aborted with the set.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
}

/// Sets up TLS with a client that has connected, if it does its part in time.
pub(crate) async fn tls(acceptor: &TlsAcceptor, socket: TcpStream, peer: SocketAddr) -> Option<TlsStream<TcpStream>> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => debug!(%peer, "TLS handshake took too long"),
    }
    None
}

/// The permit comes first, so that no connection is accepted that cannot be served.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (socket, peer) = listener.accept().await?;
    socket.set_nodelay(true)?;
    Ok((socket, peer, permit))
}
