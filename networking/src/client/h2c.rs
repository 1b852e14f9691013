//! HTTP/2 by prior knowledge, to backends of which `appProtocol: kubernetes.io/h2c` says that they speak it (gRPC): one
//! connection to each, which its requests share.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;

use super::{Dialer, IDLE_TIMEOUT, Io, Pooled, SendError, Unanswered, name_host};
use crate::endpoint::Body;

/// A backend that is silent for so long is asked for a sign of life, and given as long again to send one.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The open connections, by the endpoint that they lead to.
pub(super) struct Connections {
    dialer: Dialer,
    open: Arc<Mutex<ByEndpoint>>,
}

type ByEndpoint = HashMap<SocketAddr, Open>;

struct Open {
    sender: SendRequest<Body>,
    used: Instant,
}

impl Connections {
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, open: Arc::default() }
    }

    /// Sends a request whose `Host` says for whom it is. One that an ending connection did not take gets a new one.
    pub async fn send(
        &self,
        address: SocketAddr,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Unanswered> {
        if let Some(mut sender) = self.known(address) {
            prepare(&mut request)?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(again) => request = again,
                    None => return Err(SendError::failed(address, error.into_error()).into()),
                },
            }
        }
        let mut sender = match self.connect(address).await {
            Ok(sender) => sender,
            Err(error) => return Err(Unanswered::unseen(request, address, error)),
        };
        prepare(&mut request)?;
        Ok(sender.send_request(request).await.map_err(|error| SendError::failed(address, error))?)
    }

    fn known(&self, address: SocketAddr) -> Option<SendRequest<Body>> {
        let mut open = lock(&self.open);
        let known = open.get_mut(&address).filter(|known| !known.sender.is_closed())?;
        known.used = Instant::now();
        Some(known.sender.clone())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<SendRequest<Body>> {
        let uri = Pooled { address, tls: None }.to_uri(&Uri::default()).ok_or(io::ErrorKind::InvalidInput)?;
        let io = self.dialer.clone().dial(uri).await?;
        let sender = begin(io).await?;
        lock(&self.open).insert(address, Open { sender: sender.clone(), used: Instant::now() });
        tokio::spawn(expire(Arc::downgrade(&self.open), address, IDLE_TIMEOUT));
        Ok(sender)
    }
}

fn lock(open: &Mutex<ByEndpoint>) -> MutexGuard<'_, ByEndpoint> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a connection up once nobody has used it for this time; it ends with what is still under way.
async fn expire(open: Weak<Mutex<ByEndpoint>>, address: SocketAddr, idle: Duration) {
    let mut until = Instant::now() + idle;
    loop {
        tokio::time::sleep_until(until).await;
        let Some(open) = open.upgrade() else { return };
        let mut open = lock(&open);
        let Some(known) = open.get(&address) else { return };
        until = known.used + idle;
        if until <= Instant::now() {
            open.remove(&address);
            return;
        }
    }
}

/// Makes of a request that says for whom it is one of HTTP/2, if it is none yet.
pub(super) fn prepare(request: &mut Request<Body>) -> Result<(), SendError> {
    name_host(request)?;
    let host = request.headers_mut().remove(HOST).ok_or(SendError::NoHost)?;
    *request.uri_mut() = target(request.uri(), &host).ok_or(SendError::NoHost)?;
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}

/// Begins HTTP/2 on a connection, which ends with its last sender and request.
pub(super) async fn begin(io: impl Io + 'static) -> io::Result<SendRequest<Body>> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
    let begun = builder.handshake(TokioIo::new(io)).await;
    let (sender, connection) = begun.map_err(|error| io::Error::new(io::ErrorKind::ConnectionAborted, error))?;
    tokio::spawn(connection);
    Ok(sender)
}

/// The request's own path at the host that it names.
fn target(uri: &Uri, host: &HeaderValue) -> Option<Uri> {
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build().ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_nobody_uses_is_given_up() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let (open, address) = (Arc::<Mutex<ByEndpoint>>::default(), SocketAddr::from(([10, 64, 0, 2], 80)));
        let sender = begin(near).await.unwrap();
        lock(&open).insert(address, Open { sender, used: Instant::now() });
        expire(Arc::downgrade(&open), address, Duration::from_millis(10)).await;
        assert!(lock(&open).is_empty());
        far.read_to_end(&mut Vec::new()).await.unwrap();
    }
}
