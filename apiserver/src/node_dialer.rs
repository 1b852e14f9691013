//! The way from the API server to nodes elsewhere: HTTP/2 over TLS to the address and port that a node's status shows.
//!
//! A node proves with its certificate that it is the node of that name, whatever address it says that it has; the API server
//! proves itself with its kubelet client certificate. Every request has a connection of its own, as most of them are streams
//! that last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version, header};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use k8w_kinds::object::{list, text};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::body::Body;
use crate::plugins::{ConnectError, NodeConnector};
use crate::watch_cache::{KindCache, WatchCache};

/// How long connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A node that is silent for so long is asked for a sign of life, and given as long again to send one.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Which of its addresses a node is reached at, the first that it has (`--kubelet-preferred-address-types`, as kubeadm sets it).
const PREFERRED: [&str; 5] = ["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"];

/// Reaches every node that has an address.
pub struct NodeDialer {
    nodes: Arc<KindCache>,
    tls: TlsConnector,
}

/// Where a node's own API is.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    /// A name or an address.
    host: String,
    port: u16,
}

impl NodeDialer {
    /// `tls` shows the API server's kubelet client certificate and trusts the cluster's CA.
    pub fn new(cache: &WatchCache, mut tls: rustls::ClientConfig) -> NodeDialer {
        tls.alpn_protocols = vec![b"h2".to_vec()];
        NodeDialer { nodes: cache.kind("", "nodes"), tls: TlsConnector::from(Arc::new(tls)) }
    }

    async fn connect(&self, name: &str, address: &Address) -> io::Result<TlsStream<TcpStream>> {
        let node = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let socket = TcpStream::connect((address.host.as_str(), address.port)).await?;
        socket.set_nodelay(true)?;
        self.tls.connect(node, socket).await
    }
}

#[async_trait]
impl NodeConnector for NodeDialer {
    async fn request(&self, name: &str, mut request: Request<Body>) -> Result<Response<Body>, ConnectError> {
        let node = self.nodes.get("", name).ok_or_else(|| ConnectError::UnknownNode(name.to_owned()))?.value();
        let nowhere = |reason| ConnectError::Unreachable { address: name.to_owned(), reason };
        let address = address(&node).map_err(nowhere)?;
        let at = format!("{}:{}", address.host, address.port);
        let unreachable = |reason| ConnectError::Unreachable { address: at.clone(), reason };
        let connected = timeout(CONNECT_TIMEOUT, self.connect(name, &address)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let io = connected.map_err(|error| unreachable(format!("dial tcp {at}: {}", in_words(&error))))?;
        let failed = |error: hyper::Error| unreachable(error.to_string());
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
        let (mut sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(failed)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a node broke off");
            }
        });
        request.headers_mut().remove(header::HOST);
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = target(name, request.uri()).map_err(|error| unreachable(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        Ok(response.map(Body::from))
    }
}

fn target(name: &str, uri: &Uri) -> Result<Uri, http::Error> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Uri::builder().scheme(Scheme::HTTPS).authority(Authority::try_from(name)?).path_and_query(path).build()
}

/// # Errors
/// What a node's status lacks.
fn address(node: &Value) -> Result<Address, String> {
    let addresses = list(node, &["status", "addresses"]);
    let of_type = |type_: &&str| addresses.iter().find(|address| text(address, &["type"]) == *type_);
    let host = PREFERRED.iter().find_map(of_type).map(|address| text(address, &["address"]).to_owned());
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap_or_default();
    let host = host.ok_or_else(|| {
        let known =
            addresses.iter().map(|known| format!("{{{} {}}}", text(known, &["type"]), text(known, &["address"])));
        format!("no preferred addresses found; known addresses: [{}]", known.collect::<Vec<_>>().join(" "))
    })?;
    match u16::try_from(port) {
        Ok(port @ 1..) => Ok(Address { host, port }),
        _ => Err("it does not say on which port it listens".to_owned()),
    }
}

/// As Kubernetes words what every user has seen.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_reached_at_its_preferred_address() {
        let node = |addresses: Value, port: u64| {
            address(
                &json!({"status": {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}),
            )
        };
        let at = |host: &str| Ok(Address { host: host.to_owned(), port: 10250 });
        let (name, ip) =
            (json!({"type": "Hostname", "address": "a"}), json!({"type": "InternalIP", "address": "192.0.2.1"}));
        assert_eq!(node(json!([name, ip]), 10250), at("192.0.2.1"));
        assert_eq!(node(json!([name]), 10250), at("a"));
        assert_eq!(node(json!([]), 10250), Err("no preferred addresses found; known addresses: []".to_owned()));
        let odd = json!({"type": "Odd", "address": "a.b"});
        let unknown = "no preferred addresses found; known addresses: [{Odd a.b}]";
        assert_eq!(node(json!([odd]), 10250), Err(unknown.to_owned()));
        assert_eq!(node(json!([ip]), 0), Err("it does not say on which port it listens".to_owned()));
    }
}
