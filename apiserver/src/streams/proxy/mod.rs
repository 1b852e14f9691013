//! `pods/proxy`, `services/proxy` and `nodes/proxy`: HTTP to a pod's port, a Service's endpoint or a node, with method,
//! path, query and body kept.
//!
//! A pod is reached by way of its node, on the byte stream that port-forward uses, so that a client needs no route to
//! pods and neither does the API server. The headers are those of `k8s.io/apimachinery` `pkg/util/proxy`.

mod endpoint;
mod headers;
mod tls;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::header;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8w_kinds::object::text;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use self::endpoint::{Endpoint, Name};
use super::{port_forward, target, upgrade};
use crate::ApiServer;
use crate::body::Body;
use crate::call::Call;
use crate::routes::Answer;
use crate::status::Status;

/// `pods/{[scheme:]name[:port]}/proxy/…`.
pub fn serve_pod(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let (call, path) = begin(&server, call, "PodProxyOptions").await?;
        let Some(path) = path else { return Ok(to_root(&call)) };
        let asked = call.info.name.clone();
        let name = Name::parse(&asked).ok_or_else(|| invalid("pod", &asked))?;
        let pod = server.cache.get("", "pods", &call.info.namespace, name.name);
        let pod = pod.ok_or_else(|| Status::not_found("", "pods", name.name))?.value();
        let endpoint = Endpoint::of_pod(&pod, name.port)?;
        forward(server, call, path, name.scheme, endpoint).await
    }
    .boxed()
}

/// `services/{[scheme:]name[:port]}/proxy/…`.
pub fn serve_service(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let (call, path) = begin(&server, call, "ServiceProxyOptions").await?;
        let Some(path) = path else { return Ok(to_root(&call)) };
        let asked = call.info.name.clone();
        let name = Name::parse(&asked).ok_or_else(|| invalid("service", &asked))?;
        let endpoint = Endpoint::of_service(&server, &call.info.namespace, &name, &asked)?;
        forward(server, call, path, name.scheme, endpoint).await
    }
    .boxed()
}

/// `nodes/{name[:port]}/proxy/…`: the node's own HTTP API.
pub fn serve_node(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let (mut call, path) = begin(&server, call, "NodeProxyOptions").await?;
        let Some(path) = path else { return Ok(to_root(&call)) };
        let asked = call.info.name.clone();
        let name = Name::parse(&asked).ok_or_else(|| invalid("node", &asked))?;
        let found = server.cache.get("", "nodes", "", name.name);
        let found = found.ok_or_else(|| Status::not_found("", "nodes", name.name))?.value();
        let own = found["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap_or_default();
        if !name.port.is_empty() && name.port != own.to_string() {
            return Err(Status::bad_request(format!("only a node's own port can be proxied, which is {own}")));
        }
        let connector = server.node_connector().ok_or_else(|| Status::unavailable("no node is connected"))?;
        let request = request(&mut call, path, name.name, false)?;
        connector.request(name.name, request).await.map_err(trying_to_reach)
    }
    .boxed()
}

/// What all proxies begin with. Returns the path beyond the proxy, with its query; `None` when there is not even a slash.
async fn begin(server: &Arc<ApiServer>, call: Call, options: &str) -> Result<(Call, Option<PathAndQuery>), Status> {
    server.cache.catch_up().await?;
    let path = beyond(call.parts.uri.path(), !call.info.namespace.is_empty());
    target::admit(server, &call, json!({"kind": options, "apiVersion": "v1", "path": path})).await?;
    if path.is_empty() && matches!(call.parts.method.as_str(), "GET" | "HEAD") {
        return Ok((call, None));
    }
    let path = if path.is_empty() { "/" } else { path };
    let path = match call.parts.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let path = path.parse().map_err(|_| Status::bad_request("the path cannot be proxied"))?;
    Ok((call, Some(path)))
}

/// What follows `/proxy` in a path, as it was sent: `/api/v1[/namespaces/x]/{resource}/{name}/proxy…`.
fn beyond(path: &str, namespaced: bool) -> &str {
    let before = if namespaced { 7 } else { 5 };
    let mut slashes = path.match_indices('/').map(|(at, _)| at);
    slashes.nth(before).map_or("", |at| &path[at..])
}

