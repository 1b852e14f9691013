//! A network with a few Services, handlers that say what they saw, and clients.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use k8w_networking::peers::Node;
use k8w_networking::policy;
use k8w_networking::{Body, Config, Handler, Network, Objects, PodIdentity, Registration, Tables};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Longest that anything may take to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn network() -> Arc<Network> {
    network_with_tls(None)
}

/// A network whose requests to foreign hosts speak TLS so.
pub fn network_with_tls(client_tls: Option<Arc<rustls::ClientConfig>>) -> Arc<Network> {
    Network::new(Config { client_tls, ..config("here", "10.64.0.0/18") })
}

/// How the network of a node with such pods is set up.
pub fn config(node_name: &str, pods: &str) -> Config {
    let range = |range: &str| range.parse().unwrap();
    Config {
        service_cidr: range("10.96.0.0/16"),
        pod_cidrs: vec![range("10.64.0.0/16")],
        wasm_cidr: Some(range(pods)),
        cluster_domain: "cluster.local".into(),
        node_name: node_name.into(),
        client_tls: None,
    }
}

/// The pod at 10.64.0.`last`.
pub fn pod(last: u8) -> PodIdentity {
    let ip = IpAddr::V4(Ipv4Addr::new(10, 64, 0, last));
    let name = format!("pod-{last}");
    PodIdentity { namespace: "default".into(), uid: name.clone(), name, ip, service_account: "default".into() }
}

/// API objects as a test gives them.
#[derive(Clone, Default)]
pub struct Cluster {
    services: Vec<Value>,
    slices: Vec<Value>,
    ingresses: Vec<Value>,
    secrets: Vec<Value>,
    policies: Vec<Value>,
    pods: Vec<Value>,
    nodes: Vec<Arc<Node>>,
}

impl Cluster {
    /// A Service in namespace `default` with port 80 and these endpoints.
    pub fn service(self, name: &str, cluster_ip: &str, node_port: Option<u16>, endpoints: &[SocketAddr]) -> Self {
        self.service_of("TCP", name, cluster_ip, node_port, endpoints)
    }

    /// Likewise for UDP.
    pub fn udp_service(self, name: &str, cluster_ip: &str, node_port: Option<u16>, endpoints: &[SocketAddr]) -> Self {
        self.service_of("UDP", name, cluster_ip, node_port, endpoints)
    }

