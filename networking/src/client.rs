//! HTTP requests that leave a pod: in process when the endpoint is a component of this node, pooled connections otherwise.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use http::uri::{Authority, Scheme};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::dns::Lookup;
use crate::endpoint::{Body, Endpoint, PodIdentity};
use crate::network::{Network, Refused};
use crate::stream::Stream;

/// Connections kept open to one endpoint while nothing uses them.
const MAX_IDLE_PER_ENDPOINT: usize = 64;
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("the request's URI names no host")]
    NoHost,
    #[error("scheme {0} is not supported")]
    Scheme(String),
    #[error("no address is known for {0}")]
    NoSuchName(String),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the request to {endpoint} failed")]
    Failed { endpoint: String, source: hyper_util::client::legacy::Error },
}

/// The pool of connections to endpoints outside this process, and to pods that listen by themselves.
pub(crate) struct Client {
    pool: Pool<Dialer, Body>,
}

impl Client {
    pub fn new(network: Weak<Network>, _tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_ENDPOINT)
            .build(Dialer { network });
        Self { pool }
    }

    pub async fn send(
        &self,
        network: &Network,
        from: Option<&PodIdentity>,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, SendError> {
        if request.uri().scheme() != Some(&Scheme::HTTP) {
            return Err(SendError::Scheme(request.uri().scheme_str().unwrap_or("(none)").to_owned()));
        }
        let authority = request.uri().authority().ok_or(SendError::NoHost)?;
        let port = authority.port_u16().unwrap_or(80);
        let ip = resolve(network, from, authority).await?;
        let dst = SocketAddr::new(ip, port);
        match network.select(from, dst)? {
            Endpoint::Local(handler) => Ok(handler.call(request).await),
            Endpoint::Listener(queue) => self.pooled(queue.address(), request).await,
            Endpoint::Remote(address) => self.pooled(address, request).await,
        }
    }

    async fn pooled(
        &self,
        address: SocketAddr,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Body>, SendError> {
        let endpoint = address.to_string();
        if !request.headers().contains_key(http::header::HOST)
            && let Some(authority) = request.uri().authority()
            && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.authority = endpoint.parse::<Authority>().ok();
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| SendError::NoHost)?;
        match self.pool.request(request).await {
            Ok(response) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
            Err(source) => Err(SendError::Failed { endpoint, source }),
        }
    }
}

async fn resolve(network: &Network, from: Option<&PodIdentity>, authority: &Authority) -> Result<IpAddr, SendError> {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let namespace = from.map_or("default", |pod| pod.namespace.as_str());
    let missing = || SendError::NoSuchName(host.to_owned());
    let foreign = match network.lookup_host(namespace, host) {
        Lookup::Addresses(addresses) => return addresses.first().copied().ok_or_else(missing),
        Lookup::NoSuchName => return Err(missing()),
        Lookup::Alias(name) => name,
        Lookup::NotCluster => host.to_owned(),
    };
    let mut found = tokio::net::lookup_host((foreign.as_str(), 0)).await.map_err(|_| missing())?;
    found.next().map(|address| address.ip()).ok_or_else(missing)
}

/// Opens the pool's connections. By then the request's URI holds the endpoint's own address.
#[derive(Clone)]
struct Dialer {
    network: Weak<Network>,
}

impl tower_service::Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let network = self.network.upgrade();
        Box::pin(async move {
            let network = network.ok_or(io::ErrorKind::NotConnected)?;
            let address = uri.authority().and_then(|a| a.as_str().parse::<SocketAddr>().ok());
            let address = address.ok_or(io::ErrorKind::InvalidInput)?;
            Ok(TokioIo::new(network.connect(None, address).await?))
        })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
