//! NetworkPolicies as guests feel them: their own connections, datagrams and requests, and those of others to them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod as PodObject;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8w_networking::policy::Pod;
use k8w_networking::tables::{Objects, Tables};
use k8w_runtime::engine::{ContainerSpec, Engine};
use serde_json::{Value, json};

use crate::node::{Node, probe};

/// The pod of a container as the API knows it, labelled with its name.
pub fn known(spec: &ContainerSpec) -> Arc<Pod> {
    let object: PodObject = serde_json::from_value(json!({
        "metadata": {"namespace": spec.pod.namespace, "uid": spec.pod.uid, "labels": {"name": spec.pod.name}},
        "spec": {"containers": [{"name": "main", "ports": [{"name": "main", "containerPort": 8080}]}]},
        "status": {"podIP": spec.pod.ip},
    }))
    .unwrap();
    Arc::new(Pod::of(&object).unwrap())
}

pub fn apply(node: &Node, pods: &[Arc<Pod>], policies: &[Value]) {
    let object = |spec: &Value| json!({"metadata": {"namespace": "default"}, "spec": spec});
    let policies: Vec<Arc<NetworkPolicy>> =
        policies.iter().map(|spec| Arc::new(serde_json::from_value(object(spec)).unwrap())).collect();
    let objects = Objects { network_policies: &policies, pods, ..Objects::default() };
    node.network.update(Tables::build(&objects, "node"));
}

pub fn about(name: &str) -> Value {
    json!({"matchLabels": {"name": name}})
}

/// A node with the pods `server`, `friend` and `stranger`, all of them http servers that do what they are asked.
async fn three() -> (Node, Vec<Arc<Pod>>) {
    let node = Node::new();
    let mut pods = Vec::new();
    for name in ["server", "friend", "stranger"] {
        let spec = node.pod(name, probe()).await;
        pods.push(known(&spec));
        node.start(spec).await;
    }
    (node, pods)
}

const FRIEND: &str = "10.64.0.3:8080";
const STRANGER: &str = "10.64.0.4:8080";

#[tokio::test]
async fn requests_reach_a_guest_from_the_peers_that_its_policies_name() {
    let (node, pods) = three().await;
    let fetch = async |from: &str| node.get(from, "/fetch?10.64.0.2:8080/count").await;
    apply(&node, &pods, &[]);
    assert_eq!(fetch(STRANGER).await, (200, "1".to_owned()));
    let ingress = json!({"podSelector": about("server"), "ingress": [{"from": [{"podSelector": about("friend")}], "ports": [{"port": "main"}]}]});
    apply(&node, &pods, &[ingress]);
    assert_eq!(fetch(FRIEND).await, (200, "1".to_owned()));
    assert_eq!(fetch(STRANGER).await, (200, "ErrorCode::ConnectionRefused".to_owned()));
    assert_eq!(node.get("10.64.0.2:8080", "/count").await.0, 200, "the node probes it");
    assert_eq!(node.get("10.64.0.2:8080", "/fetch?127.0.0.1:8080/count").await, (200, "1".to_owned()), "itself");
}

#[tokio::test]
async fn a_guest_reaches_only_what_its_policies_name() {
    let (node, pods) = three().await;
    let egress = json!({"podSelector": about("friend"), "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": about("server")}]}]});
    apply(&node, &pods, &[egress]);
    let get = async |path: &str| node.get(FRIEND, path).await.1;
    assert_eq!(get("/fetch?10.64.0.2:8080/count").await, "1");
    assert_eq!(get("/fetch?10.64.0.4:8080/count").await, "ErrorCode::ConnectionRefused");
    assert_eq!(get("/ask?10.64.0.4:8080").await, "connection-refused");
    assert_eq!(get("/ask?192.0.2.1:80").await, "connection-refused", "it is not dialled");
    assert_eq!(get("/resolve?example.com").await, "temporary-resolver-failure");
    assert_eq!(get("/fetch?example.com/").await, "ErrorCode::DnsTimeout");
}

#[tokio::test]
async fn a_listening_guest_hears_of_no_connection_and_no_datagram_that_is_not_allowed() {
    let node = Node::new();
    let mut pods = Vec::new();
    for (name, args) in
        [("tcp", ["listen", "0.0.0.0", "9000", "tcp", "1"]), ("udp", ["hear", "0.0.0.0", "53", "udp", "2"])]
    {
        let mut spec = node.pod(name, probe()).await;
        pods.push(known(&spec));
        spec.force_command = true;
        spec.argv.extend(args.map(str::to_owned));
        node.start(spec).await;
        node.logged(name, "listening on").await;
    }
    let (friend, stranger) = (node.pod("friend", probe()).await, node.pod("stranger", probe()).await);
    pods.extend([known(&friend), known(&stranger)]);
    let from = json!([{"podSelector": about("friend")}]);
    let ports = json!([{"port": 9000}, {"port": 50, "endPort": 60, "protocol": "UDP"}]);
    apply(
        &node,
        &pods,
        &[
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{}]}),
            json!({"podSelector": {}, "ingress": [{"from": from, "ports": ports}]}),
        ],
    );
    let ask = async |client: &ContainerSpec, attempt: u32, args: &[&str]| {
        let mut spec = client.clone();
        spec.id.attempt = attempt;
        spec.log_path = node.dir.path().join(format!("{}-{attempt}.log", client.pod.name));
        node.engine
            .start({
                spec.argv.extend(args.iter().map(|arg| (*arg).to_owned()));
                spec.force_command = true;
                spec.clone()
            })
            .await
            .unwrap();
        crate::node::until(async || !crate::node::texts(&spec.log_path).is_empty()).await;
        crate::node::texts(&spec.log_path)
    };
    assert_eq!(ask(&stranger, 0, &["ask", "10.64.0.2", "9000", "hello"]).await, "stdout F connection-refused\n");
    assert_eq!(ask(&stranger, 1, &["reach", "10.64.0.3", "53"]).await, "stdout F connection-refused\n");
    assert_eq!(
        ask(&friend, 0, &["say", "10.64.0.3", "53", "hello"]).await,
        "stdout F udp heard hello (true), udp heard hello (true)\n"
    );
    assert_eq!(ask(&friend, 1, &["ask", "10.64.0.2", "9000", "hello"]).await, "stdout F tcp heard hello\n");
}
