use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use expect_test::expect;
use futures::StreamExt;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use k8w_networking::ingress::{self, Config};
use k8w_networking::{Body, BodyError, Network, PodListener};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::*;
use crate::peers::{Ca, There, far_pod, here, there};

struct Ingress {
    http: SocketAddr,
    https: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _stop_in_the_end: DropGuard,
}

impl Ingress {
    /// What a backend saw, whichever port was free.
    fn without_port(&self, seen: &str) -> String {
        seen.replace(&format!("x-forwarded-port: {}\n", self.http.port()), "x-forwarded-port: PORT\n")
    }
}

async fn start_with(network: &Arc<Network>, config: Config) -> Ingress {
    let listen = async || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (http, https) = (listen().await, listen().await);
    let addresses = (http.local_addr().unwrap(), https.local_addr().unwrap());
    let stop = CancellationToken::new();
    let served = ingress::serve(network.clone(), config, Some(http), Some(https), stop.clone());
    let task = tokio::spawn(async { served.await.unwrap() });
    Ingress { http: addresses.0, https: addresses.1, _stop_in_the_end: stop.clone().drop_guard(), stop, task }
}

async fn start(network: &Arc<Network>) -> Ingress {
    start_with(network, Config::default()).await
}

/// An ingress whose host `host` leads to a server at `backend`.
async fn in_front_of(backend: SocketAddr, config: Config) -> (Arc<Network>, Ingress) {
    let network = network();
    network.update(Cluster::default().service("web", "10.96.0.9", None, &[backend]).ingress("host", "web").tables());
    let ingress = start_with(&network, config).await;
    (network, ingress)
}

