//! `pods/exec`, `pods/portforward` and `pods/proxy`: what clients speak on one side, and the node on the other.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8w_apiserver::pki::{ClientCas, Pki, ServerNames};
use k8w_apiserver::plugins::{ConnectError, NodeConnector};
use k8w_apiserver::{ApiServer, Body, Config, Peer, UserInfo};
use k8w_kinds::node_stream::{Decoder, Message as NodeMessage};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::cluster::{As, Cluster};

const POD: &str = "/api/v1/namespaces/default/pods/p";

/// A node whose commands repeat their input, whose pods answer one HTTP request on any port (in TLS on port 443; on port 666
/// half of it, and the node is gone), and have said a line.
struct Node;

#[async_trait]
impl NodeConnector for Node {
    async fn request(&self, _: &str, request: Request<Body>) -> Result<Response<Body>, ConnectError> {
        let (answers, answered) = mpsc::channel::<Bytes>(8);
        let (parts, mut body) = request.into_parts();
        let path = parts.uri.to_string();
        if path.starts_with("/containerLogs") {
            return Ok(Response::new(Body::from("a line\n".to_owned())));
        }
        if path.ends_with("?port=443") {
            let (near, far) = tokio::io::duplex(1 << 16);
            tokio::spawn(answer_in_tls(far));
            let (mut reader, mut writer) = tokio::io::split(near);
            tokio::spawn(async move {
                while let Some(Ok(frame)) = body.frame().await {
                    writer.write_all(&frame.into_data().unwrap()).await.unwrap();
                }
            });
            tokio::spawn(async move {
                let mut bytes = BytesMut::new();
                while reader.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
                    let _ = answers.send(bytes.split().freeze()).await;
                }
            });
            return Ok(streamed(answered));
        }
        if path.ends_with("?port=666") {
            let half = async move {
                body.frame().await.unwrap().map(|_| Frame::data(Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\nhal")))
            };
            let gone = futures::stream::iter([Err("the node is gone".into())]);
            let frames = futures::stream::once(half).chain(gone);
            return Ok(Response::new(Body::stream(StreamBody::new(frames))));
        }
        tokio::spawn(async move {
            let mut decoder = Decoder::default();
            while let Some(Ok(frame)) = body.frame().await {
                let bytes = frame.into_data().unwrap();
                if path.starts_with("/portForward") {
                    let answer =
                        b"HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
                    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
                    assert!(!head.contains("authorization:"), "{head}");
                    let _ = answers.send(Bytes::from_static(answer)).await;
                    return;
                }
                decoder.push(&bytes);
                while let Some(message) = decoder.pop().unwrap() {
                    let answer = match message {
                        NodeMessage::Stdin(bytes) => NodeMessage::Stdout(bytes),
                        NodeMessage::StdinEnd => NodeMessage::Exit(3),
                        _ => continue,
                    };
                    answers.send(answer.encode()).await.unwrap();
                }
            }
        });
        Ok(streamed(answered))
    }
}

fn streamed(answered: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = ReceiverStream::new(answered).map(|bytes| Ok::<_, std::convert::Infallible>(Frame::data(bytes)));
    Response::new(Body::stream(StreamBody::new(frames)))
}

/// Answers one request with its path, under a certificate that nobody knows.
async fn answer_in_tls(io: DuplexStream) {
    let keys = tempfile::tempdir().unwrap();
    let service_ip = "192.0.2.1".parse().unwrap();
    let names = ServerNames { service_ip, cluster_domain: "cluster.local".into(), extra: vec![] };
    let config = Pki::open(keys.path(), &names).unwrap().server_config(&ClientCas::default()).unwrap();
    let stream = TlsAcceptor::from(config).accept(io).await.unwrap();
    let answer = service_fn(|request: Request<hyper::body::Incoming>| async move {
        Ok::<_, std::convert::Infallible>(Response::new(Body::from(request.uri().path().to_owned())))
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.unwrap();
}

async fn cluster() -> Cluster {
    let cluster = Cluster::new().await;
    cluster.make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})).await;
    let spec = json!({"nodeName": "n1", "containers": [{"name": "a", "image": "x"}]});
    cluster.make(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})).await;
    cluster.server.connect_nodes(Box::new(Node));
    cluster
}

