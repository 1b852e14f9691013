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
use crate::attempts::Attempts;
use crate::client::{Arriving, SendError, To};
use crate::endpoint::{Body, Endpoint};
use crate::headers;
use crate::ingress::{self, Backend};
use crate::kernel;
use crate::listener::AcceptQueue;
use crate::network::{Network, Refused};
use crate::origin::Origin;
use crate::progress::Progress;
use crate::serve::{self, HalfClosed};
use crate::service::{AppProtocol, Protocol};
use crate::stream::{Stream, reset};

/// Where a connection came in.
#[derive(Clone)]
pub(crate) enum Door {
    /// The ingress at this port, with how to speak TLS if it is the door for that.
    Ingress { tls: Option<TlsAcceptor>, port: u16, config: Arc<ingress::Config> },
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
        Door::Port(port) => match stop.run_until_cancelled(reach(&network, *port, peer)).await {
            Some(Ok(Reached::Component)) => Requests::new(network, door, peer, &stop).serve(socket, stop).await,
            Some(Ok(Reached::Listener(queue))) => {
                if let Err(error) = queue.hand_over(Stream::Tcp(socket), peer).await {
                    debug!(%peer, %error, "the pod did not take the connection");
                }
            }
            Some(Ok(Reached::Elsewhere(backend))) => relay(backend, socket, stop).await,
            Some(Err(error)) => {
                debug!(%peer, %error, "resetting the connection");
                reset(socket);
            }
            None => reset(socket),
        },
    }
}

/// What a port leads to.
enum Reached {
    /// It is asked request by request.
    Component,
    Listener(Arc<AcceptQueue>),
    Elsewhere(Stream),
}

