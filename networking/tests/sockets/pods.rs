use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use k8w_networking::{AnyCertificate, Body, BodyError, Endpoint, Network, Refused, SendError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::harness::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn two_pods_listen_on_the_same_port_and_loopback_is_their_own() {
    let network = network();
    let (a, b) = (pod(2), pod(3));
    let listeners = (network.bind_tcp(&a, 8080).await.unwrap(), network.bind_tcp(&b, 8080).await.unwrap());
    assert_eq!(network.bind_tcp(&a, 8080).await.unwrap_err().kind(), ErrorKind::AddrInUse);
    let picked = network.bind_tcp(&a, 0).await.unwrap();
    assert!(picked.local_addr().port() >= 32768);

    let mut to_b = network.connect(Some(&a), address("10.64.0.3:8080")).await.unwrap();
    let mut to_itself = network.connect(Some(&a), address("127.0.0.1:8080")).await.unwrap();
    to_b.write_all(b"to b").await.unwrap();
    to_itself.write_all(b"to a").await.unwrap();
    for (listener, expected) in [(&listeners.1, b"to b"), (&listeners.0, b"to a")] {
        let mut incoming = listener.accept().await.unwrap();
        let mut bytes = [0; 4];
        incoming.stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!((&bytes, incoming.peer.ip()), (expected, a.ip));
    }
    drop(listeners);
    let refused = network.connect(Some(&b), address("10.64.0.2:8080")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    network.bind_tcp(&a, 8080).await.unwrap();
}

/// As of sockets in one network namespace: the later one fails, and the earlier one keeps what it has.
#[tokio::test]
async fn a_port_of_a_pod_is_one_components_or_one_listeners() {
    let network = network();
    let (own, other) = (pod(2), pod(3));
    let bind = |pod, port, word| {
        network.bind_http(pod, port, Arc::new(Answer(move |_| async move { text(StatusCode::OK, word) })))
    };
    let in_use = |bound: io::Result<()>| assert_eq!(bound.unwrap_err().kind(), ErrorKind::AddrInUse);
    for private in [false, true] {
        let listen = async || match private {
            false => network.bind_tcp(&own, 8080).await,
            true => network.bind_tcp_loopback(&own, 8080).await,
        };
        let listener = listen().await.unwrap();
        in_use(bind(&own, 8080, "late").map(drop));
        assert!(matches!(network.select(Some(&own), listener.local_addr()), Ok(Endpoint::Listener(_))));
        drop(listener);
        let first = bind(&own, 8080, "first").unwrap();
        let _elsewhere = (bind(&own, 8081, "port").unwrap(), bind(&other, 8080, "pod").unwrap());
        in_use(bind(&own, 8080, "second").map(drop));
        in_use(listen().await.map(drop));
        let request = Request::get("http://localhost:8080/").body(full("")).unwrap();
        assert_eq!(read(network.send(Some(&own), request).await.unwrap()).await.1, "first");
        drop(first);
    }
}

#[tokio::test]
async fn what_the_cluster_does_not_know_is_refused_and_what_is_foreign_is_itself() {
    let network = network();
    let (endpoint, registration) = describing(&network, &pod(2));
    network.update(
        Cluster::default()
            .service("web", "10.96.0.9", None, &[endpoint])
            .service("idle", "10.96.0.10", None, &[])
            .tables(),
    );
    let select = |dst| network.select(Some(&pod(7)), address(dst));
    assert!(matches!(select("10.96.0.9:80"), Ok(Endpoint::Local(_))));
    assert_eq!(select("10.96.0.9:81").unwrap_err(), Refused::NothingListens(address("10.96.0.9:81")));
    assert_eq!(select("10.96.7.7:80").unwrap_err(), Refused::NothingListens(address("10.96.7.7:80")));
    assert_eq!(select("10.64.200.1:80").unwrap_err(), Refused::NothingListens(address("10.64.200.1:80")));
    assert_eq!(select("127.0.0.1:80").unwrap_err(), Refused::NothingListens(address("10.64.0.7:80")));
    assert_eq!(select("10.96.0.10:80").unwrap_err(), Refused::NoEndpoints { service: "default/idle".into() });
    assert!(matches!(select("198.51.100.7:443"), Ok(Endpoint::Remote(a)) if a == address("198.51.100.7:443")));
    drop(registration);
    assert_eq!(select("10.96.0.9:80").unwrap_err(), Refused::Stopped { service: "default/web".into() });
    let _node = network.register_api_server(address("10.64.0.1:6443"), address("127.0.0.1:16443"));
    assert!(matches!(select("10.64.0.1:6443"), Ok(Endpoint::Remote(a)) if a == address("127.0.0.1:16443")));
}

#[tokio::test]
async fn a_request_by_name_calls_the_component_with_its_body_streamed_both_ways() {
    let network = network();
    let produced = Arc::new(AtomicUsize::new(0));
    let echo = Answer(|request: Request<Body>| async { Response::new(request.into_body()) });
    let registration = network.bind_http(&pod(2), 8080, Arc::new(echo)).unwrap();
    network.update(Cluster::default().service("echo", "10.96.0.9", None, &[registration.address()]).tables());

    let frames = futures::stream::repeat_with({
        let produced = produced.clone();
        move || {
            produced.fetch_add(1, Ordering::SeqCst);
            Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"frame")))
        }
    });
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "3".parse().unwrap());
    let frames = frames.take(3).chain(futures::stream::iter([Ok(Frame::trailers(trailers))]));
    let request = Request::post("http://echo.default.svc/").body(StreamBody::new(frames).boxed_unsync()).unwrap();
    let mut body = network.send(Some(&pod(7)), request).await.unwrap().into_body();
    // Nobody has asked for a frame yet; then one is produced for each that is asked for.
    for expected in 0..3 {
        assert_eq!(produced.load(Ordering::SeqCst), expected);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "frame");
    }
    assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap()["x-sum"], "3");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_response_that_is_dropped_cancels_its_producer() {
    struct Told(Arc<Notify>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let network = network();
    let cancelled = Arc::new(Notify::new());
    let endless = Answer({
        let cancelled = cancelled.clone();
        move |_| {
            let told = Told(cancelled.clone());
            async move {
                let frames = futures::stream::repeat_with(move || {
                    let _alive = &told;
                    Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"more")))
                });
                Response::new(StreamBody::new(frames).boxed_unsync())
            }
        }
    });
    let registration = network.bind_http(&pod(2), 8080, Arc::new(endless)).unwrap();
    let uri = format!("http://{}/", registration.address());
    let mut body = network.send(Some(&pod(7)), Request::get(uri).body(full("")).unwrap()).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    tokio::time::timeout(PATIENCE, cancelled.notified()).await.expect("the producer goes on");
}

