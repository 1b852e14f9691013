//! NetworkPolicies on every way into and out of a pod.

use std::io::ErrorKind;

use http::{Request, StatusCode};
use k8w_networking::{Refused, SendError, ingress};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::harness::*;
use crate::node_ports;

fn spec(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
}

/// Pods 2, 3 and 7.
fn cluster() -> Cluster {
    Cluster::default().pod(2).pod(3).pod(7)
}

const ONLY_FROM_3: &str = "{podSelector: {matchLabels: {pod: '2'}}, ingress: [{from: [{podSelector: {matchLabels: {pod: '3'}}}], ports: [{port: web}]}]}";

#[tokio::test]
async fn a_refused_connection_looks_like_a_closed_port_and_updates_act_at_once() {
    let network = network();
    let listener = network.bind_tcp(&pod(2), 8080).await.unwrap();
    let address = listener.local_addr();
    let open = cluster().service("web", "10.96.0.9", None, &[address]);
    let connect = async |from, to: &str| network.connect(Some(&pod(from)), to.parse().unwrap()).await.map(drop);
    network.update(open.tables());
    connect(7, "10.64.0.2:8080").await.unwrap();
    network.update(open.clone().policy(spec(ONLY_FROM_3)).tables());
    for to in ["10.64.0.2:8080", "10.96.0.9:80"] {
        connect(3, to).await.unwrap();
        assert_eq!(connect(7, to).await.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to}");
    }
    assert_eq!(network.select(Some(&pod(7)), address).unwrap_err(), Refused::NotAllowed(address));
    network.connect(None, address).await.expect("the node probes its pods");
    connect(2, "127.0.0.1:8080").await.expect("a pod reaches itself");
    network.update(open.tables());
    connect(7, "10.64.0.2:8080").await.unwrap();
}

#[tokio::test]
async fn calls_in_process_and_requests_to_hosts_outside_are_decided_on_alike() {
    let network = network();
    let (address, _registration) = describing(&network, &pod(2));
    let (_, _own) = describing(&network, &pod(7));
    let cluster = cluster().service("web", "10.96.0.9", None, &[address]);
    let send = async |from, uri: String| {
        network.send(Some(&pod(from)), Request::get(uri).body(full("")).unwrap()).await.map(|answer| answer.status())
    };
    let egress = "{podSelector: {matchLabels: {pod: '7'}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}";
    network.update(cluster.clone().policy(spec(ONLY_FROM_3)).policy(spec(egress)).tables());
    assert_eq!(send(3, "http://web/".into()).await.unwrap(), StatusCode::OK);
    assert!(matches!(send(7, "http://web/".into()).await, Err(SendError::Refused(Refused::NotAllowed(_)))));
    assert!(matches!(send(7, "http://outside.test/".into()).await, Err(SendError::NoResolver(_))));
    for own in ["localhost", "LocalHost.", "127.0.0.1"] {
        let uri = format!("http://{own}:{}/", address.port());
        assert_eq!(send(7, uri).await.unwrap(), StatusCode::OK, "{own} is the pod itself, and asks nobody");
    }
    assert!(matches!(send(7, "http://192.0.2.1/".into()).await, Err(SendError::Refused(Refused::NotAllowed(_)))));
    assert!(!network.may_resolve(&pod(7)) && network.may_resolve(&pod(3)));
}

/// Wherever this node reaches it: policies are written from what `kubectl get endpoints kubernetes` shows.
#[tokio::test]
async fn the_api_server_is_known_by_the_endpoints_of_its_service() {
    let network = network();
    let real = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (service, shown) = ("10.96.0.1:443".parse().unwrap(), "192.0.2.1:6443".parse().unwrap());
    let _kept = [service, shown].map(|address| network.register_api_server(address, real.local_addr().unwrap()));
    let cluster = cluster().service("kubernetes", "10.96.0.1", None, &[shown]).at_port(443);
    for (block, port, allowed) in [
        ("192.0.2.1/32", 6443, true),
        ("192.0.2.0/24", 6443, true),
        ("192.0.2.1/32", 443, false),
        ("192.0.2.2/32", 6443, false),
        ("127.0.0.0/8", real.local_addr().unwrap().port(), false),
        ("10.96.0.0/16", 443, false),
    ] {
        let policy = json!({
            "podSelector": {"matchLabels": {"pod": "7"}}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": block}}], "ports": [{"port": port}]}],
        });
        network.update(cluster.clone().policy(policy).tables());
        for to in [service, shown] {
            let connected = network.connect(Some(&pod(7)), to).await;
            assert_eq!(connected.is_ok(), allowed, "{block} {port} {to}");
        }
    }
}

