//! The way of a connection from outside, top to bottom: accept, TLS, ingress, Service, balance, endpoint.
//!
//! ```text
//!   ingress   accept ─ TLS ─ HTTP ─ per request:    host and path ─ Service ─┐
//!   port      accept ─┬──── HTTP ─ per request:                    Service ─┼─ balance ─ policy ─┬─ component, called in process
//!                     │                                                     │                    └─ forwarded over a connection, or a stream to another node
//!                     └──── per connection:                        Service ─┴─ balance ─ policy ─┬─ handed to a listening pod, whole
//!                                                                                                └─ bytes copied to and from elsewhere
//! ```
//!
//! The tables are read once per decision, without a lock.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, UPGRADE};
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::accept;
use crate::client::{SendError, To};
use crate::endpoint::{Body, Endpoint};
use crate::headers;
use crate::ingress::{self, Backend, RESPONSE_TIMEOUT};
use crate::kernel;
use crate::listener;
use crate::network::{Network, Refused};
use crate::origin::Origin;
use crate::serve::{self, HalfClosed};
use crate::service::{AppProtocol, Protocol};
use crate::stream::{Stream, reset};

/// Where a connection came in.
#[derive(Clone)]
pub(crate) enum Door {
    /// The ingress, with how to speak TLS if it is the door for that.
    Ingress { tls: Option<TlsAcceptor>, config: Arc<ingress::Config> },
    /// A port that leads straight to a Service or a pod.
    Port(Port),
}

/// A port without rules of its own.
#[derive(Clone, Copy)]
pub(crate) enum Port {
    /// The node's, of a Service.
    Node(u16),
    /// The node's, of one of its pods.
    Host(SocketAddr),
    /// A pod's or a Service's own, by the kernel; `is_host`: for this machine itself.
    Kernel { to: SocketAddr, is_host: bool },
}

/// Serves one accepted connection until it ends.
pub(crate) async fn connection(
    network: Arc<Network>,
    door: Door,
    socket: TcpStream,
    peer: SocketAddr,
    stop: CancellationToken,
) {
    match &door {
        Door::Ingress { tls: Some(tls), .. } => {
            if let Some(stream) = accept::tls(tls, socket, peer).await {
                Requests::new(network, door, peer, &stop).serve(stream, stop).await;
            }
        }
        Door::Ingress { tls: None, .. } => Requests::new(network, door, peer, &stop).serve(socket, stop).await,
        Door::Port(port) => match network.settle(|| endpoint_of(&network, *port, peer)).await {
            Ok(Endpoint::Local(_)) => Requests::new(network, door, peer, &stop).serve(socket, stop).await,
            Ok(Endpoint::Listener(queue)) => {
                let stream = Stream::Tcp(socket);
                if let Err(error) = queue.hand_over(listener::Incoming { stream, peer }).await {
                    debug!(%peer, %error, "the pod did not take the connection");
                }
            }
            Ok(elsewhere @ (Endpoint::Peer(_) | Endpoint::Remote(_))) => {
                let origin = port.origin(&network, peer);
                relay(&network, origin, elsewhere, socket, stop).await;
            }
            Err(refused) => {
                debug!(%peer, %refused, "resetting the connection");
                reset(socket);
            }
        },
    }
}

impl Port {
    /// Who a client is that came in by it.
    fn origin(self, network: &Network, peer: SocketAddr) -> Origin<'static> {
        match self {
            Self::Node(_) | Self::Host(_) => Origin::Outside(peer.ip()),
            Self::Kernel { to, is_host } => kernel::origin(network, peer.ip(), to.ip(), is_host),
        }
    }
}

fn endpoint_of(network: &Network, port: Port, peer: SocketAddr) -> Result<Endpoint, Refused> {
    let origin = port.origin(network, peer);
    match port {
        Port::Node(port) => {
            let tables = network.load_tables();
            let service = tables.node_port(port, Protocol::Tcp).ok_or(Refused::NoSuchNodePort(port))?;
            network.select_of(service, origin)
        }
        Port::Host(at) => {
            let to = network.host_port(at, Protocol::Tcp)?;
            network.select_own(origin, to)
        }
        Port::Kernel { to, .. } => network.select_from(origin, to),
    }
}