#[tokio::test]
async fn a_request_to_a_pod_that_listens_by_itself_is_http_over_a_pipe() {
    let network = network();
    let listener = network.bind_tcp(&pod(2), 8080).await.unwrap();
    network.update(Cluster::default().service("web", "10.96.0.9", None, &[listener.local_addr()]).tables());
    tokio::spawn(async move {
        for number in 0.. {
            let incoming = listener.accept().await.unwrap();
            let answer = |number, request| async move { describe(&format!("connection {number}"), request).await };
            tokio::spawn(serve(incoming.stream, number, answer));
        }
    });
    for _ in 0..2 {
        let request =
            Request::get("http://web/x").header("connection", "x-hop").header("x-hop", "1").body(full("")).unwrap();
        let (status, answer) = read(network.send(Some(&pod(7)), request).await.unwrap()).await;
        assert_eq!((status, answer.as_str()), (StatusCode::OK, "connection 0: GET /x\nhost: web\n"));
    }
}

#[tokio::test]
async fn a_byte_stream_to_a_component_speaks_http() {
    let network = network();
    let (address, _registration) = describing(&network, &pod(2));
    let stream = network.connect(Some(&pod(7)), address).await.unwrap();
    let (status, answer) = Client::over(stream).await.get("web", "/over-a-pipe").await;
    assert!(status == StatusCode::OK && answer.starts_with("pod-2: GET /over-a-pipe\n"), "{answer}");
}

#[tokio::test]
async fn requests_that_lead_nowhere_say_why() {
    let network = network();
    let (_address, _registration) = describing(&network, &pod(2));
    let send = async |uri: &str| network.send(Some(&pod(7)), Request::get(uri).body(full("")).unwrap()).await.map(drop);
    assert!(matches!(send("http://gone.default.svc.cluster.local/").await, Err(SendError::NoSuchName(_))));
    assert!(matches!(send("http://10.96.0.77/").await, Err(SendError::Refused(_))));
    assert!(matches!(send("ftp://10.96.0.77/").await, Err(SendError::Scheme(_))));
    assert!(matches!(send("/").await, Err(SendError::Scheme(_))));
    assert!(matches!(send("https://10.64.0.2:8080/").await, Err(SendError::InClear)));
}

