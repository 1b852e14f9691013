//! The cluster as a guest of WASI 0.3 sees it, and calls between guests of both versions that never become a socket.

use k8w_runtime::engine::EngineEvent;
use serde_json::json;

use crate::network::{
    a_reader_stops_and_leaves, a_stopped_process_drains, calls_stream_both_ways, front_and_back, service, service_of,
};
use crate::node::{Node, probe, probe_p3};
use crate::policies::{about, apply, known};

#[tokio::test]
async fn a_guest_resolves_cluster_names() {
    let node = Node::new();
    service(&node, "web", "10.96.0.7", "10.64.0.2", 8080);
    node.start(node.pod("server", probe_p3()).await).await;
    let resolve = async |name: &str| node.get("10.64.0.2:8080", &format!("/resolve?{name}")).await.1;
    for name in ["web", "web.default", "web.default.svc.cluster.local"] {
        assert_eq!(resolve(name).await, "10.96.0.7\n", "{name}");
    }
    assert_eq!(resolve("other.default.svc.cluster.local").await, "ErrorCode::NameUnresolvable");
    assert_eq!(resolve("192.0.2.1").await, "192.0.2.1\n");
    assert_eq!(resolve("").await, "ErrorCode::InvalidArgument");
}

#[tokio::test]
async fn a_process_that_is_stopped_serves_who_is_connected_and_nobody_else() {
    a_stopped_process_drains(probe_p3()).await;
}

#[tokio::test]
async fn guests_of_both_versions_connect_to_each_other_and_to_a_service() {
    let node = Node::new();
    let mut ids = Vec::new();
    for (name, guest) in [("first", probe_p3()), ("second", probe())] {
        let mut spec = node.pod(name, guest).await;
        spec.force_command = true;
        spec.argv.extend(["listen", "0.0.0.0", "8080", name, "2"].map(str::to_owned));
        ids.push(node.start(spec).await);
        node.logged(name, "listening on 8080").await;
    }
    service(&node, "second", "10.96.0.8", "10.64.0.3", 8080);
    let mut clients = Vec::new();
    for (name, guest) in [("old", probe()), ("new", probe_p3())] {
        let spec = node.pod(name, guest).await;
        clients.push(format!("{}:8080", spec.pod.ip));
        node.start(spec).await;
    }
    let ask = async |client: &str, address: &str| node.get(client, &format!("/ask?{address}")).await.1;
    let [old, new] = [clients[0].as_str(), clients[1].as_str()];
    assert_eq!(ask(new, "10.64.0.2:8080").await, "first heard hello");
    assert_eq!(ask(new, "10.96.0.8:80").await, "second heard hello", "through the Service's address");
    assert_eq!(ask(old, "10.64.0.2:8080").await, "first heard hello");
    assert_eq!(ask(old, "10.64.0.3:8080").await, "second heard hello");
    // Whichever ends first has answered its two connections.
    while !ids.is_empty() {
        match node.event().await {
            EngineEvent::Exited { id, exit_code: 0, .. } => ids.retain(|left| *left != id),
            other => panic!("{other:?} instead of the ends of {ids:?}"),
        }
    }
    assert_eq!(ask(new, "10.64.0.2:8080").await, "ErrorCode::ConnectionRefused", "its port went with it");
    assert_eq!(
        ask(new, "10.64.0.9:1").await,
        "ErrorCode::ConnectionRefused",
        "an address of the cluster is never dialled"
    );
}

#[tokio::test]
async fn a_port_is_bound_once_in_a_pod_and_only_at_its_own_address() {
    let node = Node::new();
    let server = node.pod("pod", probe_p3()).await;
    node.start(server.clone()).await;
    let listen = async |attempt, ip: &str| {
        let mut spec = server.clone();
        spec.id.attempt = attempt;
        spec.log_path = node.dir.path().join(format!("listen-{attempt}.log"));
        node.run(spec, &["listen", ip, "8080", "name", "0"]).await.3
    };
    assert_eq!(listen(1, "0.0.0.0").await, "stdout F ErrorCode::AddressInUse\n");
    assert_eq!(listen(2, "192.0.2.1").await, "stdout F ErrorCode::AddressNotBindable\n");
}

