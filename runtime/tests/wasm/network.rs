//! The cluster as a guest sees it: names, Services, its own ports, and calls that never become a socket.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8w_networking::tables::{Objects, Tables};
use k8w_runtime::engine::{ContainerId, Engine, Hostname};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::node::{BUILT_PROBE, BUILT_PROBE_P3, Node, channel_body, empty, probe, probe_p3, request, until};

/// A Service `name` at `vip`, port 80, with one endpoint.
pub fn service(node: &Node, name: &str, vip: &str, endpoint: &str, port: u16) {
    service_of("TCP", node, name, vip, endpoint, port);
}

pub fn service_of(protocol: &str, node: &Node, name: &str, vip: &str, endpoint: &str, port: u16) {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": vip, "clusterIPs": [vip], "ports": [{"port": 80, "targetPort": port, "protocol": protocol}]},
    }))
    .unwrap();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"port": port, "protocol": protocol}],
        "endpoints": [{"addresses": [endpoint], "conditions": {"ready": true}}],
    }))
    .unwrap();
    let (services, endpoint_slices) = ([Arc::new(service)], [Arc::new(slice)]);
    let objects = Objects { services: &services, endpoint_slices: &endpoint_slices, ..Objects::default() };
    node.network.update(Tables::build(&objects, "node"));
}

/// Conformance: "DNS, cluster".
#[tokio::test]
async fn a_guest_resolves_cluster_names() {
    let node = Node::new();
    service(&node, "web", "10.96.0.7", "10.64.0.2", 8080);
    let server = node.pod("server", probe()).await;
    node.start(server).await;
    for name in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local"] {
        assert_eq!(node.get("10.64.0.2:8080", &format!("/resolve?{name}")).await.1, "10.96.0.7\n", "{name}");
    }
    let missing = node.get("10.64.0.2:8080", "/resolve?other.default.svc.cluster.local").await.1;
    assert_eq!(missing, "name-unresolvable");
    assert_eq!(node.get("10.64.0.2:8080", "/resolve?192.0.2.1").await.1, "192.0.2.1\n");
}

/// As by its `/etc/hosts`, also where cluster DNS is not asked.
#[tokio::test]
async fn a_guest_knows_its_own_name() {
    let node = Node::new();
    let plain = node.pod("plain", probe()).await;
    let mut named = node.pod("named", probe()).await;
    named.names.hostname = Hostname { name: Some("own".to_owned()), subdomain: Some("sub".to_owned()) };
    named.names.outside_only = true;
    node.start(plain).await;
    node.start(named).await;
    for (address, names) in
        [("10.64.0.2:8080", &["plain"][..]), ("10.64.0.3:8080", &["own", "OWN.", "own.sub.default.svc.cluster.local"])]
    {
        let ip = address.split_once(':').unwrap().0;
        for name in names {
            assert_eq!(node.get(address, &format!("/resolve?{name}")).await.1, format!("{ip}\n"), "{name}");
            assert_eq!(node.get(address, &format!("/fetch?{name}:8080/count")).await, (200, "1".to_owned()), "{name}");
        }
    }
}

#[tokio::test]
async fn two_pods_listen_on_one_port_and_a_guest_reaches_each_and_a_service() {
    let node = Node::new();
    let mut ids = Vec::new();
    for name in ["first", "second"] {
        let mut spec = node.pod(name, probe()).await;
        spec.force_command = true;
        spec.argv.extend(["listen", "0.0.0.0", "8080", name, "2"].map(str::to_owned));
        ids.push(node.start(spec).await);
        node.logged(name, "listening on 8080").await;
    }
    service(&node, "second", "10.96.0.8", "10.64.0.3", 8080);
    let client = node.pod("client", probe()).await;
    assert_eq!(client.pod.ip.to_string(), "10.64.0.4");
    node.start(client).await;
    let ask = async |address: &str| node.get("10.64.0.4:8080", &format!("/ask?{address}")).await.1;
    assert_eq!(ask("10.64.0.2:8080").await, "first heard hello");
    assert_eq!(ask("10.64.0.3:8080").await, "second heard hello");
    assert_eq!(ask("10.96.0.8:80").await, "second heard hello", "through the Service's address");
    assert_eq!(node.exit(&ids[1]).await.0, 0, "it has answered its two connections");
    assert_eq!(ask("10.64.0.3:8080").await, "connection-refused", "its port went with it");
    assert_eq!(ask("10.64.0.9:1").await, "connection-refused", "an address of the cluster is never dialled");
    assert_eq!(ask("10.64.0.2:8080").await, "first heard hello");
    assert_eq!(node.exit(&ids[0]).await.0, 0);
}

#[tokio::test]
async fn a_process_that_is_stopped_serves_who_is_connected_and_nobody_else() {
    a_stopped_process_drains(probe()).await;
}