/// Copies bytes both ways until both are done. What is not carried to its end is broken off to both sides.
async fn relay(
    network: &Network,
    origin: Origin<'_>,
    endpoint: Endpoint,
    mut socket: TcpStream,
    stop: CancellationToken,
) {
    let relayed = async {
        let opened = stop.run_until_cancelled(network.open(origin, endpoint)).await;
        let mut backend = opened.ok_or(io::ErrorKind::ConnectionAborted)??;
        let copied = stop.run_until_cancelled(carry(&mut socket, &mut backend)).await;
        let copied = copied.unwrap_or_else(|| Err(io::ErrorKind::ConnectionAborted.into()));
        if copied.is_err() {
            backend.reset();
        }
        copied
    };
    if let Err(error) = relayed.await {
        debug!(%error, "relayed connection ended early");
        reset(socket);
    }
}

/// Copies bytes both ways until both have ended, or the backend listens no more and has said everything.
async fn carry(socket: &mut TcpStream, backend: &mut Stream) -> io::Result<()> {
    let (mut asked, mut answer) = socket.split();
    let (mut said, mut heard) = tokio::io::split(backend);
    let there = async {
        match tokio::io::copy(&mut asked, &mut heard).await {
            Ok(_) => heard.shutdown().await,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(error),
        }
    };
    let back = async {
        tokio::io::copy(&mut said, &mut answer).await?;
        answer.shutdown().await
    };
    tokio::try_join!(there, back).map(drop)
}

/// The requests of one connection.
#[derive(Clone)]
struct Requests(Arc<Context>);

struct Context {
    network: Arc<Network>,
    door: Door,
    peer: SocketAddr,
    stop: CancellationToken,
}

/// A request that is answered here, in one sentence.
struct Answer(StatusCode, String);

impl Requests {
    fn new(network: Arc<Network>, door: Door, peer: SocketAddr, stop: &CancellationToken) -> Self {
        Self(Arc::new(Context { network, door, peer, stop: stop.clone() }))
    }

    async fn serve<I>(self, io: I, stop: CancellationToken)
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let half_closed = match self.0.door {
            Door::Ingress { .. } => HalfClosed::Gone,
            Door::Port(_) => HalfClosed::Listening,
        };
        let answer = move |request| {
            let context = self.0.clone();
            async move { context.answer(request).await.unwrap_or_else(Answer::into_response) }
        };
        serve::http(io, half_closed, stop, answer).await;
    }
}

impl Context {
    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Answer> {
        let (endpoint, protocol) = self.route(&mut request).await?;
        let timeout = match &self.door {
            Door::Ingress { config, .. } => config.response_timeout,
            Door::Port(_) => RESPONSE_TIMEOUT,
        };
        match tokio::time::timeout(timeout, self.forward(endpoint, protocol, request)).await {
            Ok(response) => response,
            Err(_) => {
                let what = format!("the backend did not answer within {} seconds", timeout.as_secs());
                Err(Answer(StatusCode::GATEWAY_TIMEOUT, what))
            }
        }
    }

