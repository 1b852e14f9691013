//! Pods of two nodes, each a network of its own, with TLS in between.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, StatusCode};
use k8w_networking::https::{self, ClientCertificates};
use k8w_networking::peers::{self, Node};
use k8w_networking::{Network, PodIdentity, Stream};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::harness::*;
use crate::node_ports::{connect, free_port, start};
use crate::udp::{ask, received, shout};

/// The authority of a cluster.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Ca {
    pub fn new() -> Ca {
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
    pub fn tls(&self, name: &str) -> (Arc<rustls::ClientConfig>, Arc<rustls::ServerConfig>) {
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
pub struct There {
    pub network: Arc<Network>,
    pub node: Node,
    _stop: tokio_util::sync::DropGuard,
}

pub async fn there(ca: &Ca, name: &str) -> There {
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
pub fn here() -> Node {
    node("here", "10.64.0.0/18", "192.0.2.1:10250".parse().unwrap())
}

/// The pod at 10.64.64.`last`.
pub fn far_pod(last: u8) -> PodIdentity {
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
    let between = between(&there.node).await;
    network.update(Cluster::default().node(between.node.clone()).tables());
    let from = pod(5);
    let streams = futures::future::join_all((0..50).map(|_| network.connect(Some(&from), component))).await;
    assert!(streams.iter().all(Result::is_ok));
    assert_eq!(between.connections.load(Ordering::Relaxed), 1);
}

/// Somebody in front of a node, who counts its connections and can cut them.
pub struct Between {
    /// The node, there.
    pub node: Node,
    pub connections: Arc<AtomicUsize>,
    cut: tokio_util::sync::DropGuard,
}

pub async fn between(behind: &Node) -> Between {
    let (front, address) = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), behind.address.unwrap());
    let node = Node { address: Some(front.local_addr().unwrap()), ..behind.clone() };
    let (connections, cut) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let (count, stop) = (connections.clone(), cut.clone());
    tokio::spawn(cut.clone().run_until_cancelled_owned(async move {
        while let Ok((mut near, _)) = front.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let mut far = TcpStream::connect(address).await.unwrap();
            tokio::spawn(
                stop.clone()
                    .run_until_cancelled_owned(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await }),
            );
        }
    }));
    Between { node, connections, cut: cut.drop_guard() }
}

/// How a connection ends of which nothing more is heard; `None` is in order.
async fn end_of(stream: &mut Stream) -> Option<ErrorKind> {
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it does not end");
    ended.err().map(|error| error.kind())
}

#[tokio::test]
async fn what_breaks_off_between_nodes_is_no_end() {
    let ca = Ca::new();
    let (network, there) = (network(), there(&ca, "there").await);
    network.connect_peers(ca.tls("here").0);
    let listener = there.network.bind_tcp(&far_pod(2), 7000).await.unwrap();
    let (between, port) = (between(&there.node).await, free_port().await);
    let (_failures, _stop) = start(&network);
    let cluster = Cluster::default().service("far", "10.96.0.9", Some(port), &[listener.local_addr()]);
    network.update(cluster.node(between.node.clone()).tables());
    there.network.update(Cluster::default().node(here()).tables_of("there"));
    let begun = async |mut near: Stream| {
        let mut far = listener.accept().await.unwrap().stream;
        near.write_all(b"half").await.unwrap();
        far.write_all(b"half").await.unwrap();
        for end in [&mut near, &mut far] {
            let mut said = [0; 4];
            end.read_exact(&mut said).await.unwrap();
        }
        (near, far)
    };
    let connect_pod = async || network.connect(Some(&pod(5)), listener.local_addr()).await.unwrap();

    // An end in order is one.
    let (mut near, mut far) = begun(connect_pod().await).await;
    near.shutdown().await.unwrap();
    assert_eq!(end_of(&mut far).await, None);
    drop(far);
    assert_eq!(end_of(&mut near).await, None);

    // One that is gone is told from one that says no more.
    let (near, mut far) = begun(connect_pod().await).await;
    drop(near);
    assert_eq!(end_of(&mut far).await, None);
    let nobody = async { while far.write_all(b"more").await.is_ok() {} };
    tokio::time::timeout(PATIENCE, nobody).await.expect("somebody listens");

    // Whichever end breaks off, the other knows.
    let (near, mut far) = begun(connect_pod().await).await;
    near.reset();
    assert_eq!(end_of(&mut far).await, Some(ErrorKind::ConnectionReset));
    let (mut near, far) = begun(connect_pod().await).await;
    far.reset();
    assert_eq!(end_of(&mut near).await, Some(ErrorKind::ConnectionReset));

    // So do both when the other node is gone, and a client outside.
    let (near, far) = begun(connect_pod().await).await;
    let (client, asked) = begun(Stream::Tcp(connect(port).await)).await;
    drop(between.cut);
    for mut end in [near, far, client, asked] {
        assert_eq!(end_of(&mut end).await, Some(ErrorKind::ConnectionReset));
    }
}