/// A WebSocket of the administrator's, over HTTP/1.1 as clients speak it; else the answer's code.
async fn websocket(
    server: &Arc<ApiServer>,
    path: &str,
    protocol: &str,
) -> Result<WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, u16> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let server = server.clone();
    let serve = service_fn(move |request: Request<hyper::body::Incoming>| {
        let server = server.clone();
        async move {
            let admin = UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
            let response = server.handle(request.map(Body::from), Peer::in_process(admin)).await;
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), serve).with_upgrades());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(path)
        .header("host", "api")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocol);
    let mut response = sender.send_request(request.body(Body::Empty).unwrap()).await.unwrap();
    if response.status() != 101 {
        return Err(response.status().as_u16());
    }
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}

fn channel(number: u8, bytes: &[u8]) -> Message {
    Message::Binary([&[number], bytes].concat().into())
}

#[tokio::test]
async fn exec_speaks_the_fifth_version_of_the_channel_protocol() {
    let cluster = cluster().await;
    let path = format!("{POD}/exec?command=cat&stdin=true&stdout=true&stderr=true");
    let mut socket = websocket(&cluster.server, &path, "v5.channel.k8s.io").await.unwrap();
    let mut next = async |send: Option<Message>| {
        if let Some(message) = send {
            socket.send(message).await.unwrap();
        }
        socket.next().await.unwrap().unwrap()
    };
    assert_eq!(next(None).await, channel(1, b""), "all is well");
    assert_eq!(next(Some(channel(0, b"hello"))).await, channel(1, b"hello"));
    let Message::Binary(end) = next(Some(channel(255, &[0]))).await else { panic!("no status") };
    let status: Value = serde_json::from_slice(&end[1..]).unwrap();
    assert_eq!((end[0], &status["reason"]), (3, &json!("NonZeroExitCode")));
    assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
    let Message::Close(Some(goodbye)) = next(None).await else { panic!("no goodbye") };
    assert_eq!(u16::from(goodbye.code), 1000);
}

/// Conformance: "Pods, remote command execution over websocket".
#[tokio::test]
async fn exec_speaks_the_first_version_too() {
    let cluster = cluster().await;
    let path = format!("{POD}/exec?command=cat&stdin=true&stdout=true&stderr=true");
    let mut socket = websocket(&cluster.server, &path, "channel.k8s.io").await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), channel(1, b""));
    socket.send(channel(0, b"hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), channel(1, b"hello"));
}

/// Conformance: "Pods, logs from websockets".
#[tokio::test]
async fn logs_are_sent_in_messages() {
    let cluster = cluster().await;
    for (protocol, line) in
        [("binary.k8s.io", Message::Binary("a line\n".into())), ("base64.binary.k8s.io", Message::text("YSBsaW5lCg=="))]
    {
        let mut socket = websocket(&cluster.server, &format!("{POD}/log"), protocol).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().is_empty(), "all is well");
        assert_eq!(socket.next().await.unwrap().unwrap(), line);
        assert!(matches!(socket.next().await.unwrap().unwrap(), Message::Close(_)));
    }
}

#[tokio::test]
async fn exec_refuses_what_it_cannot_do() {
    let cluster = cluster().await;
    let refused =
        async |query: &str, protocol| websocket(&cluster.server, &format!("{POD}/exec?{query}"), protocol).await.err();
    assert_eq!(refused("command=a", "v5.channel.k8s.io").await, Some(400), "no stream");
    assert_eq!(refused("stdout=true", "v5.channel.k8s.io").await, Some(400), "no command");
    assert_eq!(refused("command=a&stdout=true", "v9.channel.k8s.io").await, Some(403));
    let plain = cluster.get(As::Admin, &format!("{POD}/exec?command=a&stdout=true")).await.error();
    assert_eq!((plain.0, plain.2.as_str()), (400, "Upgrade request required"));
}