#[tokio::test]
async fn guests_exchange_datagrams_by_address_and_through_a_service() {
    let node = Node::new();
    for (name, guest) in [("first", probe_p3()), ("second", probe())] {
        let mut spec = node.pod(name, guest).await;
        spec.force_command = true;
        spec.argv.extend(["hear", "0.0.0.0", "53", name, "100"].map(str::to_owned));
        node.start(spec).await;
        node.logged(name, "listening on 53").await;
    }
    service_of("UDP", &node, "dns", "10.96.0.9", "10.64.0.3", 53);
    let say = async |client: &str, guest: &[u8], ip: &str, port: &str| {
        node.run(node.pod(client, guest).await, &["say", ip, port, "hello"]).await.3
    };
    let answers = |name: &str| format!("stdout F {name} heard hello (true), {name} heard hello (true)\n");
    assert_eq!(say("a", probe_p3(), "10.64.0.2", "53").await, answers("first"));
    assert_eq!(say("b", probe(), "10.64.0.2", "53").await, answers("first"));
    assert_eq!(say("c", probe_p3(), "10.96.0.9", "80").await, answers("second"), "through the Service's address");
}

#[tokio::test]
async fn a_socket_keeps_its_options() {
    let node = Node::new();
    let (_, _, _, log) = node.run(node.pod("options", probe_p3()).await, &["options"]).await;
    assert_eq!(log, "stdout F Ok(7) Err(ErrorCode::InvalidArgument) Err(ErrorCode::InvalidState) false\n");
}

#[tokio::test]
async fn a_guest_reaches_only_what_its_policies_name() {
    let node = Node::new();
    let mut pods = Vec::new();
    for name in ["server", "friend", "stranger"] {
        let spec = node.pod(name, probe_p3()).await;
        pods.push(known(&spec));
        node.start(spec).await;
    }
    let egress = json!({"podSelector": about("friend"), "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": about("server")}]}]});
    apply(&node, &pods, &[egress]);
    let get = async |path: &str| node.get("10.64.0.3:8080", path).await.1;
    assert_eq!(get("/fetch?10.64.0.2:8080/count").await, "1");
    assert_eq!(get("/fetch?10.64.0.4:8080/count").await, "ErrorCode::ConnectionRefused");
    assert_eq!(get("/ask?10.64.0.4:8080").await, "ErrorCode::ConnectionRefused");
    assert_eq!(get("/ask?192.0.2.1:80").await, "ErrorCode::ConnectionRefused", "it is not dialled");
    assert_eq!(get("/resolve?example.com").await, "ErrorCode::TemporaryResolverFailure");
    assert_eq!(get("/fetch?example.com/").await, "ErrorCode::DnsTimeout");
}

/// Every pair of which at least one is of WASI 0.3.
fn pairs() -> [[&'static [u8]; 2]; 3] {
    [[probe_p3(), probe_p3()], [probe_p3(), probe()], [probe(), probe_p3()]]
}

#[tokio::test]
async fn a_call_between_versions_streams_both_ways() {
    for [front, back] in pairs() {
        let node = Node::new();
        front_and_back(&node, front, back).await;
        calls_stream_both_ways(&node, ["10.64.0.3:8080"; 2]).await;
    }
}

/// The zero hop, counted: the test above again in a process of its own, with every network system call written down.
#[test]
fn a_call_between_versions_makes_no_network_system_call() {
    crate::network::makes_no_network_system_call("p3::network::a_call_between_versions_streams_both_ways");
}

#[tokio::test]
async fn a_reader_that_leaves_ends_caller_and_callee_of_either_version() {
    for [front, back] in pairs() {
        a_reader_stops_and_leaves(front, back).await;
    }
}