    fn service_of(
        mut self,
        protocol: &str,
        name: &str,
        cluster_ip: &str,
        node_port: Option<u16>,
        endpoints: &[SocketAddr],
    ) -> Self {
        self.services.push(json!({
            "metadata": {"namespace": "default", "name": name},
            "spec": {
                "type": if node_port.is_some() { "NodePort" } else { "ClusterIP" },
                "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
                "ports": [{"port": 80, "nodePort": node_port, "protocol": protocol}],
            },
        }));
        for (i, endpoint) in endpoints.iter().enumerate() {
            self.slices.push(json!({
                "metadata": {
                    "namespace": "default", "name": format!("{name}-{i}"),
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv4",
                "ports": [{"port": endpoint.port(), "protocol": protocol}],
                "endpoints": [{"addresses": [endpoint.ip()], "nodeName": "here", "conditions": {"ready": true}}],
            }));
        }
        self
    }

    /// Says of the last Service at which port it is.
    pub fn at_port(mut self, port: u16) -> Self {
        self.services.last_mut().unwrap()["spec"]["ports"][0]["port"] = port.into();
        self
    }

    /// Says of every Service's port what it speaks.
    pub fn app_protocol(mut self, protocol: &str) -> Self {
        self.services.iter_mut().for_each(|service| service["spec"]["ports"][0]["appProtocol"] = protocol.into());
        self
    }

    /// An Ingress that leads everything for `host` to a Service, with TLS from Secret `tls` if there is one.
    pub fn ingress(mut self, host: &str, service: &str) -> Self {
        self.ingresses.push(json!({
            "metadata": {"namespace": "default", "name": host},
            "spec": {
                "ingressClassName": "k8w",
                "tls": [{"hosts": [host], "secretName": "tls"}],
                "rules": [{"host": host, "http": {"paths": [
                    {"pathType": "Prefix", "path": "/", "backend": {"service": {"name": service, "port": {"number": 80}}}},
                ]}}],
            },
        }));
        self
    }

    /// An Ingress of ours.
    pub fn ingress_of(mut self, mut spec: Value) -> Self {
        spec["ingressClassName"] = "k8w".into();
        self.ingresses.push(json!({"metadata": {"namespace": "default", "name": "ingress"}, "spec": spec}));
        self
    }

    /// A Service in namespace `default` that stands for another name.
    pub fn external_name(mut self, name: &str, stands_for: &str) -> Self {
        self.services.push(json!({
            "metadata": {"namespace": "default", "name": name},
            "spec": {"type": "ExternalName", "externalName": stands_for, "ports": [{"port": 80}]},
        }));
        self
    }

    pub fn secret(mut self, certificate_pem: &str, key_pem: &str) -> Self {
        use k8s_openapi::ByteString;
        let field = |pem: &str| serde_json::to_value(ByteString(pem.as_bytes().to_vec())).unwrap();
        self.secrets = vec![json!({
            "metadata": {"namespace": "default", "name": "tls"},
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": field(certificate_pem), "tls.key": field(key_pem)},
        })];
        self
    }

    /// The pod [`pod`]`(last)` as the API knows it, with a label `pod` of that number and port 8080 named `web`.
    pub fn pod(self, last: u8) -> Self {
        self.policed_pod(&pod(last))
    }

    /// Likewise for any pod that is called `pod-NUMBER`.
    pub fn policed_pod(mut self, pod: &PodIdentity) -> Self {
        let number = pod.name.trim_start_matches("pod-");
        self.pods.push(json!({
            "metadata": {"namespace": pod.namespace, "uid": pod.uid, "labels": {"pod": number}},
            "spec": {"containers": [{"name": "main", "ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"podIP": pod.ip},
        }));
        self
    }

    /// Another node.
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(Arc::new(node));
        self
    }

    /// A NetworkPolicy in namespace `default`.
    pub fn policy(mut self, spec: Value) -> Self {
        self.policies.push(json!({"metadata": {"namespace": "default"}, "spec": spec}));
        self
    }

    pub fn tables(&self) -> Tables {
        self.tables_of("here")
    }

    /// The tables of the node of this name.
    pub fn tables_of(&self, node_name: &str) -> Tables {
        fn objects<K: DeserializeOwned>(values: &[Value]) -> Vec<Arc<K>> {
            values.iter().map(|value| Arc::new(serde_json::from_value(value.clone()).unwrap())).collect()
        }
        let objects = Objects {
            services: &objects(&self.services),
            endpoint_slices: &objects(&self.slices),
            nodes: &self.nodes,
            ingresses: &objects(&self.ingresses),
            ingress_classes: &[],
            secrets: &objects(&self.secrets),
            network_policies: &objects(&self.policies),
            namespaces: &[],
            pods: &objects::<Pod>(&self.pods)
                .iter()
                .filter_map(|pod| Some(Arc::new(policy::Pod::of(pod)?)))
                .collect::<Vec<_>>(),
        };
        Tables::build(&objects, node_name)
    }
}

/// A handler from a function.
pub struct Answer<F>(pub F);

impl<F, R> Handler for Answer<F>
where
    F: Fn(Request<Body>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin((self.0)(request))
    }
}

/// Puts a handler at port 8080 of a pod that answers with its name and what it saw: [`describe`].
pub fn describing(network: &Network, pod: &PodIdentity) -> (SocketAddr, Registration) {
    let name = pod.name.clone();
    let handler = Answer(move |request| {
        let name = name.clone();
        async move { describe(&name, request).await }
    });
    let registration = network.bind_http(pod, 8080, Arc::new(handler)).unwrap();
    (registration.address(), registration)
}

/// An answer that says who answered what: a line each for the request line, the headers and the body.
pub async fn describe<B>(name: &str, request: Request<B>) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let (parts, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::from_static(b"(broken)"),
    };
    let mut text =
        format!("{name}: {} {}\n{}", parts.method, parts.uri.path_and_query().unwrap(), headers(&parts.headers));
    text += std::str::from_utf8(&body).unwrap();
    Response::builder().header("x-answered-by", name).body(full(text)).unwrap()
}

pub fn headers(headers: &HeaderMap) -> String {
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    lines.sort();
    lines.concat()
}

pub fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

pub fn text(status: StatusCode, content: &'static str) -> Response<Body> {
    Response::builder().status(status).body(full(content)).unwrap()
}

/// An HTTP/1.1 server on a real socket; `answer` also gets the connection's number.
pub async fn server<F, R>(answer: F) -> SocketAddr
where
    F: Fn(usize, Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(socket, number, answer.clone()));
        }
    });
    address
}

pub async fn serve<I, F, R>(io: I, number: usize, answer: F)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(usize, Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let response = answer(number, request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    // A client that goes away ends this, too.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service).await;
}

/// An HTTP/1.1 client on a connection of its own.
pub struct Client(http1::SendRequest<Body>);

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub async fn over<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: I) -> Self {
        let (client, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self(client)
    }

    pub async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        let sent = tokio::time::timeout(PATIENCE, self.0.send_request(request)).await;
        sent.expect("no answer").unwrap()
    }

    /// Status and text of `GET path` from `host`.
    pub async fn get(&mut self, host: &str, path: &str) -> (StatusCode, String) {
        read(self.send(get(host, path)).await).await
    }
}

pub fn get(host: &str, path: &str) -> Request<Body> {
    Request::get(path).header("host", host).body(full("")).unwrap()
}

pub async fn read<B>(response: Response<B>) -> (StatusCode, String)
where
    B: hyper::body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let status = response.status();
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("the body does not end");
    (status, String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap())
}

/// An HTTP/2 client without TLS or over it.
pub async fn http2_client<I>(io: I) -> http2::SendRequest<Body>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    client
}
