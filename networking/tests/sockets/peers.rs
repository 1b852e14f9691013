//! Pods of two nodes, each a network of its own, with TLS in between.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{Request, StatusCode};
use k8w_networking::https::{self, ClientCertificates};
use k8w_networking::peers::{self, Node};
use k8w_networking::{Network, PodIdentity};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::harness::*;

/// The authority of a cluster.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Ca {
    fn new() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Ca { issuer: Issuer::new(params, key), certificate }
    }

    fn roots(&self) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }

    /// How a node of this name speaks to others, and how it is spoken to.
    fn tls(&self, name: &str) -> (Arc<rustls::ClientConfig>, Arc<rustls::ServerConfig>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = || PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let client = client.unwrap().with_root_certificates(self.roots());
        let mut client = client.with_client_auth_cert(chain.clone(), key()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(self.roots(), provider()).build().unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let mut server = server.unwrap().with_client_cert_verifier(clients).with_single_cert(chain, key()).unwrap();
        for protocols in [&mut client.alpn_protocols, &mut server.alpn_protocols] {
            *protocols = vec![b"h2".to_vec()];
        }
        (Arc::new(client), Arc::new(server))
    }
}

/// The node `there`, to which others are the node `here`.
struct There {
    network: Arc<Network>,
    node: Node,
    _stop: tokio_util::sync::DropGuard,
}

async fn there(ca: &Ca, name: &str) -> There {
    let network = Network::new(config("there", "10.64.64.0/18"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, answering) = (CancellationToken::new(), network.clone());
    let answer = move |request: Request<hyper::body::Incoming>| {
        let network = answering.clone();
        async move {
            assert!(!request.extensions().get::<ClientCertificates>().unwrap().0.is_empty());
            assert!(request.uri().path().starts_with(peers::PATH));
            network
                .accept_stream(
                    "here",
                    request.map(|body| {
                        use http_body_util::BodyExt;
                        body.map_err(Into::into).boxed_unsync()
                    }),
                )
                .await
        }
    };
    tokio::spawn(https::listen(listener, ca.tls(name).1, stop.clone(), answer));
    There { network, node: node("there", "10.64.64.0/18", address), _stop: stop.drop_guard() }
}

fn node(name: &str, range: &str, address: SocketAddr) -> Node {
    Node { name: name.into(), zone: None, wasm_cidr: range.parse().ok(), address: Some(address) }
}

/// This node to the other.
fn here() -> Node {
    node("here", "10.64.0.0/18", "192.0.2.1:10250".parse().unwrap())
}

/// The pod at 10.64.64.`last`.
fn far_pod(last: u8) -> PodIdentity {
    PodIdentity { ip: IpAddr::V4(Ipv4Addr::new(10, 64, 64, last)), ..pod(last) }
}

#[tokio::test]
async fn a_pod_reaches_ports_and_components_of_another_node() {
    let ca = Ca::new();
    let (network, there) = (network(), there(&ca, "there").await);
    network.connect_peers(ca.tls("here").0);
    let listener = there.network.bind_tcp(&far_pod(2), 7000).await.unwrap();
    let (component, _registration) = describing(&there.network, &far_pod(3));
    let cluster = Cluster::default().service("web", "10.96.0.9", None, &[component]);
    network.update(cluster.node(there.node.clone()).tables());
    there.network.update(Cluster::default().node(here()).tables_of("there"));

    let mut stream = network.connect(Some(&pod(5)), listener.local_addr()).await.unwrap();
    let incoming = listener.accept().await.unwrap();
    assert_eq!(incoming.peer.ip(), pod(5).ip, "a pod is known by its address");
    let mut far = incoming.stream;
    stream.write_all(b"ping").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    far.read_to_string(&mut heard).await.unwrap();
    far.write_all(b"pong").await.unwrap();
    drop(far);
    stream.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "pingpong");

    for uri in ["http://web/path", "http://10.64.64.3:8080/path"] {
        let answer = network.send(Some(&pod(5)), Request::get(uri).body(full("")).unwrap()).await.unwrap();
        let (status, text) = read(answer).await;
        assert_eq!((status, text.lines().next()), (StatusCode::OK, Some("pod-3: GET /path")), "{uri}");
    }
    let nothing: SocketAddr = "10.64.64.9:80".parse().unwrap();
    let error = network.connect(Some(&pod(5)), nothing).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (std::io::ErrorKind::ConnectionRefused, "nothing listens on 10.64.64.9:80")
    );
}