pub async fn a_stopped_process_drains(guest: &[u8]) {
    let node = Node::new();
    let started = async |name: &str| {
        let mut spec = node.pod(name, guest).await;
        spec.force_command = true;
        spec.argv.extend(["listen", "0.0.0.0", "8080", name, "100"].map(str::to_owned));
        let address = SocketAddr::new(spec.pod.ip, 8080);
        let id = node.start(spec).await;
        node.logged(name, "listening on 8080").await;
        (id, address)
    };
    let (id, address) = started("drained").await;
    // One is answered at a time: the other has not been accepted when the end begins.
    let mut connected =
        [node.network.connect(None, address).await.unwrap(), node.network.connect(None, address).await.unwrap()];
    connected[0].write_all(b"hel").await.unwrap();
    node.engine.stop(&id, Duration::from_secs(600)).await;
    assert!(node.network.connect(None, address).await.is_err());
    for (stream, (rest, heard_by_it)) in connected.iter_mut().zip([("lo", "hello"), ("again", "again")]) {
        stream.write_all(rest.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, format!("drained heard {heard_by_it}"));
    }
    assert_eq!(node.exit(&id).await.0, 143);
    let (id, address) = started("cut").await;
    let mut connected = node.network.connect(None, address).await.unwrap();
    node.engine.stop(&id, Duration::from_millis(1)).await;
    assert_eq!(node.exit(&id).await.0, 137, "its grace has passed");
    assert_eq!(connected.read(&mut [0]).await.unwrap_or(0), 0, "who is connected sees its end");
}

/// Conformance: "Networking, intra pod udp".
#[tokio::test]
async fn guests_exchange_datagrams_by_address_and_through_a_service() {
    let node = Node::new();
    for name in ["first", "second"] {
        let mut spec = node.pod(name, probe()).await;
        spec.force_command = true;
        spec.argv.extend(["hear", "0.0.0.0", "53", name, "100"].map(str::to_owned));
        node.start(spec).await;
        node.logged(name, "listening on 53").await;
    }
    service_of("UDP", &node, "dns", "10.96.0.9", "10.64.0.3", 53);
    let say = async |client: &str, ip: &str, port: &str| {
        node.run(node.pod(client, probe()).await, &["say", ip, port, "hello"]).await.3
    };
    let answers = |name: &str| format!("stdout F {name} heard hello (true), {name} heard hello (true)\n");
    assert_eq!(say("a", "10.64.0.2", "53").await, answers("first"));
    assert_eq!(say("b", "10.64.0.3", "53").await, answers("second"));
    assert_eq!(say("c", "10.96.0.9", "80").await, answers("second"), "through the Service's address");
    let reach = async |client: &str, ip: &str| node.run(node.pod(client, probe()).await, &["reach", ip, "53"]).await.3;
    assert_eq!(reach("d", "10.64.0.9").await, "stdout F connection-refused\n", "nobody has that address");
    assert_eq!(reach("e", "10.64.0.2").await, "stdout F 1 sent\n");
}

#[tokio::test]
async fn a_port_is_bound_once_in_a_pod_and_only_at_its_own_address() {
    let node = Node::new();
    let server = node.pod("pod", probe()).await;
    node.start(server.clone()).await;
    let listen = async |attempt, ip: &str| {
        let mut spec = server.clone();
        spec.id.attempt = attempt;
        spec.log_path = node.dir.path().join(format!("listen-{attempt}.log"));
        node.run(spec, &["listen", ip, "8080", "name", "0"]).await.3
    };
    assert_eq!(listen(1, "0.0.0.0").await, "stdout F address-in-use\n");
    assert_eq!(listen(2, "192.0.2.1").await, "stdout F address-not-bindable\n");
}

/// Marks of the calls in a trace of this process: what is written to a file that forgets it.
const CALLS_BEGIN: &str = "calls begin";
const CALLS_END: &str = "calls end";

fn mark(text: &str) {
    std::fs::write("/dev/null", text).unwrap();
}

/// Makes calls that the trace is asked about.
async fn traced(calls: impl AsyncFnOnce()) {
    mark(CALLS_BEGIN);
    calls().await;
    mark(CALLS_END);
}

