//! HTTP requests that leave a pod or the ingress: in process when the endpoint is a component of this node, pooled
//! connections otherwise.

mod destination;
mod h2c;
mod kept;
mod once;
mod share;
mod single;
mod trust;

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::destination::{Destination, Pooled};
pub(crate) use self::destination::{host_and_port, port_of};
use self::kept::Kept;
pub(crate) use self::share::Arriving;
use self::share::Shares;
use self::single::Single;
use self::trust::{Connectors, InClear};
pub use self::trust::{Tls, Trust};
use crate::attempts::Attempts;
use crate::dns::Meaning;
use crate::endpoint::{Body, BodyError, Endpoint, Handler, PodIdentity};
use crate::network::{Network, Refused};
use crate::origin::Origin;
use crate::peers::Peer;
use crate::service::AppProtocol;
use crate::{headers, serve};

/// Connections open to all endpoints together, but for those of HTTP/2: as many as there are requests, besides unused ones.
const MAX_CONNECTIONS: usize = share::MAX_REQUESTS + MAX_KEPT_CONNECTIONS;
/// Those of them that may serve a second request. Others end with their first, so that unused ones leave most to be had.
const MAX_KEPT_CONNECTIONS: usize = 1024;
/// Connections of HTTP/2, which many requests share.
const MAX_H2C_CONNECTIONS: usize = 1024;
/// Connections kept open to one endpoint while nothing uses them.
const MAX_IDLE_PER_ENDPOINT: usize = 64;
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("the request's URI names no host")]
    NoHost,
    #[error("{0} is not a port")]
    NoPort(String),
    #[error("scheme {0} is not supported")]
    Scheme(String),
    #[error("no address is known for {0}")]
    NoSuchName(String),
    #[error("no NetworkPolicy allows to ask cluster DNS for {0}")]
    NoResolver(String),
    #[error("http: server gave HTTP response to HTTPS client")]
    InClear,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the request to {endpoint} failed")]
    Failed { endpoint: SocketAddr, source: BodyError },
}

/// An extension of a request: the addresses of its host, where they are known to the one who sends it.
#[derive(Clone, Debug)]
pub struct HostAddresses(pub Vec<IpAddr>);

/// An extension of a request: with `https`, whoever answers is believed, as the kubelet's probes and hooks do.
#[derive(Clone, Copy, Debug)]
pub struct AnyCertificate;

/// An extension of a request that the node makes for a pod, such as its probe: this is its address. Pods' probes do not wait
/// for those of other pods.
#[derive(Clone, Copy, Debug)]
pub struct About(pub IpAddr);

impl SendError {
    fn failed(endpoint: SocketAddr, source: impl Into<BodyError>) -> Self {
        let source = source.into();
        match is_in_clear(&*source) {
            true => Self::InClear,
            false => Self::Failed { endpoint, source },
        }
    }
}

