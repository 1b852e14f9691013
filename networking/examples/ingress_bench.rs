//! What the ingress costs by itself: `cargo run --release -p k8w-networking --example ingress_bench`.
//!
//! Serves the same answer at two ports until it is interrupted: from a component's place behind the ingress, and from a
//! bare hyper server. Put the same load on both in turn, for example `wrk -t2 -c32 http://127.0.0.1:PORT/`; the ratio is the
//! share that the ingress leaves.

use std::convert::Infallible;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8w_networking::ingress::{self, Config};
use k8w_networking::{Body, Handler, Network, Objects, PodIdentity, Tables};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

struct Hello;

impl Handler for Hello {
    fn call(&self, _: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async { Response::new(hello().map_err(|never| match never {}).boxed_unsync()) })
    }
}

fn hello() -> Full<Bytes> {
    Full::new(Bytes::from_static(b"hello, world\n"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let network = Network::new(k8w_networking::Config {
        service_cidr: "10.96.0.0/16".parse()?,
        pod_cidrs: vec!["10.64.0.0/16".parse()?],
        wasm_cidr: Some("10.64.0.0/18".parse()?),
        cluster_domain: "cluster.local".into(),
        node_name: "here".into(),
        client_tls: None,
    });
    let text = |text: &str| text.to_owned();
    let ip = IpAddr::V4(Ipv4Addr::new(10, 64, 0, 2));
    let pod = PodIdentity {
        namespace: text("default"),
        name: text("hello"),
        uid: text("1"),
        ip,
        service_account: text("default"),
    };
    let _registration = network.bind_http(&pod, 8080, Arc::new(Hello))?;
    network.update(tables()?);
    let listen = async || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let (front, bare) = (listen().await?, listen().await?);
    println!("ingress: {}", front.local_addr()?);
    println!("bare hyper: {}", bare.local_addr()?);
    tokio::spawn(ingress::serve(network, Config::default(), Some(front), None, CancellationToken::new()));
    loop {
        let (socket, _) = bare.accept().await?;
        socket.set_nodelay(true)?;
        let service = service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(hello())) });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

fn tables() -> Result<Tables, serde_json::Error> {
    let service = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "hello"},
        "spec": {"clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2"], "ports": [{"port": 80}]},
    }))?;
    let slice = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "hello", "labels": {"kubernetes.io/service-name": "hello"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.64.0.2"], "conditions": {"ready": true}}],
    }))?;
    let ingress = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "hello"},
        "spec": {"ingressClassName": "k8w", "defaultBackend": {"service": {"name": "hello", "port": {"number": 80}}}},
    }))?;
    let objects = Objects {
        services: &[Arc::new(service)],
        endpoint_slices: &[Arc::new(slice)],
        ingresses: &[Arc::new(ingress)],
        ..Objects::default()
    };
    Ok(Tables::build(&objects, "here"))
}