    /// Decides where a request goes, from the tables of this moment.
    async fn route(&self, request: &mut Request<Incoming>) -> Result<(Endpoint, AppProtocol), Answer> {
        let host = headers::settle_host(request).map_err(|e| Answer(StatusCode::BAD_REQUEST, e.to_string()))?;
        if request.method() == Method::CONNECT {
            return Err(Answer(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not supported".into()));
        }
        let decided = match &self.door {
            Door::Port(port) => {
                let select = || endpoint_of(&self.network, *port, self.peer);
                self.network.settle(select).await.map(|endpoint| Ok((endpoint, AppProtocol::default())))
            }
            Door::Ingress { tls, .. } => {
                if tls.is_some() {
                    let checked = self.network.load_tables().certificates.check(&host);
                    checked.map_err(|why| Answer(StatusCode::MISDIRECTED_REQUEST, why))?;
                }
                headers::set_forwarded(request, self.peer, if tls.is_some() { &Scheme::HTTPS } else { &Scheme::HTTP });
                self.network.settle(|| self.backend(&host, request.uri().path())).await
            }
        };
        decided.unwrap_or_else(|refused| {
            let status = match refused {
                // What a client of an ingress is told whose packets are lost on their way.
                Refused::NotAllowed(_) => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err(Answer(status, refused.to_string()))
        })
    }

    /// What the ingress's rules lead to; an answer where they lead nowhere.
    fn backend(&self, host: &str, path: &str) -> Result<Result<(Endpoint, AppProtocol), Answer>, Refused> {
        Ok(match self.network.load_tables().ingress.find(host, path) {
            Some(Backend::Service(port)) => {
                Ok((self.network.select_of(port, Origin::Ingress(self.peer.ip()))?, port.app_protocol))
            }
            Some(Backend::Broken(why)) => Err(Answer(StatusCode::SERVICE_UNAVAILABLE, why.to_string())),
            None => {
                let what = format!("no Ingress has a rule for host {host} and path {path}");
                Err(Answer(StatusCode::NOT_FOUND, what))
            }
        })
    }

    async fn forward(
        &self,
        endpoint: Endpoint,
        protocol: AppProtocol,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Answer> {
        let to = match endpoint {
            Endpoint::Local(handler) => {
                // A component cannot take a connection over; it sees a request like any other.
                headers::remove_hop_by_hop(request.headers_mut());
                return Ok(handler.call(self.bound_body(request)?).await);
            }
            Endpoint::Listener(queue) => To::Address(queue.address()),
            Endpoint::Peer(peer) => To::Peer(peer, self.origin()),
            Endpoint::Remote(address) => To::Address(address),
        };
        // Boxed, so that requests to components need not carry the room for it.
        Box::pin(self.forward_over_connection(protocol, to, request)).await
    }

    async fn forward_over_connection(
        &self,
        protocol: AppProtocol,
        to: To,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Answer> {
        // HTTP/2 knows no upgrades.
        let upgrade = headers::upgrade_of(&request).filter(|_| protocol == AppProtocol::Http1);
        let switch = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        headers::remove_hop_by_hop(request.headers_mut());
        let request = self.bound_body(request)?;
        let sent = self.network.client().forward(&self.network, protocol, to, request, upgrade).await;
        let response = sent.map_err(|error: SendError| {
            debug!(error = &error as &dyn std::error::Error, "no answer from the backend");
            Answer(StatusCode::BAD_GATEWAY, error.to_string())
        })?;
        match switch {
            Some(client) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Ok(self.switch(client, response)),
            _ => Ok(response.map(serve::body)),
        }
    }

    /// Who the client is to the endpoint.
    fn origin(&self) -> Origin<'static> {
        match &self.door {
            Door::Ingress { .. } => Origin::Ingress(self.peer.ip()),
            Door::Port(port) => port.origin(&self.network, self.peer),
        }
    }

    fn bound_body(&self, request: Request<Incoming>) -> Result<Request<Body>, Answer> {
        let Door::Ingress { config, .. } = &self.door else { return Ok(request.map(serve::body)) };
        let limit = config.max_request_body_bytes;
        if request.body().size_hint().lower() > limit {
            let what = format!("the request's body is larger than {limit} bytes");
            return Err(Answer(StatusCode::PAYLOAD_TOO_LARGE, what));
        }
        if request.body().is_end_stream() || request.body().size_hint().exact().is_some() {
            return Ok(request.map(serve::body));
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(request.map(|body| Limited::new(body, limit).boxed_unsync()))
    }

    /// Both sides have changed to another protocol: from here on there are only bytes.
    fn switch(&self, client: hyper::upgrade::OnUpgrade, mut response: Response<Incoming>) -> Response<Body> {
        let backend = hyper::upgrade::on(&mut response);
        let stop = self.stop.clone();
        let copied = async move {
            let (client, backend) = tokio::try_join!(client, backend)?;
            let copied = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(backend)).await;
            if let Err(error) = copied {
                debug!(%error, "upgraded connection ended early");
            }
            Ok::<_, hyper::Error>(())
        };
        tokio::spawn(async move {
            tokio::select! {
                copied = copied => if let Err(error) = copied {
                    debug!(%error, "the connection was not upgraded");
                },
                () = stop.cancelled() => {}
            }
        });
        let protocol = response.headers().get(UPGRADE).cloned();
        headers::remove_hop_by_hop(response.headers_mut());
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            response.headers_mut().insert(UPGRADE, protocol);
        }
        response.map(serve::body)
    }
}

impl Answer {
    fn into_response(self) -> Response<Body> {
        let Self(status, what) = self;
        let text = Bytes::from(what + "\n");
        let length = HeaderValue::from(text.len());
        let mut response = serve::response(status, text);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response.headers_mut().insert(CONTENT_LENGTH, length);
        response
    }
}