/// Whether a connection failed because the other side does not speak TLS.
fn is_in_clear(error: &(dyn Error + 'static)) -> bool {
    let of_io = |error: &(dyn Error + 'static)| {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(<dyn Error + Send + Sync>::is::<InClear>)
    };
    std::iter::successors(Some(error), |&error| error.source()).any(of_io)
}

/// Where a client's request goes on.
pub(crate) enum To<'a> {
    /// An address, by a connection that may have served others.
    Address(SocketAddr, Origin<'a>),
    /// A pod of another node, which is to know for whom the request is.
    Peer(Peer, Origin<'a>),
}

impl<'a> To<'a> {
    /// Where an endpoint is; a component of this node is not elsewhere, and answers itself.
    pub fn of(endpoint: Endpoint, origin: Origin<'a>) -> Result<Self, Arc<dyn Handler>> {
        match endpoint {
            Endpoint::Local(handler) => Err(handler),
            Endpoint::Listener(queue) => Ok(Self::Address(queue.address(), origin)),
            Endpoint::Peer(peer) => Ok(Self::Peer(peer, origin)),
            Endpoint::Remote(address) => Ok(Self::Address(address, origin)),
        }
    }
}

/// A request that got no answer.
pub(crate) enum Unanswered {
    /// Its endpoint was not reached, and has seen nothing of it.
    Unseen {
        request: Box<Request<Body>>,
        endpoint: SocketAddr,
        error: SendError,
    },
    Failed(SendError),
}

impl Unanswered {
    fn unseen(request: Request<Body>, endpoint: SocketAddr, source: impl Into<BodyError>) -> Self {
        Self::Unseen { request: Box::new(request), endpoint, error: SendError::failed(endpoint, source) }
    }

    /// The request again, where another endpoint may be tried, with what is said when there is none.
    pub fn again(self, attempts: &mut Attempts) -> Result<(Request<Body>, SendError), SendError> {
        match self {
            Self::Unseen { request, endpoint, error } if attempts.go_on_after(endpoint, &error) => {
                Ok((*request, error))
            }
            Self::Unseen { error, .. } | Self::Failed(error) => Err(error),
        }
    }
}

impl From<SendError> for Unanswered {
    fn from(error: SendError) -> Self {
        Self::Failed(error)
    }
}

/// The connections to endpoints outside this process, and to pods that listen by themselves.
pub(crate) struct Client {
    pool: Pool<Dialer, Body>,
    shares: Shares,
    h2c: h2c::Connections,
    tls: Arc<Connectors>,
}

impl Client {
    pub fn new(network: Weak<Network>, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let tls = Arc::new(Connectors::new(tls));
        let dialer = Dialer { network, tls: tls.clone(), permits };
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_ENDPOINT)
            .build(dialer.clone());
        let h2c = Dialer { permits: Arc::new(Semaphore::new(MAX_H2C_CONNECTIONS)), ..dialer };
        Self { pool, shares: Shares::default(), h2c: h2c::Connections::new(h2c), tls }
    }

    /// See [`Network::trust_cluster`].
    pub fn trust_cluster(&self, tls: Arc<rustls::ClientConfig>) {
        self.tls.trust_cluster(tls);
    }

    /// Sends a request of a pod to where its URI points.
    pub async fn send(
        &self,
        network: &Network,
        from: Option<&PodIdentity>,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, SendError> {
        let known = request.extensions_mut().remove::<HostAddresses>().map(|known| known.0);
        let any_certificate = request.extensions_mut().remove::<AnyCertificate>().is_some();
        let Destination { host, port, secure } = Destination::of(request.uri())?;
        let addresses = match known {
            Some(known) => known,
            None => addresses(network, from, &host).await?,
        };
        let (mut attempts, mut failed) = (Attempts::default(), None);
        loop {
            let (at, endpoint) = match find(network, from, &addresses, port, &attempts).await {
                Ok(found) => found,
                Err(refused) => {
                    let refused = || refused.map_or_else(|| SendError::NoSuchName(host.clone()), SendError::from);
                    return Err(failed.unwrap_or_else(refused));
                }
            };
            let trust = match network.is_api_server(at) {
                _ if any_certificate => Trust::Anybody,
                true => Trust::Cluster,
                false => Trust::Machine,
            };
            let tls = secure.then_some(Tls { name: &host, trust });
            let to = match To::of(endpoint, from.into()) {
                Ok(to) => to,
                // A component speaks HTTP, not TLS.
                Err(_) if secure => return Err(SendError::InClear),
                Err(component) => return Ok(component.call(request).await),
            };
            headers::remove_hop_by_hop(request.headers_mut());
            match self.exchange(network, to, tls, request).await {
                Ok(response) => return Ok(response.map(serve::body)),
                Err(unanswered) => {
                    let (again, error) = unanswered.again(&mut attempts)?;
                    (request, failed) = (again, Some(error));
                }
            }
        }
    }

    async fn exchange(
        &self,
        network: &Network,
        to: To<'_>,
        tls: Option<Tls<'_>>,
        request: Request<Body>,
    ) -> Result<Response<Arriving>, Unanswered> {
        match to {
            To::Address(address, origin) => {
                let share = self.shares.take(origin, request.extensions().get().copied()).await;
                let request = request.map(|body| share::leaving(body, &share));
                match self.pooled(address, tls, request).await {
                    Ok(mut response) => {
                        let single = response.extensions_mut().remove::<Single>();
                        Ok(Arriving::of(response, Some((share, single))))
                    }
                    Err(unanswered) => {
                        // What comes back is sent again, and takes another.
                        share.give_back();
                        Err(unanswered)
                    }
                }
            }
            To::Peer(peer, origin) => Ok(Arriving::of(self.once(network, origin, peer, tls, request).await?, None)),
        }
    }

    /// Sends a request on behalf of a client outside; its hop-by-hop headers are gone already. With `upgrade` it asks to
    /// change to that protocol, and a response of 101 can be taken over.
    pub async fn forward(
        &self,
        network: &Network,
        protocol: AppProtocol,
        to: To<'_>,
        mut request: Request<Body>,
        upgrade: Option<HeaderValue>,
    ) -> Result<Response<Arriving>, Unanswered> {
        if protocol == AppProtocol::H2c {
            let answer = match to {
                To::Address(address, _) => self.h2c.send(address, request).await?,
                To::Peer(peer, origin) => self.once_h2c(network, origin, peer, request).await?,
            };
            return Ok(Arriving::of(answer, None));
        }
        // The connection to the backend has a version of its own.
        *request.version_mut() = http::Version::HTTP_11;
        if let Some(protocol) = upgrade {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(UPGRADE, protocol);
        }
        self.exchange(network, to, None, request).await
    }

    async fn pooled(
        &self,
        address: SocketAddr,
        tls: Option<Tls<'_>>,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Unanswered> {
        name_host(&mut request)?;
        let uri = Pooled { address, tls }.to_uri(request.uri()).ok_or(SendError::NoHost)?;
        let (mut request, kept) = Kept::of(request);
        *request.uri_mut() = uri;
        match self.pool.request(request).await {
            Ok(response) => Ok(received(response)),
            Err(error) => match kept.unread().filter(|_| error.is_connect()) {
                Some(request) => Err(Unanswered::unseen(request, address, error)),
                None => Err(SendError::failed(address, error).into()),
            },
        }
    }
}

/// An answer without what it says about its connection, unless that changes to another protocol.
fn received(mut response: Response<Incoming>) -> Response<Incoming> {
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        headers::remove_hop_by_hop(response.headers_mut());
    }
    response
}

/// Says in `Host` for whom a request is, where nobody has said it.
fn name_host(request: &mut Request<Body>) -> Result<(), SendError> {
    if !request.headers().contains_key(HOST) {
        let authority = request.uri().authority().ok_or(SendError::NoHost)?;
        let host = HeaderValue::from_str(host_and_port(authority)).map_err(|_| SendError::NoHost)?;
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

/// Where a host's addresses and a port lead: the first that somebody listens on and that was not tried, beginning anywhere,
/// and who does. Errors: why not, unless there is no address.
async fn find(
    network: &Network,
    from: Option<&PodIdentity>,
    addresses: &[IpAddr],
    port: u16,
    attempts: &Attempts,
) -> Result<(SocketAddr, Endpoint), Option<Refused>> {
    let start = (rand::random::<u32>() as usize).checked_rem(addresses.len()).unwrap_or(0);
    let mut refused = None;
    for ip in addresses.iter().cycle().skip(start).take(addresses.len()) {
        let at = SocketAddr::new(*ip, port);
        match network.settle(|| network.select_from(from.into(), at, attempts)).await {
            Ok(endpoint) => return Ok((at, endpoint)),
            Err(why) => refused = Some(why),
        }
    }
    Err(refused)
}

/// The addresses of a host.
async fn addresses(network: &Network, from: Option<&PodIdentity>, host: &str) -> Result<Vec<IpAddr>, SendError> {
    let missing = || SendError::NoSuchName(host.to_owned());
    // Nobody is asked for that (RFC 6761, section 6.3).
    if host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    let namespace = from.map_or("default", |pod| pod.namespace.as_str());
    match network.lookup_host(namespace, host) {
        Meaning::Addresses(addresses) => Ok(addresses),
        Meaning::NoSuchName => Err(missing()),
        Meaning::Outside(_) if from.is_some_and(|pod| !network.may_resolve(pod)) => {
            Err(SendError::NoResolver(host.to_owned()))
        }
        Meaning::Outside(name) => resolve(&name).await.map_err(|_| missing()),
    }
}

async fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

/// Opens the pool's connections. By then it is decided where they go: see [`Pooled`].
#[derive(Clone)]
struct Dialer {
    network: Weak<Network>,
    tls: Arc<Connectors>,
    permits: Arc<Semaphore>,
}

impl Dialer {
    async fn dial(self, uri: Uri) -> io::Result<Dialed> {
        let network = self.network.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let Pooled { address, tls } = Pooled::from_uri(&uri).ok_or(io::ErrorKind::InvalidInput)?;
        let permits = self.permits.clone();
        let permit = self.permits.acquire_owned().await.map_err(io::Error::other)?;
        let is_kept = MAX_CONNECTIONS - permits.available_permits() <= MAX_KEPT_CONNECTIONS;
        let endpoint = network.endpoint_at(address).ok_or(Refused::NothingListens(address))?;
        let stream = network.open(Origin::Node, endpoint).await?;
        let io = self.tls.begin(tls, stream).await?;
        Ok(Dialed { io, single: (!is_kept).then(|| Single::new(single::PATIENCE)), _permit: permit })
    }
}

impl tower_service::Service<Uri> for Dialer {
    type Response = TokioIo<Dialed>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Dialed>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { Ok(TokioIo::new(dialer.dial(uri).await?)) })
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection of the pool; it counts against the bound as long as it is open.
struct Dialed {
    io: Box<dyn Io>,
    /// Of one that is not kept once its request is answered.
    single: Option<Single>,
    _permit: OwnedSemaphorePermit,
}

impl Dialed {
    /// # Errors
    /// TimedOut, for one that has taken nothing for too long.
    fn writer(&mut self, cx: &Context<'_>) -> io::Result<Pin<&mut Box<dyn Io>>> {
        self.single.as_ref().map_or(Ok(()), |single| single.check(cx))?;
        Ok(Pin::new(&mut self.io))
    }

    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Some(single) = &self.single {
            single.wrote(&polled);
        }
        polled
    }
}

impl Drop for Dialed {
    fn drop(&mut self) {
        if let Some(single) = &self.single {
            single.close();
        }
    }
}

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        let Some(single) = &self.single else { return Connected::new() };
        let connected = Connected::new().extra(single.clone());
        connected.poison();
        connected
    }
}

impl AsyncRead for Dialed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.writer(cx)?.poll_write(cx, buf);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.writer(cx)?.poll_write_vectored(cx, bufs);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer(cx)?.poll_shutdown(cx)
    }
}
