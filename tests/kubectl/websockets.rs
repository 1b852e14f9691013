//! WebSockets to wasm pods: a process that listens by itself speaks them, behind everything that leads to it; a component of
//! `wasi:http` cannot.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use k8w_testkit::{Running, eventually, get};
use serde_json::Value;

use crate::sandbox;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client's key, and what a server says that it has understood (RFC 6455, section 1.3).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// "Hello" of a client, and of a server (section 5.7), and how each of them ends.
const ASKED: [u8; 11] = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
const ANSWERED: [u8; 7] = [0x81, 0x05, b'H', b'e', b'l', b'l', b'o'];
const BYE: [u8; 6] = [0x88, 0x80, 1, 2, 3, 4];
const GOOD_BYE: [u8; 2] = [0x88, 0x00];

/// Asks for a WebSocket; the head of the answer.
fn open(address: SocketAddr, host: &str, path: &str) -> std::io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13";
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\n{upgrade}\r\nsec-websocket-key: {KEY}\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok((stream, String::from_utf8_lossy(&head).into_owned()))
}

/// A WebSocket that is open.
fn upgraded(address: SocketAddr, host: &str) -> std::io::Result<TcpStream> {
    let (stream, head) = open(address, host, "/chat")?;
    let lower = head.to_ascii_lowercase();
    if !head.starts_with("HTTP/1.1 101 ") || !lower.contains("upgrade: websocket\r\n") || !head.contains(ACCEPT) {
        return Err(std::io::Error::other(head));
    }
    Ok(stream)
}

/// Says something, and hears it.
fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&ASKED)?;
    let mut heard = ANSWERED.map(|_| 0);
    stream.read_exact(&mut heard)?;
    assert_eq!(heard, ANSWERED);
    Ok(())
}

fn take_leave(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(&BYE)?;
    let mut last = Vec::new();
    stream.read_to_end(&mut last)?;
    assert_eq!(last, GOOD_BYE);
    Ok(())
}

/// Says something twice by a WebSocket, hears it, and takes leave.
fn converse(address: SocketAddr, host: &str) -> Result<(), String> {
    let conversation = || -> std::io::Result<()> {
        let mut stream = upgraded(address, host)?;
        exchange(&mut stream)?;
        exchange(&mut stream)?;
        take_leave(stream)
    };
    conversation().map_err(|error| error.to_string())
}

#[test]
fn a_process_that_listens_speaks_websocket_to_who_comes_by_the_ingress_a_node_port_and_port_forward() {
    let t = sandbox();
    let Some(image) = t.probe_image() else { return };
    let host = format!("chat.{}.test", t.namespace);
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: chat, labels: {{app: chat}}}}
spec:
  runtimeClassName: wasmtime
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: chat, image: '{image}', args: [websocket, 0.0.0.0, '8080'], ports: [{{containerPort: 8080}}],
     readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: chat}}
spec: {{type: NodePort, selector: {{app: chat}}, ports: [{{port: 80, targetPort: 8080}}]}}
"
    ));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/chat", "--timeout=60s"]);
    t.kubectl.ok(&["create", "ingress", "chat", &format!("--rule={host}/*=chat:80")]);
    eventually("the ingress leads to it", || converse(t.cluster.ingress_http(), &host));
    let port = t.kubectl.ok(&["get", "service", "chat", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let node_port = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
    eventually("the node port leads to it", || converse(node_port, "chat"));
    let mut forwarding = Running::start(&mut t.kubectl.command(&["port-forward", "pod/chat", ":8080"]));
    converse(forwarding.forwards(), "chat").unwrap();
}

#[test]
fn a_process_that_ends_serves_who_is_connected_and_lets_nobody_in() {
    let t = sandbox();
    let Some(image) = t.probe_image() else { return };
    let watch = ["get", "pods", "--watch", "--output-watch-events", "-o", "json"];
    let mut watch = Running::start(&mut t.kubectl.command(&watch));
    let mut events = serde_json::Deserializer::from_reader(watch.stdout()).into_iter::<Value>().map(Result::unwrap);
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: chat, labels: {{app: chat}}}}
spec:
  runtimeClassName: wasmtime
  terminationGracePeriodSeconds: 600
  containers:
  - {{name: chat, image: '{image}', args: [websocket, 0.0.0.0, '8080'], ports: [{{containerPort: 8080}}]}}
"
    ));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/chat", "--timeout=60s"]);
    let mut forwarding = Running::start(&mut t.kubectl.command(&["port-forward", "pod/chat", ":8080"]));
    let address = forwarding.forwards();
    let mut stream = eventually("it listens", || upgraded(address, "chat").map_err(|error| error.to_string()));
    t.kubectl.ok(&["delete", "pod", "chat", "--wait=false"]);
    exchange(&mut stream).unwrap();
    let shown = "jsonpath={.metadata.deletionGracePeriodSeconds} {.status.phase}";
    assert_eq!(t.kubectl.ok(&["get", "pod", "chat", "-o", shown]), "600 Running");
    exchange(&mut stream).unwrap();
    take_leave(stream).unwrap();
    t.kubectl.ok(&["wait", "--for=delete", "pod/chat", "--timeout=60s"]);
    let last = events.find(|event| event["type"] == "DELETED").unwrap();
    let ended = &last["object"]["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 143, "{ended}");
}

#[test]
fn a_component_that_would_upgrade_is_a_bad_gateway_and_its_log_says_why() {
    let t = sandbox();
    if !t.probe_pod("web", "", "") {
        return;
    }
    let host = format!("web.{}.test", t.namespace);
    t.kubectl.ok(&["expose", "pod", "web", "--port=80", "--target-port=8080"]);
    t.kubectl.ok(&["create", "ingress", "web", &format!("--rule={host}/*=web:80")]);
    let ingress = t.cluster.ingress_http();
    eventually("the ingress leads to it", || match get(ingress, &host, "/status?204")? {
        answer if answer.status == 204 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    let why = "a component of wasi:http cannot upgrade a connection";
    let (_, head) = open(ingress, &host, "/status?101").unwrap();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    for status in [101, 103] {
        let answer = get(ingress, &host, &format!("/status?{status}")).unwrap();
        assert!(answer.status == 502 && answer.body.contains(why), "{answer:?}");
    }
    let log = t.kubectl.ok(&["logs", "web"]);
    assert!(log.contains("the component answered with status 101: ") && log.contains(why), "{log}");
}