/// Runs a test in a process of its own, with every network system call written down: its [`traced`] calls make none.
pub fn makes_no_network_system_call(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let mut strace = Command::new("strace");
    for (variable, guest) in [(BUILT_PROBE, probe()), (BUILT_PROBE_P3, probe_p3())] {
        let path = dir.path().join(variable);
        std::fs::write(&path, guest).unwrap();
        strace.env(variable, path);
    }
    let traced = strace
        .args(["-f", "-qq", "-e", "trace=%network,write", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .output()
        .expect("this test needs strace: apt-get install strace");
    let said = String::from_utf8_lossy(&traced.stdout);
    assert!(traced.status.success() && said.contains("1 passed"), "{said}");
    let trace = std::fs::read_to_string(trace).unwrap();
    let mut calls = trace.split(CALLS_BEGIN).skip(1).peekable();
    assert!(calls.peek().is_some(), "no calls began");
    for calls in calls {
        let (calls, _) = calls.split_once(CALLS_END).expect("the calls ended");
        let network: Vec<&str> =
            calls.lines().skip(1).filter(|line| line.contains('(') && !line.contains(" write(")).collect();
        assert_eq!(network, Vec::<&str>::new());
    }
}

fn sum(value: &'static str) -> http::HeaderMap {
    let name = http::HeaderName::from_static("sum");
    http::HeaderMap::from_iter([(name, http::HeaderValue::from_static(value))])
}

/// Containers `front` and `back`.
pub async fn front_and_back(node: &Node, front: &[u8], back: &[u8]) -> [ContainerId; 2] {
    let [front, back] = [node.pod("front", front).await, node.pod("back", back).await];
    [node.start(front).await, node.start(back).await]
}

/// A request that streams through `front` to `back` and back again, and two that do not; `back` is called by one authority,
/// and then by another.
pub async fn calls_stream_both_ways(node: &Node, [first, second]: [&str; 2]) {
    traced(async || {
        let (mut sender, body) = channel_body();
        let uri = format!("http://10.64.0.2:8080/forward?{first}/echo");
        let sending = tokio::spawn(async move {
            for n in 0..100 {
                sender.send(Ok(Frame::data(Bytes::from(vec![n; 10_000])))).await.unwrap();
            }
            sender.send(Ok(Frame::trailers(sum("100")))).await.unwrap();
        });
        let response = node.send(request("POST", &uri, body)).await;
        assert_eq!(response.status(), 200);
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&sum("100")));
        let received = collected.to_bytes();
        assert!(received.chunks(10_000).enumerate().all(|(n, chunk)| chunk == vec![n as u8; 10_000]));
        assert_eq!(received.len(), 1_000_000);
        sending.await.unwrap();
        assert_eq!(node.get("10.64.0.2:8080", &format!("/fetch?{second}/count")).await, (200, "1".to_owned()));
        assert_eq!(node.get("10.64.0.2:8080", &format!("/fetch?{second}/trap")).await.0, 500);
    })
    .await;
}

#[tokio::test]
async fn a_call_from_component_to_component_streams_both_ways() {
    let node = Node::new();
    service(&node, "back", "10.96.0.9", "10.64.0.3", 8080);
    front_and_back(&node, probe(), probe()).await;
    calls_stream_both_ways(&node, ["back.default.svc.cluster.local", "back"]).await;
    let refused = node.get("10.64.0.2:8080", "/fetch?10.64.0.9/").await.1;
    assert_eq!(refused, "ErrorCode::ConnectionRefused");
}

/// The zero hop, counted: the test above again in a process of its own, with every network system call written down.
#[test]
fn a_call_from_component_to_component_makes_no_network_system_call() {
    makes_no_network_system_call("network::a_call_from_component_to_component_streams_both_ways");
}

/// Whether each of these containers has so many instances.
async fn instances(node: &Node, ids: &[ContainerId], expected: u64) -> bool {
    for id in ids {
        if node.engine.stats(id).await.unwrap().instances != expected {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn a_reader_that_stops_holds_back_caller_and_callee_and_one_that_leaves_ends_both() {
    a_reader_stops_and_leaves(probe(), probe()).await;
}

pub async fn a_reader_stops_and_leaves(front: &[u8], back: &[u8]) {
    let node = Node::new();
    let ids = front_and_back(&node, front, back).await;
    let uri = "http://10.64.0.2:8080/fetch?10.64.0.3:8080/stream?1000";
    let response = node.send(request("GET", uri, empty())).await;
    let mut body = BodyStream::new(response.into_body());
    body.next().await.unwrap().unwrap();
    assert!(instances(&node, &ids, 1).await);
    for id in &ids {
        let stats = node.engine.stats(id).await.unwrap();
        assert!(stats.memory_bytes < 16 << 20, "{stats:?}");
    }
    drop(body);
    until(async || instances(&node, &ids, 0).await).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_request_ends_caller_and_callee() {
    let node = Node::new();
    let ids = front_and_back(&node, probe(), probe()).await;
    let (mut sender, body) = channel_body();
    let uri = "http://10.64.0.2:8080/forward?10.64.0.3:8080/echo";
    let response = node.send(request("POST", uri, body)).await;
    let mut body = BodyStream::new(response.into_body());
    sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
    assert_eq!(body.next().await.unwrap().unwrap().into_data().unwrap(), "first");
    assert!(instances(&node, &ids, 1).await);
    drop(body);
    until(async || instances(&node, &ids, 0).await).await;
    assert!(sender.send(Ok(Frame::data(Bytes::new()))).await.is_err(), "nobody reads the rest");
}