#[tokio::test]
async fn a_component_gets_the_request_with_the_truth_about_its_client() {
    let network = network();
    let (address, _registration) = describing(&network, &pod(2));
    let cluster = Cluster::default().service("web", "10.96.0.9", None, &[address]).ingress("shop.example", "web");
    network.update(cluster.tables());
    let ingress = start(&network).await;
    let mut client = Client::connect(ingress.http).await;
    let request = Request::post("/cart?item=7")
        .header("host", "Shop.Example:8080")
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-forwarded-proto", "https")
        .header("connection", "x-private, X-Real-IP, x-forwarded-for")
        .header("x-private", "1")
        .body(full("two, please"))
        .unwrap();
    let (status, answer) = read(client.send(request).await).await;
    assert_eq!(status, StatusCode::OK);
    expect![[r#"
        pod-2: POST /cart?item=7
        content-length: 11
        host: Shop.Example:8080
        x-forwarded-for: 127.0.0.1
        x-forwarded-host: Shop.Example:8080
        x-forwarded-port: PORT
        x-forwarded-proto: http
        x-real-ip: 127.0.0.1
        two, please"#]]
    .assert_eq(&ingress.without_port(&answer));
}

#[tokio::test]
async fn what_cannot_be_answered_is_said_in_one_sentence() {
    let network = network();
    let cluster = Cluster::default()
        .service("idle", "10.96.0.9", None, &[])
        .service("stopped", "10.96.0.10", None, &["10.64.0.3:8080".parse().unwrap()])
        .ingress("idle.example", "idle")
        .ingress("stopped.example", "stopped")
        .ingress("gone.example", "gone");
    network.update(cluster.tables());
    let ingress = start(&network).await;
    let mut client = Client::connect(ingress.http).await;
    let mut answers = String::new();
    for host in ["idle.example", "stopped.example", "gone.example", "other.example"] {
        let (status, answer) = client.get(host, "/path").await;
        answers += &format!("{} {answer}", status.as_u16());
    }
    let two_hosts = Request::get("/").header("host", "a").header("host", "b").body(full("")).unwrap();
    let (status, answer) = read(client.send(two_hosts).await).await;
    answers += &format!("{} {answer}", status.as_u16());
    expect![[r#"
        503 service default/idle has no ready endpoints
        503 service default/stopped has no ready endpoints
        503 service default/gone does not exist
        404 no Ingress has a rule for host other.example and path /path
        400 the request must name exactly one host
    "#]]
    .assert_eq(&answers);
}

#[tokio::test]
async fn a_remote_backend_is_reached_over_pooled_connections_without_our_hop_headers() {
    let backend = server(|number, request| async move {
        let mut response = describe(&format!("connection {number}"), request).await;
        response.headers_mut().insert("keep-alive", "timeout=5".parse().unwrap());
        response.headers_mut().insert("connection", "x-secret".parse().unwrap());
        response.headers_mut().insert("x-secret", "1".parse().unwrap());
        response
    })
    .await;
    let (_network, ingress) = in_front_of(backend, Config::default()).await;
    let mut client = Client::connect(ingress.http).await;
    for _ in 0..3 {
        let request = Request::get("/x").header("host", "host").header("te", "trailers").header("keep-alive", "1");
        let response = client.send(request.body(full("")).unwrap()).await;
        assert!(!response.headers().contains_key("x-secret") && !response.headers().contains_key("keep-alive"));
        let (status, answer) = read(response).await;
        assert_eq!(status, StatusCode::OK);
        expect![[r#"
            connection 0: GET /x
            host: host
            te: trailers
            x-forwarded-for: 127.0.0.1
            x-forwarded-host: host
            x-forwarded-port: PORT
            x-forwarded-proto: http
            x-real-ip: 127.0.0.1
        "#]]
        .assert_eq(&ingress.without_port(&answer));
    }
}

#[tokio::test]
async fn a_backend_that_is_not_there_or_too_slow_is_a_bad_gateway_or_a_timeout() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let (_network, ingress) = in_front_of(nobody, Config::default()).await;
    let (status, answer) = Client::connect(ingress.http).await.get("host", "/").await;
    assert_eq!((status, answer), (StatusCode::BAD_GATEWAY, format!("the request to {nobody} failed\n")));

    let silent = server(|_, _| std::future::pending()).await;
    let config = Config { response_timeout: Duration::from_millis(50), ..Config::default() };
    let (_network, ingress) = in_front_of(silent, config).await;
    let (status, answer) = Client::connect(ingress.http).await.get("host", "/").await;
    assert_eq!(
        (status, answer.as_str()),
        (StatusCode::GATEWAY_TIMEOUT, "the backend did not answer within 0 seconds\n")
    );
}

/// The limit begins anew whenever the request's body moves, whoever reads it.
#[tokio::test]
async fn an_upload_that_moves_takes_as_long_as_it_likes_and_one_that_stalls_does_not() {
    let network = network();
    let (component, _registration) = describing(&network, &pod(2));
    let remote = server(|_, request| async move { describe("remote", request).await }).await;
    let cluster = Cluster::default().service("component", "10.96.0.9", None, &[component]);
    let cluster = cluster.service("remote", "10.96.0.10", None, &[remote]);
    network.update(cluster.ingress("component", "component").ingress("remote", "remote").tables());
    let limit = Duration::from_secs(2);
    let ingress = start_with(&network, Config { response_timeout: limit, ..Config::default() }).await;
    let upload = async |host: &str, body: Body| {
        let request = Request::post("/").header("host", host).body(body).unwrap();
        read(Client::connect(ingress.http).await.send(request).await).await
    };
    let frame = || Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x")));
    let moves = || {
        let begun = Instant::now();
        let frames = futures::stream::unfold((), move |()| async move {
            tokio::time::sleep(limit / 100).await;
            (begun.elapsed() < limit * 5 / 4).then(|| (frame(), ()))
        });
        StreamBody::new(frames).boxed_unsync()
    };
    let stalls = || {
        let frames = futures::stream::iter([frame()]).chain(futures::stream::pending());
        StreamBody::new(frames).boxed_unsync()
    };
    let check = async |host| {
        let (moved, stalled) = tokio::join!(upload(host, moves()), upload(host, stalls()));
        assert!(moved.0 == StatusCode::OK && moved.1.ends_with("xx"), "{host}: {moved:?}");
        let late = "the backend did not answer within 2 seconds\n".to_owned();
        assert_eq!(stalled, (StatusCode::GATEWAY_TIMEOUT, late), "{host}");
    };
    tokio::join!(check("component"), check("remote"));
}

#[tokio::test]
async fn bodies_have_a_bound_whether_their_length_is_known_or_not() {
    let network = network();
    let (address, _registration) = describing(&network, &pod(2));
    network.update(Cluster::default().service("web", "10.96.0.9", None, &[address]).ingress("host", "web").tables());
    let config = Config { max_request_body_bytes: 10, ..Config::default() };
    let ingress = start_with(&network, config).await;
    let mut client = Client::connect(ingress.http).await;
    let post = |body: Body| Request::post("/").header("host", "host").body(body).unwrap();
    let (status, answer) = read(client.send(post(full("0123456789"))).await).await;
    assert!(status == StatusCode::OK && answer.ends_with("0123456789"), "{answer}");
    let (status, answer) = read(client.send(post(full("0123456789a"))).await).await;
    assert_eq!(
        (status, answer.as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, "the request's body is larger than 10 bytes\n")
    );
    let chunks = futures::stream::iter(["012345", "6789a"]);
    let chunked = StreamBody::new(chunks.map(|c| Ok::<_, BodyError>(Frame::data(Bytes::from(c))))).boxed_unsync();
    let (_, answer) = read(Client::connect(ingress.http).await.send(post(chunked)).await).await;
    assert!(answer.ends_with("(broken)"), "{answer}");
    // HTTP/2 need not say how long a body is, and says it where it is known.
    let mut client = http2_client(TcpStream::connect(ingress.http).await.unwrap()).await;
    let post = |body: Body| Request::post("http://host/").body(body).unwrap();
    assert_eq!(read(client.send_request(post(full("0123456789"))).await.unwrap()).await.0, StatusCode::OK);
    let status = client.send_request(post(full("0123456789a"))).await.unwrap().status();
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let chunks = futures::stream::iter(["012345", "6789a"]);
    let streamed = StreamBody::new(chunks.map(|c| Ok::<_, BodyError>(Frame::data(Bytes::from(c))))).boxed_unsync();
    let (_, answer) = read(client.send_request(post(streamed)).await.unwrap()).await;
    assert!(answer.ends_with("(broken)"), "{answer}");
}

#[tokio::test]
async fn http2_without_tls_names_its_host_in_the_target() {
    let network = network();
    let (address, _registration) = describing(&network, &pod(2));
    network.update(Cluster::default().service("web", "10.96.0.9", None, &[address]).ingress("host", "web").tables());
    let ingress = start(&network).await;
    let mut client = http2_client(TcpStream::connect(ingress.http).await.unwrap()).await;
    let request = Request::get("http://host:80/two").header("host", "lie").body(full("")).unwrap();
    let (status, answer) = read(client.send_request(request).await.unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(answer.starts_with("pod-2: GET /two\n") && answer.contains("\nhost: host:80\n"), "{answer}");
}

/// 64 KiB at the most, whatever they are made of; whoever sends more is not waited for.
#[tokio::test]
async fn the_head_of_a_request_has_a_bound() {
    let network = network();
    let (address, _registration) = describing(&network, &pod(2));
    network.update(Cluster::default().service("web", "10.96.0.9", None, &[address]).ingress("host", "web").tables());
    let ingress = start(&network).await;
    let request = |bytes: usize| {
        let mut request = Request::get("http://host/");
        // HTTP/2 counts 32 bytes more for each of them (RFC 9113, 6.5.2).
        for _ in 0..bytes / 1_000 {
            request = request.header("x", "x".repeat(960));
        }
        request.header("host", "host").body(full("")).unwrap()
    };
    let (status, answer) = read(Client::connect(ingress.http).await.send(request(60_000)).await).await;
    assert_eq!((status, answer.matches("x: xxx").count()), (StatusCode::OK, 60));
    let connected = async || http2_client(TcpStream::connect(ingress.http).await.unwrap()).await;
    let (status, answer) = read(connected().await.send_request(request(60_000)).await.unwrap()).await;
    assert_eq!((status, answer.matches("x: xxx").count()), (StatusCode::OK, 60));
    let refused = connected().await.send_request(request(70_000)).await.map(|response| response.status());
    assert!(matches!(refused, Err(_) | Ok(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)), "{refused:?}");

    let mut endless = TcpStream::connect(ingress.http).await.unwrap();
    endless.write_all(b"GET / HTTP/1.1\r\nhost: host\r\n").await.unwrap();
    let line = format!("x: {}\r\n", "x".repeat(1_000));
    let sending = async { while endless.write_all(line.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, sending).await.expect("it is taken for ever");
    let mut answer = Vec::new();
    // A reset may have overtaken it.
    let _ = endless.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let (status, _) = Client::connect(ingress.http).await.get("host", "/").await;
    assert_eq!(status, StatusCode::OK);
}

async fn tls_client(
    address: SocketAddr,
    name: &'static str,
    trusted: &rcgen::Certificate,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    handshake(address, name, config).await
}

async fn handshake(
    address: SocketAddr,
    name: &'static str,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), socket).await
}

/// The certificate that a client meets who believes any, and what it is answered for a host.
async fn met(ingress: &Ingress, name: &'static str, host: &str) -> (Vec<u8>, StatusCode, String) {
    let stream = handshake(ingress.https, name, k8w_kinds::any_certificate::client_config().unwrap()).await.unwrap();
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let (status, answer) = Client::over(stream).await.get(host, "/").await;
    (certificate, status, answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn certificates_come_from_secrets_by_name_and_follow_their_changes() {
    let network = network();
    let (address, _registration) = describing(&network, &pod(2));
    let cluster = Cluster::default().service("web", "10.96.0.9", None, &[address]).ingress("shop.example", "web");
    let make = || rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let (first, second) = (make(), make());
    let with = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        cluster.clone().secret(&made.cert.pem(), &made.signing_key.serialize_pem()).tables()
    };
    network.update(with(&first));
    let ingress = start(&network).await;

    let mut client =
        Client::over(tls_client(ingress.https, "shop.example", &first.cert, b"http/1.1").await.unwrap()).await;
    let (status, answer) = client.get("shop.example", "/").await;
    assert!(status == StatusCode::OK && answer.contains("x-forwarded-proto: https\n"), "{answer}");
    let stream = tls_client(ingress.https, "shop.example", &first.cert, b"h2").await.unwrap();
    let request = Request::get("https://shop.example/").body(full("")).unwrap();
    assert_eq!(http2_client(stream).await.send_request(request).await.unwrap().status(), StatusCode::OK);

    network.update(with(&second));
    assert!(
        tls_client(ingress.https, "shop.example", &first.cert, b"h2").await.is_err(),
        "the old certificate is used"
    );
    tls_client(ingress.https, "shop.example", &second.cert, b"h2").await.unwrap();
    assert!(tls_client(ingress.https, "other.example", &second.cert, b"h2").await.is_err());
}

/// As the usual ingress controllers do: a certificate decides whom a client believes, and never where its request goes.
#[tokio::test]
async fn a_host_without_a_certificate_of_its_own_is_served_all_the_same() {
    let network = network();
    let (address, _registration) = describing(&network, &pod(2));
    let web = json!({"service": {"name": "web", "port": {"number": 80}}});
    let rule =
        json!({"host": "shop.example", "http": {"paths": [{"pathType": "Prefix", "path": "/", "backend": web}]}});
    let cluster = || Cluster::default().service("web", "10.96.0.9", None, &[address]);
    let made = rcgen::generate_simple_self_signed(["any.example".to_owned()]).unwrap();
    let with_secret = |cluster: Cluster| cluster.secret(&made.cert.pem(), &made.signing_key.serialize_pem());
    let ingress = start(&network).await;
    let answered = "pod-2: GET /";
    let no_rule = "no Ingress has a rule for host other.example and path /";
    for (tls, spec) in [
        (false, json!({"rules": [rule]})),
        (false, json!({"rules": [rule], "tls": [{"hosts": ["shop.example"]}]})),
        (true, json!({"rules": [rule], "tls": [{"secretName": "tls"}]})),
        (true, json!({"rules": [rule], "tls": [{"hosts": [], "secretName": "tls"}]})),
        (true, json!({"defaultBackend": web, "tls": [{"secretName": "tls"}]})),
    ] {
        let cluster = cluster().ingress_of(spec.clone());
        network.update(with_secret(cluster.clone()).tables());
        let is_default = spec.get("defaultBackend").is_some();
        let elsewhere = if is_default { (StatusCode::OK, answered) } else { (StatusCode::NOT_FOUND, no_rule) };
        // An address is no name that TLS asks for.
        for name in ["shop.example", "other.example", "127.0.0.1"] {
            let (certificate, status, answer) = met(&ingress, name, "shop.example").await;
            assert_eq!((status, answer.as_str()), (StatusCode::OK, answered), "{spec} {name}");
            assert_eq!(certificate == made.cert.der().to_vec(), tls, "{spec} {name}");
        }
        let (_, status, answer) = met(&ingress, "other.example", "other.example").await;
        assert_eq!((status, answer.as_str()), elsewhere, "{spec}");
        // The Secret is gone, and then is none.
        for broken in [cluster.clone(), cluster.clone().secret("nonsense", "nonsense")] {
            network.update(broken.tables());
            let (certificate, status, answer) = met(&ingress, "shop.example", "shop.example").await;
            assert_eq!((status, answer.as_str()), (StatusCode::OK, answered), "{spec}");
            assert_ne!(certificate, made.cert.der().to_vec());
        }
    }
}

#[tokio::test]
async fn a_wildcard_certificate_is_for_one_label() {
    let network = network();
    let (address, _registration) = describing(&network, &pod(2));
    let made = rcgen::generate_simple_self_signed(["*.shop.example".to_owned()]).unwrap();
    let cluster = Cluster::default().service("web", "10.96.0.9", None, &[address]).ingress("*.shop.example", "web");
    network.update(cluster.secret(&made.cert.pem(), &made.signing_key.serialize_pem()).tables());
    let ingress = start(&network).await;
    let stream = tls_client(ingress.https, "a.shop.example", &made.cert, b"http/1.1").await.unwrap();
    assert_eq!(Client::over(stream).await.get("a.shop.example", "/").await.0, StatusCode::OK);
    for other in ["shop.example", "a.b.shop.example"] {
        assert_ne!(met(&ingress, other, other).await.0, made.cert.der().to_vec(), "{other}");
    }
}

#[tokio::test]
async fn an_external_name_is_no_backend() {
    let network = network();
    network.update(Cluster::default().external_name("elsewhere", "localhost").ingress("host", "elsewhere").tables());
    let ingress = start(&network).await;
    let (status, answer) = Client::connect(ingress.http).await.get("host", "/").await;
    let why = "service default/elsewhere is of type ExternalName, where the ingress does not lead\n";
    assert_eq!((status, answer.as_str()), (StatusCode::SERVICE_UNAVAILABLE, why));
}

/// Lets one client change protocols and sends it its next four bytes in reverse; the head of its request.
async fn switch_and_reverse<I: AsyncRead + AsyncWrite + Unpin>(mut io: I) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
    io.write_all(answer).await.unwrap();
    let mut bytes = [0; 4];
    io.read_exact(&mut bytes).await.unwrap();
    bytes.reverse();
    io.write_all(&bytes).await.unwrap();
    io.shutdown().await.unwrap();
    String::from_utf8(head).unwrap().to_lowercase()
}

/// Opens a WebSocket through the ingress to such a server.
async fn check_websocket(mut client: Client, served: JoinHandle<String>) {
    let request = Request::get("/chat")
        .header("host", "host")
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "k");
    let mut response = client.send(request.body(full("")).unwrap()).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.headers()["sec-websocket-accept"], "x");
    let mut stream = hyper_util::rt::TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"ping").await.unwrap();
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).await.unwrap();
    assert_eq!(echoed, "gnip");
    let head = served.await.unwrap();
    assert!(head.contains("connection: upgrade\r\n") && head.contains("sec-websocket-key: k\r\n"), "{head}");
}

#[tokio::test]
async fn a_websocket_is_handed_through_to_a_remote_backend() {
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (_network, ingress) = in_front_of(backend.local_addr().unwrap(), Config::default()).await;
    let served = tokio::spawn(async move { switch_and_reverse(backend.accept().await.unwrap().0).await });
    check_websocket(Client::connect(ingress.http).await, served).await;
}

#[tokio::test]
async fn a_websocket_is_handed_through_to_a_listening_pod() {
    let (network, ingress) = in_front_of("10.64.0.2:8080".parse().unwrap(), Config::default()).await;
    let listener = network.bind_tcp(&pod(2), 8080).await.unwrap();
    let served = tokio::spawn(async move { switch_and_reverse(listener.accept().await.unwrap().stream).await });
    check_websocket(Client::connect(ingress.http).await, served).await;
}

/// An ingress whose host `host` leads to port 8080 of a pod of another node, which listens there.
async fn in_front_of_another_node(protocol: &str) -> (Arc<Network>, Ingress, There, PodListener) {
    let ca = Ca::new();
    let (network, there) = (network(), there(&ca, "there").await);
    network.connect_peers(ca.tls("here").0);
    there.network.update(Cluster::default().node(here()).tables_of("there"));
    let listener = there.network.bind_tcp(&far_pod(2), 8080).await.unwrap();
    let cluster = Cluster::default().service("web", "10.96.0.9", None, &[listener.local_addr()]);
    network.update(cluster.app_protocol(protocol).ingress("host", "web").node(there.node.clone()).tables());
    let ingress = start(&network).await;
    (network, ingress, there, listener)
}

#[tokio::test]
async fn a_websocket_over_tls_is_handed_through_to_a_pod_of_another_node() {
    let (_network, ingress, _there, listener) = in_front_of_another_node("http").await;
    let served = tokio::spawn(async move { switch_and_reverse(listener.accept().await.unwrap().stream).await });
    let stream = handshake(ingress.https, "host", k8w_kinds::any_certificate::client_config().unwrap()).await.unwrap();
    check_websocket(Client::over(stream).await, served).await;
}

#[tokio::test]
async fn requests_under_way_end_before_the_ingress_does() {
    let network = network();
    let (begun, go_on) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let handler = Answer({
        let (begun, go_on) = (begun.clone(), go_on.clone());
        move |_| {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            async move {
                begun.notify_one();
                go_on.notified().await;
                text(StatusCode::OK, "done")
            }
        }
    });
    let registration = network.bind_http(&pod(2), 8080, Arc::new(handler)).unwrap();
    let cluster =
        Cluster::default().service("web", "10.96.0.9", None, &[registration.address()]).ingress("host", "web");
    network.update(cluster.tables());
    let ingress = start(&network).await;
    let mut client = Client::connect(ingress.http).await;
    let request = tokio::spawn(async move { client.get("host", "/").await });
    begun.notified().await;
    ingress.stop.cancel();
    // The listener is gone when connecting fails; the request is still under way.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while TcpStream::connect(ingress.http).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the listener stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!ingress.task.is_finished());
    go_on.notify_one();
    assert_eq!(request.await.unwrap(), (StatusCode::OK, "done".into()));
    tokio::time::timeout(PATIENCE, ingress.task).await.expect("the ingress does not end").unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_request() {
    struct Told(Arc<AtomicUsize>, Arc<tokio::sync::Notify>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            self.1.notify_one();
        }
    }
    let network = network();
    let cancelled = Arc::new(AtomicUsize::new(0));
    let (begun, ended) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let handler = Answer({
        let (cancelled, begun, ended) = (cancelled.clone(), begun.clone(), ended.clone());
        move |_| {
            let told = Told(cancelled.clone(), ended.clone());
            let begun = begun.clone();
            async move {
                let _told = told;
                begun.notify_one();
                std::future::pending().await
            }
        }
    });
    let registration = network.bind_http(&pod(2), 8080, Arc::new(handler)).unwrap();
    let cluster =
        Cluster::default().service("web", "10.96.0.9", None, &[registration.address()]).ingress("host", "web");
    network.update(cluster.tables());
    let ingress = start(&network).await;
    let mut socket = TcpStream::connect(ingress.http).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: host\r\n\r\n").await.unwrap();
    begun.notified().await;
    assert_eq!(cancelled.load(Ordering::SeqCst), 0);
    drop(socket);
    tokio::time::timeout(PATIENCE, ended.notified()).await.expect("the request goes on");
}

/// Answers requests of HTTP/2 with what was seen of them, and their own bodies.
async fn echo_h2c<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: I) {
    let echo = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
        let seen = format!("{:?} {} te {:?}", request.version(), request.uri(), request.headers().get("te"));
        let body = request.into_body().map_err(BodyError::from).boxed_unsync();
        Ok::<_, std::convert::Infallible>(http::Response::builder().header("x-seen", seen).body(body).unwrap())
    });
    let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let _ = builder.serve_connection(hyper_util::rt::TokioIo::new(io), echo).await;
}