#[tokio::test]
async fn the_ingress_is_a_peer_and_a_node_port_is_its_client() {
    let network = network();
    let (address, _registration) = describing(&network, &pod(2));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(ingress::serve(network.clone(), ingress::Config::default(), Some(listener), None, stop));
    let cluster = cluster().service("web", "10.96.0.9", None, &[address]).ingress("host", "web");
    let mut client = Client::connect(http).await;
    let closed = cluster.clone().policy(spec(ONLY_FROM_3));
    network.update(closed.tables());
    let answer = client.get("host", "/").await;
    assert_eq!(answer, (StatusCode::GATEWAY_TIMEOUT, format!("no NetworkPolicy allows a connection to {address}\n")));
    let from_ingress = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, \
        podSelector: {matchLabels: {app.kubernetes.io/name: k8w-ingress}}}]}]}";
    network.update(closed.policy(spec(from_ingress)).tables());
    assert_eq!(client.get("host", "/").await.0, StatusCode::OK);
}

#[tokio::test]
async fn answers_to_datagrams_need_no_leave_of_their_own() {
    let network = network();
    let (server, client) = (network.bind_udp(&pod(2), 53).unwrap(), network.bind_udp(&pod(3), 0).unwrap());
    let stranger = network.bind_udp(&pod(7), 0).unwrap();
    let policy = "{podSelector: {matchLabels: {pod: '2'}}, policyTypes: [Ingress, Egress], \
        ingress: [{from: [{podSelector: {matchLabels: {pod: '3'}}}], ports: [{port: 53, protocol: UDP}]}]}";
    network.update(cluster().policy(spec(policy)).tables());
    let refused = stranger.send("x".into(), server.local_addr()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let unasked = server.send("x".into(), client.local_addr()).unwrap_err();
    assert_eq!(unasked.kind(), ErrorKind::ConnectionRefused, "it may send nothing of its own");
    client.send("question".into(), server.local_addr()).unwrap();
    let question = server.receive().await;
    server.send("answer".into(), question.peer).unwrap();
    assert_eq!(client.receive().await.bytes, "answer");
    assert_eq!(server.send("x".into(), stranger.local_addr()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_pod_that_was_not_seen_yet_is_closed_when_its_namespace_has_policies() {
    let network = network();
    let (new, known) = (network.bind_tcp(&pod(9), 8080).await.unwrap(), network.bind_tcp(&pod(2), 8080).await.unwrap());
    network.update(cluster().policy(spec("{podSelector: {matchLabels: {pod: none}}}")).tables());
    let select = |from, to| network.select(Some(&pod(from)), to).map(drop);
    assert!(matches!(select(2, new.local_addr()), Err(Refused::NotAllowed(_))));
    // The policy is about ingress alone.
    select(9, known.local_addr()).unwrap();
    network.update(cluster().pod(9).policy(json!({"podSelector": {"matchLabels": {"pod": "none"}}})).tables());
    select(2, new.local_addr()).unwrap();
}

#[tokio::test]
async fn a_node_port_reaches_pods_from_this_node() {
    let network = network();
    let (_failures, _stop) = node_ports::start(&network);
    let port = node_ports::free_port().await;
    let (address, _registration) = describing(&network, &pod(2));
    network.update(cluster().service("web", "10.96.0.9", Some(port), &[address]).policy(spec(ONLY_FROM_3)).tables());
    let mut client = Client::over(node_ports::connect(port).await).await;
    assert_eq!(client.get("any", "/").await.0, StatusCode::OK, "a client on the node is the node");
}