#[tokio::test]
async fn a_websocket_needs_the_verb_create_too() {
    let cluster = cluster().await;
    cluster.grant("reader", json!([{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"]}])).await;
    let error = cluster.get(As::User("reader", &[]), &format!("{POD}/exec?command=a&stdout=true")).await.error();
    assert_eq!(error.0, 403);
    assert!(error.2.contains("cannot create resource \"pods/exec\""), "{}", error.2);
}

#[tokio::test]
async fn ports_are_forwarded_on_channels_of_a_websocket() {
    let cluster = cluster().await;
    let path = format!("{POD}/portforward?ports=80");
    let mut socket = websocket(&cluster.server, &path, "v4.channel.k8s.io").await.unwrap();
    for number in [0, 1] {
        assert_eq!(socket.next().await.unwrap().unwrap(), channel(number, &80u16.to_le_bytes()));
    }
    socket.send(channel(0, b"GET / HTTP/1.1\r\n\r\n")).await.unwrap();
    let Message::Binary(answer) = socket.next().await.unwrap().unwrap() else { panic!("no answer") };
    assert!(answer.starts_with(b"\0HTTP/1.1 302 Found"));
    assert_eq!(websocket(&cluster.server, &format!("{POD}/portforward"), "v4.channel.k8s.io").await.err(), Some(400));
}

#[tokio::test]
async fn what_a_node_breaks_off_is_no_end() {
    let cluster = cluster().await;
    let path = format!("{POD}/portforward?ports=666");
    let mut socket = websocket(&cluster.server, &path, "v4.channel.k8s.io").await.unwrap();
    socket.send(channel(0, b"GET / HTTP/1.1\r\n\r\n")).await.unwrap();
    let mut said = Vec::new();
    while let Some(Ok(Message::Binary(bytes))) = socket.next().await {
        said.push(bytes);
    }
    let uid = cluster.get(As::Admin, POD).await.json()["metadata"]["uid"].as_str().unwrap().to_owned();
    let why =
        format!("\u{1}error forwarding port 666 to pod p_default, uid {uid}: the connection to the node broke off");
    assert_eq!(said.last().unwrap(), why.as_bytes());

    // The answer has no length of its own: its end is its connection's.
    let admin = UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
    let request = Request::get("/api/v1/namespaces/default/pods/p:666/proxy/").body(Body::Empty).unwrap();
    let answer = cluster.server.handle(request, Peer::in_process(admin)).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err(), "half an answer looks whole");
}

#[tokio::test]
async fn proxies_keep_the_path_and_lead_redirects_through_themselves() {
    let cluster = cluster().await;
    let path = format!("{POD}/proxy");
    let to_root = cluster.get(As::Admin, &format!("{path}?a=b")).await;
    assert_eq!((to_root.code, &to_root.headers["location"]), (301, &format!("{path}/?a=b").parse().unwrap()));
    let headers = [("authorization", "Bearer secret"), ("host", "api")];
    let answer = cluster.send(As::Admin, "GET", &format!("{path}/x"), &headers, Body::Empty).await;
    assert_eq!((answer.code, &answer.body[..]), (302, &b"hi"[..]));
    assert_eq!(answer.headers["location"], format!("{path}/there"));
    assert!(!answer.headers.contains_key("connection"));
}

#[tokio::test]
async fn a_proxy_speaks_tls_where_the_name_says_so() {
    let cluster = cluster().await;
    let answer = cluster.get(As::Admin, "/api/v1/namespaces/default/pods/https:p:443/proxy/secret").await;
    assert_eq!((answer.code, &answer.body[..]), (200, &b"/secret"[..]));
    let plain = cluster.get(As::Admin, "/api/v1/namespaces/default/pods/https:p:80/proxy/").await.error();
    assert_eq!(plain.0, 503);
    assert!(plain.2.starts_with("error trying to reach service: "), "{}", plain.2);
}

#[tokio::test]
async fn a_proxy_to_this_server_itself_goes_where_it_listens() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config {
        advertise: "192.0.2.9:6443".parse().unwrap(),
        listen: listener.local_addr().unwrap(),
        ..Config::default()
    };
    let cluster = Cluster::with(config).await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = BytesMut::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut head).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    });
    let metadata = json!({"name": "me", "namespace": "default", "labels": {"kubernetes.io/service-name": "me"}});
    cluster
        .make(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 443}]}}))
        .await;
    cluster
        .make(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "ports": [{"port": 6443}], "endpoints": [{"addresses": ["192.0.2.9"]}]}))
        .await;
    let answer = cluster.get(As::Admin, "/api/v1/namespaces/default/services/me/proxy/livez").await;
    assert_eq!((answer.code, &answer.body[..]), (200, &b"ok"[..]));
}