#[tokio::test]
async fn what_an_answer_says_about_its_connection_ends_with_it() {
    let ca = Ca::new();
    let (network, there) = (network(), there(&ca, "there").await);
    network.connect_peers(ca.tls("here").0);
    let listener = there.network.bind_tcp(&far_pod(2), 7000).await.unwrap();
    network.update(Cluster::default().node(there.node.clone()).tables());
    there.network.update(Cluster::default().node(here()).tables_of("there"));
    let answering = tokio::spawn(async move {
        let mut far = listener.accept().await.unwrap().stream;
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(far.read_u8().await.unwrap());
        }
        let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\nX-Hop: a\r\n\
                      X-End: b\r\nContent-Length: 2\r\n\r\nok";
        far.write_all(answer.as_bytes()).await.unwrap();
    });
    let request = Request::get("http://10.64.64.2:7000/").body(full("")).unwrap();
    let answer = network.send(Some(&pod(5)), request).await.unwrap();
    let mut names: Vec<&str> = answer.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "x-end"]);
    assert_eq!(read(answer).await, (StatusCode::OK, "ok".into()));
    answering.await.unwrap();
}

#[tokio::test]
async fn policies_of_the_other_node_decide_by_who_asks() {
    let ca = Ca::new();
    let (network, there) = (network(), there(&ca, "there").await);
    network.connect_peers(ca.tls("here").0);
    let (component, _registration) = describing(&there.network, &far_pod(3));
    network.update(Cluster::default().node(there.node.clone()).tables());
    // This node does not know the policy yet.
    let only_5 =
        "{podSelector: {matchLabels: {pod: '3'}}, ingress: [{from: [{podSelector: {matchLabels: {pod: '5'}}}]}]}";
    let policed =
        Cluster::default().pod(5).pod(6).policed_pod(&far_pod(3)).policy(serde_saphyr::from_str(only_5).unwrap());
    there.network.update(policed.node(here()).tables_of("there"));
    network.connect(Some(&pod(5)), component).await.unwrap();
    for other in [Some(pod(6)), None] {
        let error = network.connect(other.as_ref(), component).await.unwrap_err();
        assert_eq!(error.to_string(), format!("no NetworkPolicy allows a connection to {component}"));
    }
}

#[tokio::test]
async fn a_node_is_who_its_certificate_says() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let connect = async |network: &Network, there: &There| {
        network.update(Cluster::default().node(there.node.clone()).tables());
        there.network.update(Cluster::default().node(here()).tables_of("there"));
        let (component, _registration) = describing(&there.network, &far_pod(3));
        network.connect(Some(&pod(5)), component).await.map(drop)
    };
    let ours = network();
    ours.connect_peers(ca.tls("here").0);
    connect(&ours, &there(&ca, "there").await).await.unwrap();
    for somebody_else in [there(&ca, "elsewhere").await, there(&foreign, "there").await] {
        connect(&ours, &somebody_else).await.unwrap_err();
    }
    let stranger = network();
    stranger.connect_peers(foreign.tls("here").0);
    connect(&stranger, &there(&ca, "there").await).await.unwrap_err();
    connect(&network(), &there(&ca, "there").await).await.unwrap_err();
}

#[tokio::test]
async fn streams_of_one_moment_share_a_connection() {
    let ca = Ca::new();
    let (network, there) = (network(), there(&ca, "there").await);
    network.connect_peers(ca.tls("here").0);
    let (component, _registration) = describing(&there.network, &far_pod(3));
    there.network.update(Cluster::default().node(here()).tables_of("there"));
    // In front of the other node, somebody counts.
    let (front, behind) = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), there.node.address.unwrap());
    let counted = Node { address: Some(front.local_addr().unwrap()), ..there.node.clone() };
    let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = connections.clone();
    let counter = tokio::spawn(async move {
        while let Ok((mut near, _)) = front.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut far = tokio::net::TcpStream::connect(behind).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    network.update(Cluster::default().node(counted).tables());
    let from = pod(5);
    let streams = futures::future::join_all((0..50).map(|_| network.connect(Some(&from), component))).await;
    assert!(streams.iter().all(Result::is_ok));
    assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), 1);
    counter.abort();
}
