//! HTTP/2 by prior knowledge, to backends of which `appProtocol: kubernetes.io/h2c` says that they speak it (gRPC): one
//! connection to each, which its requests share.

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use std::{fmt, io};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
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

/// The connections, by the endpoint that they lead to.
pub(super) struct Connections {
    dialer: Dialer,
    open: Arc<Mutex<ByEndpoint>>,
}

type ByEndpoint = HashMap<SocketAddr, Open>;

struct Open {
    connecting: Connecting,
    used: Instant,
}

/// A connection that is made or has been, once for all who want it.
type Connecting = Shared<BoxFuture<'static, Result<SendRequest<Body>, NotMade>>>;

/// Why it was not, as all of them are told.
#[derive(Clone, Debug)]
struct NotMade(Arc<io::Error>);

impl fmt::Display for NotMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for NotMade {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

impl Open {
    /// Whether requests may still be sent over it, as far as is known.
    fn is_usable(&self) -> bool {
        self.connecting.peek().is_none_or(|made| made.as_ref().is_ok_and(|sender| !sender.is_closed()))
    }
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
        let mut ended = None;
        loop {
            let (connecting, is_new) = self.connection(address, ended.as_ref());
            let mut sender = match connecting.clone().await {
                Ok(sender) => sender,
                Err(error) => return Err(Unanswered::unseen(request, address, error)),
            };
            prepare(&mut request)?;
            let mut error = match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match error.take_message().filter(|_| !is_new && ended.is_none()) {
                Some(again) => (request, ended) = (again, Some(connecting)),
                None => return Err(SendError::failed(address, error.into_error()).into()),
            }
        }
    }

    /// The connection to an endpoint, other than one that has ended; whether it is made only now.
    fn connection(&self, address: SocketAddr, ended: Option<&Connecting>) -> (Connecting, bool) {
        let mut open = lock(&self.open);
        let known = open.get_mut(&address).filter(|known| known.is_usable());
        if let Some(known) = known.filter(|known| ended.is_none_or(|ended| !known.connecting.ptr_eq(ended))) {
            known.used = Instant::now();
            return (known.connecting.clone(), false);
        }
        let made = connect(self.dialer.clone(), address).map(|made| made.map_err(|error| NotMade(Arc::new(error))));
        let connecting = made.boxed().shared();
        let replaced = open.insert(address, Open { connecting: connecting.clone(), used: Instant::now() });
        if replaced.is_none() {
            tokio::spawn(expire(Arc::downgrade(&self.open), address, IDLE_TIMEOUT));
        }
        // Whoever leaves meanwhile leaves it to the others.
        tokio::spawn(connecting.clone());
        (connecting, true)
    }
}

async fn connect(dialer: Dialer, address: SocketAddr) -> io::Result<SendRequest<Body>> {
    let uri = Pooled { address, tls: None }.to_uri(&Uri::default()).ok_or(io::ErrorKind::InvalidInput)?;
    begin(dialer.dial(uri).await?).await
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
        let connecting = futures::future::ready(begin(near).await.map_err(|error| NotMade(Arc::new(error))));
        lock(&open).insert(address, Open { connecting: connecting.boxed().shared(), used: Instant::now() });
        expire(Arc::downgrade(&open), address, Duration::from_millis(10)).await;
        assert!(lock(&open).is_empty());
        far.read_to_end(&mut Vec::new()).await.unwrap();
    }
}