/// A server of TLS that is nobody's pod, and how those know it who trust its certificate, if they do.
async fn https_server(names: &[&str]) -> (SocketAddr, impl Fn(bool) -> Arc<rustls::ClientConfig>) {
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    tokio::spawn(async move {
        loop {
            let socket = listener.accept().await.unwrap().0;
            let Ok(socket) = acceptor.accept(socket).await else { continue };
            tokio::spawn(serve(socket, 0, |_, request| async move { describe("foreign", request).await }));
        }
    });
    let client = move |trusted: bool| {
        let mut roots = rustls::RootCertStore::empty();
        if trusted {
            roots.add(made.cert.der().clone()).unwrap();
        }
        let client = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        Arc::new(client.unwrap().with_root_certificates(roots).with_no_client_auth())
    };
    (address, client)
}

#[tokio::test]
async fn https_to_a_foreign_host_is_tls_under_its_own_name() {
    let (address, client) = https_server(&["127.0.0.1"]).await;
    let uri = format!("https://{address}/path");
    let get = async |network: Arc<Network>| network.send(None, Request::get(&uri).body(full("")).unwrap()).await;
    let (status, answer) = read(get(network_with_tls(Some(client(true)))).await.unwrap()).await;
    assert!(status == StatusCode::OK && answer.starts_with("foreign: GET /path\n"), "{answer}");
    let distrusted = get(network_with_tls(Some(client(false)))).await;
    assert!(matches!(distrusted, Err(SendError::Failed { .. })), "its certificate is nobody's");
    assert!(matches!(get(network()).await, Err(SendError::Failed { .. })), "there are no roots");
}

#[tokio::test]
async fn the_clusters_ca_is_believed_at_the_api_servers_addresses_alone() {
    let (address, client) = https_server(&["10.96.0.1", "127.0.0.1"]).await;
    let network = network_with_tls(Some(client(false)));
    let _api_server = network.register_api_server("10.96.0.1:443".parse().unwrap(), address);
    let get = async |uri: &str| network.send(Some(&pod(7)), Request::get(uri).body(full("")).unwrap()).await;
    assert!(matches!(get("https://10.96.0.1/").await, Err(SendError::Failed { .. })), "nothing is trusted yet");
    network.trust_cluster(client(true));
    assert_eq!(get("https://10.96.0.1/").await.unwrap().status(), StatusCode::OK);
    let foreign = network.send(None, Request::get(format!("https://{address}/")).body(full("")).unwrap()).await;
    assert!(matches!(foreign, Err(SendError::Failed { .. })), "elsewhere it is a foreign host");
}

/// The kubelet verifies no certificate of whom it probes.
#[tokio::test]
async fn who_takes_any_certificate_lends_its_connections_to_nobody() {
    let (address, client) = https_server(&["elsewhere"]).await;
    let network = network_with_tls(Some(client(false)));
    let request = || Request::get(format!("https://{address}/")).body(full("")).unwrap();
    let mut probe = request();
    probe.extensions_mut().insert(AnyCertificate);
    assert_eq!(read(network.send(None, probe).await.unwrap()).await.0, StatusCode::OK);
    assert!(matches!(network.send(None, request()).await, Err(SendError::Failed { .. })));
    let clear = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}/", clear.local_addr().unwrap());
    tokio::spawn(async move {
        let socket = clear.accept().await.unwrap().0;
        serve(socket, 0, |_, request| async move { describe("clear", request).await }).await;
    });
    let mut probe = Request::get(uri).body(full("")).unwrap();
    probe.extensions_mut().insert(AnyCertificate);
    let answer = network.send(None, probe).await.unwrap_err();
    assert_eq!(answer.to_string(), "http: server gave HTTP response to HTTPS client");
}

#[tokio::test]
async fn a_port_on_loopback_is_the_pods_own() {
    let network = network();
    let (own, other) = (pod(2), pod(3));
    let listener = network.bind_tcp_loopback(&own, 8080).await.unwrap();
    let address = listener.local_addr();
    assert_eq!(network.connect(Some(&other), address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(network.connect(None, address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let loopback = SocketAddr::from(([127, 0, 0, 1], 8080));
    let (connected, accepted) = tokio::join!(network.connect(Some(&own), loopback), listener.accept());
    connected.unwrap();
    accepted.unwrap();
}

#[tokio::test]
async fn a_pod_may_stop_a_moment_before_the_tables_know_of_its_successor() {
    let network = network();
    let (old, registration) = describing(&network, &pod(2));
    let (new, _registration) = describing(&network, &pod(3));
    let cluster = |endpoint| Cluster::default().service("web", "10.96.0.9", None, &[endpoint]);
    network.update(cluster(old).tables());
    drop(registration);
    let asking = tokio::spawn({
        let network = network.clone();
        async move { network.send(Some(&pod(7)), Request::get("http://web/").body(full("")).unwrap()).await }
    });
    tokio::task::yield_now().await;
    network.update(cluster(new).tables());
    assert_eq!(asking.await.unwrap().unwrap().status(), StatusCode::OK);
}