async fn reach(network: &Network, port: Port, peer: SocketAddr) -> io::Result<Reached> {
    let select = |attempts: &Attempts| endpoint_of(network, port, peer, attempts);
    let open = |endpoint| async move {
        Ok(match endpoint {
            Endpoint::Local(_) => Reached::Component,
            Endpoint::Listener(queue) => Reached::Listener(queue),
            elsewhere @ (Endpoint::Peer(_) | Endpoint::Remote(_)) => {
                Reached::Elsewhere(network.open(port.origin(network, peer), elsewhere).await?)
            }
        })
    };
    network.reach(select, open).await
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

fn endpoint_of(network: &Network, port: Port, peer: SocketAddr, attempts: &Attempts) -> Result<Endpoint, Refused> {
    let origin = port.origin(network, peer);
    match port {
        Port::Node(port) => {
            let tables = network.load_tables();
            let service = tables.node_port(port, Protocol::Tcp).ok_or(Refused::NoSuchNodePort(port))?;
            network.select_another(service, origin, attempts)
        }
        Port::Host(at) => {
            let to = network.host_port(at, Protocol::Tcp)?;
            network.select_own(origin, to)
        }
        Port::Kernel { to, .. } => network.select_from(origin, to, attempts),
    }
}

/// Copies bytes both ways until both are done. What is not carried to its end is broken off to both sides.
async fn relay(mut backend: Stream, mut socket: TcpStream, stop: CancellationToken) {
    let copied = stop.run_until_cancelled(carry(&mut socket, &mut backend)).await;
    if let Err(error) = copied.unwrap_or_else(|| Err(io::ErrorKind::ConnectionAborted.into())) {
        debug!(%error, "relayed connection ended early");
        backend.reset();
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

/// What a client asks to change its connection to.
struct Upgrade {
    protocol: HeaderValue,
    client: hyper::upgrade::OnUpgrade,
}

fn bad_gateway(error: SendError) -> Answer {
    debug!(error = &error as &dyn std::error::Error, "no answer from the backend");
    Answer(StatusCode::BAD_GATEWAY, error.to_string())
}

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
        let asked = headers::upgrade_of(&request);
        let upgrade = asked.map(|protocol| Upgrade { protocol, client: hyper::upgrade::on(&mut request) });
        // First, so that nobody has what is said of him below end here.
        headers::remove_hop_by_hop(request.headers_mut());
        let host = self.receive(&mut request)?;
        let Door::Ingress { config, .. } = &self.door else {
            // Whoever asks a port waits as long as it likes, as for any server.
            return self.forward(&host, request.map(serve::body), upgrade).await;
        };
        let progress = Progress::begin();
        let request = bounded(request, config.max_request_body_bytes, &progress)?;
        let limit = config.response_timeout;
        progress.within(limit, self.forward(&host, request, upgrade)).await.unwrap_or_else(|| {
            let what = format!("the backend did not answer within {} seconds", limit.as_secs());
            Err(Answer(StatusCode::GATEWAY_TIMEOUT, what))
        })
    }

    /// Reads for which host a request is, and has it say where it came from.
    fn receive(&self, request: &mut Request<Incoming>) -> Result<String, Answer> {
        let host = headers::settle_host(request).map_err(|e| Answer(StatusCode::BAD_REQUEST, e.to_string()))?;
        if request.method() == Method::CONNECT {
            return Err(Answer(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not supported".into()));
        }
        if let Door::Ingress { tls, port, .. } = &self.door {
            let scheme = if tls.is_some() { &Scheme::HTTPS } else { &Scheme::HTTP };
            headers::set_forwarded(request, self.peer, scheme, *port);
        }
        Ok(host)
    }

    /// Sends a request on, to another endpoint where one was not reached.
    async fn forward(
        &self,
        host: &str,
        mut request: Request<Body>,
        upgrade: Option<Upgrade>,
    ) -> Result<Response<Body>, Answer> {
        let (mut attempts, mut failed) = (Attempts::default(), None);
        loop {
            let (endpoint, protocol) = match self.route(host, request.uri().path(), &attempts).await {
                Ok(routed) => routed,
                Err(refused) => return Err(failed.unwrap_or(refused)),
            };
            let to = match To::of(endpoint, self.origin()) {
                Ok(to) => to,
                // A component cannot take a connection over; it sees a request like any other.
                Err(component) => return Ok(component.call(request).await),
            };
            // HTTP/2 knows no upgrades.
            let asked = upgrade.as_ref().filter(|_| protocol == AppProtocol::Http1);
            let asked = asked.map(|upgrade| upgrade.protocol.clone());
            // Boxed, so that requests to components need not carry the room for it.
            let sent = Box::pin(self.network.client().forward(&self.network, protocol, to, request, asked)).await;
            match sent {
                Ok(response) => return Ok(self.answered(response, upgrade)),
                Err(unanswered) => {
                    let (again, error) = unanswered.again(&mut attempts).map_err(bad_gateway)?;
                    (request, failed) = (again, Some(bad_gateway(error)));
                    // What it was to change to is asked of the next one anew.
                    headers::remove_hop_by_hop(request.headers_mut());
                }
            }
        }
    }

    /// Decides where a request goes, from the tables of this moment.
    async fn route(&self, host: &str, path: &str, attempts: &Attempts) -> Result<(Endpoint, AppProtocol), Answer> {
        let decided = match &self.door {
            Door::Port(port) => {
                let select = || endpoint_of(&self.network, *port, self.peer, attempts);
                self.network.settle(select).await.map(|endpoint| Ok((endpoint, AppProtocol::default())))
            }
            Door::Ingress { .. } => self.network.settle(|| self.backend(host, path, attempts)).await,
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
    fn backend(
        &self,
        host: &str,
        path: &str,
        attempts: &Attempts,
    ) -> Result<Result<(Endpoint, AppProtocol), Answer>, Refused> {
        Ok(match self.network.load_tables().ingress.find(host, path) {
            Some(Backend::Service(port)) => {
                let origin = Origin::Ingress(self.peer.ip());
                Ok((self.network.select_another(port, origin, attempts)?, port.app_protocol))
            }
            Some(Backend::Broken(why)) => Err(Answer(StatusCode::SERVICE_UNAVAILABLE, why.to_string())),
            None => {
                let what = format!("no Ingress has a rule for host {host} and path {path}");
                Err(Answer(StatusCode::NOT_FOUND, what))
            }
        })
    }

    /// What a client gets of a backend's answer.
    fn answered(&self, response: Response<Arriving>, upgrade: Option<Upgrade>) -> Response<Body> {
        match upgrade {
            Some(upgrade) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                self.switch(upgrade.client, response)
            }
            _ => response.map(serve::body),
        }
    }

    /// Who the client is to the endpoint.
    fn origin(&self) -> Origin<'static> {
        match &self.door {
            Door::Ingress { .. } => Origin::Ingress(self.peer.ip()),
            Door::Port(port) => port.origin(&self.network, self.peer),
        }
    }

    /// Both sides have changed to another protocol: from here on there are only bytes.
    fn switch(&self, client: hyper::upgrade::OnUpgrade, mut response: Response<Arriving>) -> Response<Body> {
        let backend = hyper::upgrade::on(&mut response);
        let share = response.body_mut().take_share();
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
            drop(share);
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

/// The request, if its body is no larger than this; whatever comes of it is progress.
fn bounded(request: Request<Incoming>, max_bytes: u64, progress: &Progress) -> Result<Request<Body>, Answer> {
    let length = request.body().size_hint();
    if length.lower() > max_bytes {
        let what = format!("the request's body is larger than {max_bytes} bytes");
        return Err(Answer(StatusCode::PAYLOAD_TOO_LARGE, what));
    }
    if request.body().is_end_stream() {
        return Ok(request.map(serve::body));
    }
    let request = request.map(|body| progress.of(body));
    if length.exact().is_some() {
        return Ok(request.map(|body| body.map_err(Into::into).boxed_unsync()));
    }
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    Ok(request.map(|body| Limited::new(body, max_bytes).boxed_unsync()))
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
