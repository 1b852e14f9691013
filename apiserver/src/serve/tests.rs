//! Real sockets on 127.0.0.1, real TLS.

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;
use crate::pki::{ClientCas, Pki, ServerNames};

struct Server {
    address: SocketAddr,
    pki: Pki,
    _dir: tempfile::TempDir,
    /// Whoever waits for `/release` has subscribed to it.
    release: watch::Sender<bool>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<io::Result<()>>,
}

impl Server {
    /// A server that says who asked. Its answer to `/slow`, and the body of that to `/watch`, take until `/release` is asked
    /// for. Bodies are not read.
    async fn start(limits: Limits) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let service_ip = "10.96.0.1".parse().unwrap();
        let pki =
            Pki::open(dir.path(), &ServerNames { service_ip, cluster_domain: "cluster.local".into(), extra: vec![] });
        let pki = pki.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let release = watch::Sender::new(false);
        let releasing = release.clone();
        let handler = move |request: Request<Incoming>, peer: Peer| {
            let release = releasing.clone();
            async move {
                match request.uri().path() {
                    "/slow" => drop(release.subscribe().wait_for(|released| *released).await.unwrap()),
                    "/watch" => return Response::new(event(release.subscribe())),
                    "/release" => drop(release.send_replace(true)),
                    _ => {}
                }
                Response::new(Body::from(format!("{:?} {} certificates", request.version(), peer.certificates.len())))
            }
        };
        let tls = pki.server_config(&ClientCas::default()).unwrap();
        let ended = tokio::spawn(serve(listener, tls, limits, handler, async { drop(stopped.await) }));
        Server { address, pki, _dir: dir, release, stop, ended }
    }

    /// Waits until as many requests wait for `/release`.
    async fn waiting(&self, requests: usize) {
        let there = async {
            while self.release.receiver_count() < requests {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), there).await.unwrap();
    }

    async fn tls(&self, protocol: &[u8], with_certificate: bool) -> ClientStream<TcpStream> {
        let mut config = if with_certificate {
            self.pki.admin().client_config(self.pki.ca()).unwrap()
        } else {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.pki.ca().clone()).unwrap();
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth()
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    async fn http2<B>(&self) -> hyper::client::conn::http2::SendRequest<B>
    where
        B: http_body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(self.tls(b"h2", true).await);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

const EVENT_BYTES: usize = 16 << 10;

/// What a watch is sent once it is released.
fn event(mut released: watch::Receiver<bool>) -> Body {
    let event = async move {
        released.wait_for(|released| *released).await.unwrap();
        Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[b'x'; EVENT_BYTES])))
    };
    Body::stream(StreamBody::new(event.into_stream()))
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://kubernetes{path}")).body(Empty::new()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    assert_eq!(response.status(), StatusCode::OK);
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn http2_and_http1_are_agreed_on_and_certificates_are_optional() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.http2().await;
    assert_eq!(text(client.send_request(get("/")).await.unwrap()).await, "HTTP/2.0 1 certificates");
    let stream = TokioIo::new(server.tls(b"http/1.1", false).await);
    let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(text(client.send_request(get("/")).await.unwrap()).await, "HTTP/1.1 0 certificates");
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let (server, other) = (Server::start(Limits::default()).await, Server::start(Limits::default()).await);
    let config = other.pki.admin().client_config(server.pki.ca()).unwrap();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    // TLS 1.3 tells the client with its first read.
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    assert!(stream.read(&mut [0]).await.is_err());
}

#[tokio::test]
async fn a_silent_client_is_dropped() {
    let server = Server::start(Limits { handshake_ms: 10, header_ms: 10, ..Limits::default() }).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    let server = Server::start(Limits { header_ms: 10, ..Limits::default() }).await;
    let mut slow = server.tls(b"http/1.1", false).await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: a").await.unwrap();
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_header_that_is_too_long_is_refused() {
    let server = Server::start(Limits { header_bytes: 1024, ..Limits::default() }).await;
    let mut client = server.http2().await;
    let mut request = get("/");
    request.headers_mut().insert("long", "x".repeat(4096).parse().unwrap());
    let refused = client.send_request(request).await;
    assert!(refused.map_or(true, |response| response.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
}

/// As Go's server does: the stream is closed after the answer, and without an error (RFC 9113, section 8.1).
#[tokio::test]
async fn a_client_that_goes_on_sending_is_answered_all_the_same() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.http2().await;
    let endless =
        futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(&[0; 1 << 14]))));
    let request = Request::post("https://kubernetes/").body(StreamBody::new(endless)).unwrap();
    assert_eq!(text(client.send_request(request).await.unwrap()).await, "HTTP/2.0 1 certificates");
}

#[tokio::test]
async fn every_stream_of_a_connection_has_what_all_are_sent() {
    const STREAMS: usize = 200;
    let server = Server::start(Limits::default()).await;
    let mut client = server.http2().await;
    let mut watches = Vec::new();
    for _ in 0..STREAMS {
        watches.push(client.send_request(get("/watch")).await.unwrap());
    }
    // Many times what a connection holds back at a time.
    client.send_request(get("/release")).await.unwrap();
    for watch in watches {
        assert_eq!(text(watch).await.len(), EVENT_BYTES);
    }
}

#[tokio::test]
async fn a_request_that_its_client_gives_up_is_dropped() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.http2().await;
    let slow = tokio::spawn(client.send_request(get("/slow")));
    server.waiting(1).await;
    slow.abort();
    timeout(Duration::from_secs(60), server.release.closed()).await.unwrap();
    assert_eq!(text(client.send_request(get("/")).await.unwrap()).await, "HTTP/2.0 1 certificates");
}

#[tokio::test]
async fn further_connections_wait_for_room() {
    let server = Server::start(Limits { connections: 1, ..Limits::default() }).await;
    let first = server.http2::<Empty<Bytes>>().await;
    let waiting = server.http2();
    let mut waiting = std::pin::pin!(waiting);
    assert!(timeout(Duration::from_millis(50), waiting.as_mut()).await.is_err());
    drop(first);
    let mut second = waiting.await;
    assert_eq!(text(second.send_request(get("/")).await.unwrap()).await, "HTTP/2.0 1 certificates");
}

#[tokio::test]
async fn requests_in_flight_are_answered_when_the_server_stops() {
    let server = Server::start(Limits { drain_ms: 10_000, ..Limits::default() }).await;
    let mut client = server.http2().await;
    let slow = tokio::spawn(client.send_request(get("/slow")));
    let release = client.send_request(get("/release"));
    server.stop.send(()).unwrap();
    // Both were sent before the connection heard of the stop, or are refused; what was begun is answered.
    let (slow, released) = (slow.await.unwrap(), release.await);
    if released.is_ok() {
        assert_eq!(text(slow.unwrap()).await, "HTTP/2.0 1 certificates");
    }
    server.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_waits_no_longer_than_it_may() {
    let server = Server::start(Limits { drain_ms: 10, ..Limits::default() }).await;
    let mut client = server.http2().await;
    let slow = client.send_request(get("/slow"));
    text(client.send_request(get("/")).await.unwrap()).await;
    server.stop.send(()).unwrap();
    server.ended.await.unwrap().unwrap();
    assert!(slow.await.is_err());
}
