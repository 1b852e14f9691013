//! HTTP/2 by prior knowledge, to backends of which `appProtocol: kubernetes.io/h2c` says that they speak it (gRPC): one
//! connection to each, which its requests share.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::{Dialer, IDLE_TIMEOUT, Io, Pooled, SendError, Unanswered, name_host};
use crate::endpoint::Body;

/// The open connections, by the endpoint that they lead to.
pub(super) struct Connections {
    dialer: Dialer,
    open: Mutex<HashMap<SocketAddr, Open>>,
}

struct Open {
    sender: SendRequest<Body>,
    used: Instant,
}

impl Connections {
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, open: Mutex::default() }
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
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.get_mut(&address).filter(|known| !known.sender.is_closed())?;
        known.used = Instant::now();
        Some(known.sender.clone())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<SendRequest<Body>> {
        let uri = Pooled { address, tls: None }.to_uri(&Uri::default()).ok_or(io::ErrorKind::InvalidInput)?;
        let io = self.dialer.clone().dial(uri).await?;
        let sender = begin(io).await.map_err(|error| io::Error::new(io::ErrorKind::ConnectionAborted, error))?;
        let now = Instant::now();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, known| !known.sender.is_closed() && now.duration_since(known.used) < IDLE_TIMEOUT);
        open.insert(address, Open { sender: sender.clone(), used: now });
        Ok(sender)
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
pub(super) async fn begin(io: impl Io + 'static) -> hyper::Result<SendRequest<Body>> {
    let builder = http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).clone();
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// The request's own path at the host that it names.
fn target(uri: &Uri, host: &HeaderValue) -> Option<Uri> {
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build().ok()
}
