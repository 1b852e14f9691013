//! Binding pods to nodes: what a scheduler does.

use crate::api::{Api, pod};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn binding(pod: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": {"kind": "Node", "name": node}})
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let api = Api::new().await;
    api.post(PODS, &pod("a")).await.ok();
    let reply = api.post(&format!("{PODS}/a/binding"), &binding("a", "n1")).await;
    assert_eq!((reply.code, &reply.json()["status"]), (201, &json!("Success")));
    let bound = api.get(&format!("{PODS}/a")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    let conditions = bound["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|one| one["type"] == "PodScheduled" && one["status"] == "True"));
    let (code, _, message) = api.post(&format!("{PODS}/a/binding"), &binding("a", "n2")).await.error();
    assert_eq!(code, 409);
    assert_eq!(
        message,
        "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n1\""
    );
}

#[tokio::test]
async fn what_a_pod_was_promised_is_void_once_it_is_bound() {
    let api = Api::new().await;
    api.post(PODS, &pod("a")).await.ok();
    let promised = json!({"status": {"nominatedNodeName": "n2"}});
    let path = format!("{PODS}/a");
    assert_eq!(
        api.patch("merge", &format!("{path}/status"), &promised).await.ok()["status"]["nominatedNodeName"],
        "n2"
    );
    api.post(&format!("{path}/binding"), &binding("a", "n1")).await.ok();
    assert!(api.get(&path).await.ok()["status"]["nominatedNodeName"].is_null());
}

#[tokio::test]
async fn bindings_are_a_resource_too() {
    let api = Api::new().await;
    api.post(PODS, &pod("a")).await.ok();
    api.post("/api/v1/namespaces/default/bindings", &binding("a", "n1")).await.ok();
    assert_eq!(api.get(&format!("{PODS}/a")).await.ok()["spec"]["nodeName"], "n1");
}

#[tokio::test]
async fn a_binding_needs_a_pod_and_a_node() {
    let api = Api::new().await;
    assert_eq!(api.post(&format!("{PODS}/a/binding"), &binding("a", "n1")).await.code, 404);
    let (code, _, message) = api.post(&format!("{PODS}/a/binding"), &binding("a", "")).await.error();
    assert_eq!((code, message.as_str()), (422, "Binding \"a\" is invalid: target.name: Required value"));
}