fn invalid(what: &str, asked: &str) -> Status {
    Status::bad_request(format!("invalid {what} request {asked:?}"))
}

/// Links of a page at the root are relative to a path that ends with a slash.
fn to_root(call: &Call) -> Response<Body> {
    let query = call.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::try_from(format!("{}/{query}", call.parts.uri.path())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The request as the other side gets it.
fn request(call: &mut Call, path: PathAndQuery, host: &str, upgrading: bool) -> Result<Request<Body>, Status> {
    let mut request = Request::new(std::mem::take(&mut call.body));
    *request.method_mut() = call.parts.method.clone();
    *request.headers_mut() = headers::of_request(call, host, upgrading);
    *request.uri_mut() = path.into();
    Ok(request)
}

async fn forward(
    server: Arc<ApiServer>,
    mut call: Call,
    path: PathAndQuery,
    scheme: &str,
    endpoint: Endpoint,
) -> Answer {
    let (prefix, host) = (prefix(&call, &path), endpoint.host());
    let upgrading = upgrade::contains(&call.parts.headers, header::CONNECTION, "upgrade");
    let own_host = call.header(header::HOST).unwrap_or_default().to_owned();
    let client = if upgrading { Some(upgrade::take_upgrade(&mut call)?) } else { None };
    let request = request(&mut call, path, &host, upgrading)?;
    let mut response = match endpoint {
        Endpoint::Pod { node, namespace, pod, port } => {
            let stream = port_forward::dial(&server, &node, &namespace, &pod, port).await;
            talk(stream.map_err(|error| trying_to_reach(&error.message))?.into_io(), scheme, request).await?
        }
        Endpoint::Address(address) => {
            // Nothing need listen where this server says to others that it is.
            let address = if address == server.config.advertise { server.config.listen } else { address };
            talk(TcpStream::connect(address).await.map_err(trying_to_reach)?, scheme, request).await?
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(client) = client {
            let place = server.limits.stream()?;
            let pod = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                join(client, pod).await;
                drop(place);
            });
        }
        return Ok(response.map(|_| Body::Empty));
    }
    headers::clean_response(response.headers_mut(), &prefix, &[&host, &own_host]);
    Ok(response)
}

/// The part of the request's path that stands for the other side's root.
fn prefix(call: &Call, path: &PathAndQuery) -> String {
    let whole = call.parts.uri.path();
    whole.strip_suffix(path.path()).unwrap_or(whole).to_owned()
}

/// Sends one request over a connection, in the way that the scheme says.
async fn talk<T>(io: T, scheme: &str, request: Request<Body>) -> Result<Response<Body>, Status>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match scheme {
        "https" => send(tls::connect(io).await.map_err(trying_to_reach)?, request).await,
        _ => send(io, request).await,
    }
}

/// Sends one request over a connection of its own.
async fn send<T>(io: T, request: Request<Body>) -> Result<Response<Body>, Status>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(trying_to_reach)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection broke off");
        }
    });
    let response = sender.send_request(request).await.map_err(trying_to_reach)?;
    Ok(response.map(Body::from))
}

/// Carries bytes between two switched connections until both directions have ended.
async fn join(client: OnUpgrade, pod: OnUpgrade) {
    if let (Ok(client), Ok(pod)) = tokio::join!(client, pod) {
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(pod)).await;
    }
}

fn trying_to_reach(why: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("error trying to reach service: {why}"))
}

/// The name of a node that an object is on, if it is on one.
fn node_of<'o>(object: &'o Value, path: &[&str]) -> Option<&'o str> {
    Some(text(object, path)).filter(|node| !node.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_beyond_the_proxy_is_kept_as_it_was_sent() {
        assert_eq!(beyond("/api/v1/namespaces/n/pods/p:80/proxy/a%2Fb/", true), "/a%2Fb/");
        assert_eq!(beyond("/api/v1/namespaces/n/pods/p/proxy/", true), "/");
        assert_eq!(beyond("/api/v1/namespaces/n/services/p/proxy", true), "");
        assert_eq!(beyond("/api/v1/nodes/n/proxy/stats/summary", false), "/stats/summary");
    }
}