#[tokio::test]
async fn a_client_that_says_no_more_is_answered_and_one_that_is_gone_ends_its_request() {
    struct Told(mpsc::UnboundedSender<&'static str>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send("ended");
        }
    }
    let ca = Ca::new();
    let (network, there) = (network(), there(&ca, "there").await);
    network.connect_peers(ca.tls("here").0);
    network.update(Cluster::default().node(there.node.clone()).tables());
    there.network.update(Cluster::default().node(here()).tables_of("there"));
    let (tell, mut told) = mpsc::unbounded_channel();
    let go_on = Arc::new(Notify::new());
    let slow = Answer({
        let go_on = go_on.clone();
        move |_| {
            let (told, go_on) = (Told(tell.clone()), go_on.clone());
            async move {
                let _ = told.0.send("begun");
                go_on.notified().await;
                text(StatusCode::OK, "answer")
            }
        }
    });
    let component = there.network.bind_http(&far_pod(3), 8080, Arc::new(slow)).unwrap();
    let mut next = async || tokio::time::timeout(PATIENCE, told.recv()).await.expect("nothing happens");
    for is_gone in [false, true] {
        let mut near = network.connect(Some(&pod(5)), component.address()).await.unwrap();
        near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        assert_eq!(next().await, Some("begun"));
        if is_gone {
            drop(near);
        } else {
            near.shutdown().await.unwrap();
            go_on.notify_one();
            let mut answer = String::new();
            near.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("answer"), "{answer}");
        }
        assert_eq!(next().await, Some("ended"));
    }
}

#[tokio::test]
async fn an_answer_arrives_whose_component_did_not_read_its_request() {
    let ca = Ca::new();
    let (network, there) = (network(), there(&ca, "there").await);
    network.connect_peers(ca.tls("here").0);
    let deaf = Answer(|_| async { text(StatusCode::OK, "answer") });
    let component = there.network.bind_http(&far_pod(3), 8080, Arc::new(deaf)).unwrap();
    let (_failures, _stop) = start(&network);
    let port = free_port().await;
    let cluster = Cluster::default().service("deaf", "10.96.0.9", Some(port), &[component.address()]);
    network.update(cluster.node(there.node.clone()).tables());
    there.network.update(Cluster::default().node(here()).tables_of("there"));
    let (mut read, mut write) = connect(port).await.into_split();
    // More than all that is on the way may hold.
    let body = vec![0; 32 << 20];
    let asking = tokio::spawn(async move {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        write.write_all(head.as_bytes()).await.unwrap();
        write.write_all(&body).await
    });
    let mut answer = Vec::new();
    // It may well end with a reset, after the answer.
    let _ = tokio::time::timeout(PATIENCE, read.read_to_end(&mut answer)).await.expect("no end");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("answer"), "{answer}");
    asking.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn datagrams_find_pods_of_another_node_and_their_answers_the_way_back() {
    let ca = Ca::new();
    let (network, there) = (network(), there(&ca, "there").await);
    network.connect_peers(ca.tls("here").0);
    let far = there.network.bind_udp(&far_pod(2), 53).unwrap();
    let (far_address, service) = (far.local_addr(), "10.96.0.9:80".parse().unwrap());
    shout(far);
    let (_failures, _stop) = start(&network);
    let port = free_port().await;
    let cluster = Cluster::default().udp_service("far", "10.96.0.9", Some(port), &[far_address]);
    let tables = || cluster.clone().node(there.node.clone()).tables();
    network.update(tables());
    there.network.update(Cluster::default().node(here()).tables_of("there"));

    // From a pod, to the pod's own address and by a Service, whose address then answers.
    let near = network.bind_udp(&pod(5), 0).unwrap();
    for (text, to) in [("direct", far_address), ("again", far_address), ("by service", service)] {
        assert_eq!(ask(&near, text, to).await, (text.to_ascii_uppercase(), to));
    }
    // The pod sees the client's own address and port, and can begin by itself.
    let other = there.network.bind_udp(&far_pod(3), 5000).unwrap();
    near.send("hello".into(), other.local_addr()).unwrap();
    let heard = received(&other).await;
    assert_eq!((&heard.bytes[..], heard.peer), (&b"hello"[..], near.local_addr()));
    let large = bytes::Bytes::from(vec![7; k8w_networking::udp::MAX_DATAGRAM_BYTES]);
    other.send(large.clone(), heard.peer).unwrap();
    let answer = received(&near).await;
    assert_eq!((answer.bytes, answer.peer), (large, other.local_addr()));

    // From outside, through a node port.
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut answer = [0; 16];
    let asking = async {
        loop {
            let _ = client.send_to(b"outside", (Ipv4Addr::LOCALHOST, port)).await;
            if let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(100), client.recv(&mut answer)).await {
                return length;
            }
        }
    };
    let length = tokio::time::timeout(PATIENCE, asking).await.expect("no answer");
    assert_eq!(answer[..length], *b"OUTSIDE");

    // The other node's policies decide by who sends.
    let only_5 =
        "{podSelector: {matchLabels: {pod: '3'}}, ingress: [{from: [{podSelector: {matchLabels: {pod: '5'}}}]}]}";
    let policed =
        Cluster::default().pod(5).pod(6).policed_pod(&far_pod(3)).policy(serde_saphyr::from_str(only_5).unwrap());
    there.network.update(policed.node(here()).tables_of("there"));
    let stranger = network.bind_udp(&pod(6), 0).unwrap();
    for _ in 0..20 {
        stranger.send("stranger".into(), other.local_addr()).unwrap();
        near.send("known".into(), other.local_addr()).unwrap();
        assert_eq!(received(&other).await.bytes, "known");
    }
}