/// Makes a call as gRPC does: HTTP/2 with trailers, streamed both ways.
async fn check_grpc(client: &mut http2::SendRequest<Body>, scheme: &str) {
    let (mut sender, frames) = futures::channel::mpsc::channel::<Result<Frame<Bytes>, BodyError>>(0);
    let request = Request::post(format!("{scheme}://host/pkg.Service/Method")).header("te", "trailers");
    let answer = client.send_request(request.body(StreamBody::new(frames).boxed_unsync()).unwrap());
    let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
    let seen = answer.headers()["x-seen"].to_str().unwrap();
    assert_eq!(seen, r#"HTTP/2.0 http://host/pkg.Service/Method te Some("trailers")"#);
    let mut body = answer.into_body();
    for message in ["one", "two"] {
        futures::SinkExt::send(&mut sender, Ok(Frame::data(Bytes::from_static(message.as_bytes())))).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), message);
    }
    let trailers = http::HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())]);
    futures::SinkExt::send(&mut sender, Ok(Frame::trailers(trailers.clone()))).await.unwrap();
    drop(sender);
    assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers);
}

#[tokio::test]
async fn a_backend_that_speaks_h2c_gets_http2_on_one_connection_with_streams_and_trailers() {
    let (connections, listener) = (Arc::new(AtomicUsize::new(0)), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await);
    let listener = listener.unwrap();
    let backend = listener.local_addr().unwrap();
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(echo_h2c(socket));
        }
    });
    let network = network();
    let cluster = Cluster::default().service("web", "10.96.0.9", None, &[backend]).ingress("host", "web");
    network.update(cluster.app_protocol("kubernetes.io/h2c").tables());
    let ingress = start(&network).await;
    let mut client = http2_client(TcpStream::connect(ingress.http).await.unwrap()).await;
    for _ in 0..2 {
        check_grpc(&mut client, "http").await;
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    // A client of HTTP/1.1 is understood as well.
    let (status, _) = Client::connect(ingress.http).await.get("host", "/").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn first_requests_to_an_h2c_backend_share_the_connection_that_is_made() {
    let (connections, refusing) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(2)));
    let network = network();
    let listener = network.bind_tcp(&pod(2), 8080).await.unwrap();
    let backend = listener.local_addr();
    let (counted, refuses) = (connections.clone(), refusing.clone());
    tokio::spawn(async move {
        while let Ok(incoming) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            if refuses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
                tokio::spawn(echo_h2c(incoming.stream));
            }
        }
    });
    let cluster = Cluster::default().service("web", "10.96.0.9", None, &[backend]).ingress("host", "web");
    network.update(cluster.app_protocol("kubernetes.io/h2c").tables());
    let ingress = start(&network).await;
    let at_once = async || {
        let ask = || async { Client::connect(ingress.http).await.get("host", "/").await.0 };
        futures::future::join_all((0..20).map(|_| ask())).await
    };
    // Those that share one that fails are all told so, and the next ones make another.
    while refusing.load(Ordering::SeqCst) > 0 {
        assert!(at_once().await.contains(&StatusCode::BAD_GATEWAY));
    }
    let failed = connections.load(Ordering::SeqCst);
    assert_eq!(at_once().await, [StatusCode::OK; 20]);
    assert!(connections.load(Ordering::SeqCst) <= failed + 1, "{connections:?} connections after {failed}");
}

#[tokio::test]
async fn grpc_over_tls_reaches_a_pod_of_another_node() {
    let (_network, ingress, _there, listener) = in_front_of_another_node("kubernetes.io/h2c").await;
    tokio::spawn(async move {
        loop {
            tokio::spawn(echo_h2c(listener.accept().await.unwrap().stream));
        }
    });
    let mut config = k8w_kinds::any_certificate::client_config().unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = handshake(ingress.https, "host", config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = http2_client(stream).await;
    for _ in 0..2 {
        check_grpc(&mut client, "https").await;
    }
}
