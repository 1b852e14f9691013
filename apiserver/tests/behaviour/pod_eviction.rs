//! API-initiated eviction: a pod goes if its PodDisruptionBudget lets it.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::api::{Api, pod};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn eviction(pod: &str, options: Value) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}, "deleteOptions": options})
}

/// A pod that runs, ready or not.
async fn running_pod(api: &Api, name: &str, ready: &str) -> Value {
    let mut pod = pod(name);
    pod["metadata"]["labels"] = json!({"app": "a"});
    let mut pod = api.post(PODS, &pod).await.ok();
    pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]});
    api.put(&format!("{PODS}/{name}/status"), &pod).await.ok()
}

/// A budget whose controller has said what it allows.
async fn budget(api: &Api, name: &str, allowed: i64, healthy: i64) {
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}});
    let budget =
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec});
    let mut budget = api.post(BUDGETS, &budget).await.ok();
    budget["status"] = json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": healthy,
        "desiredHealthy": 1, "expectedPods": healthy});
    api.put(&format!("{BUDGETS}/{name}/status"), &budget).await.ok();
}

async fn evict(api: &Api, pod: &str) -> crate::api::Reply {
    api.post(&format!("{PODS}/{pod}/eviction"), &eviction(pod, json!({}))).await
}

/// Conformance: "PodDisruptionBudget: block an eviction until the PDB is updated to allow it".
#[tokio::test]
async fn a_budget_is_drawn_on_and_then_refuses() {
    let api = Api::new().await;
    running_pod(&api, "a", "True").await;
    running_pod(&api, "b", "True").await;
    budget(&api, "pdb", 1, 2).await;
    let done = evict(&api, "a").await;
    assert_eq!((done.code, &done.json()["status"]), (201, &json!("Success")));
    assert_eq!(api.get(&format!("{PODS}/a")).await.code, 404);
    let status = api.get(&format!("{BUDGETS}/pdb")).await.ok()["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert!(status["disruptedPods"]["a"].is_string(), "{status}");
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
    let refused = evict(&api, "b").await;
    let (code, reason, message) = refused.error();
    assert_eq!((code, reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(message, "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_eq!(
        refused.json()["details"]["causes"],
        json!([{"reason": "DisruptionBudget", "message": "The disruption budget pdb does not allow evicting pods currently"}])
    );
    assert_eq!(api.get(&format!("{PODS}/b")).await.code, 200);
}

#[tokio::test]
async fn evictions_that_come_at_once_share_one_budget() {
    let api = Api::new().await;
    let names: Vec<String> = (0..8).map(|i| format!("p{i}")).collect();
    for name in &names {
        running_pod(&api, name, "True").await;
    }
    budget(&api, "pdb", 3, 8).await;
    let replies = join_all(names.iter().map(|name| evict(&api, name))).await;
    assert_eq!(replies.iter().filter(|reply| reply.code == 201).count(), 3);
    assert_eq!(replies.iter().filter(|reply| reply.code == 429).count(), 5);
}

#[tokio::test]
async fn pods_that_do_not_count_go_without_a_budget() {
    let api = Api::new().await;
    budget(&api, "pdb", 0, 1).await;
    api.post(PODS, &{
        let mut pod = pod("pending");
        pod["metadata"]["labels"] = json!({"app": "a"});
        pod
    })
    .await
    .ok();
    assert_eq!(evict(&api, "pending").await.code, 201);
    running_pod(&api, "unready", "False").await;
    assert_eq!(evict(&api, "unready").await.code, 201);
    let status = api.get(&format!("{BUDGETS}/pdb")).await.ok()["status"].clone();
    assert_eq!(status["disruptedPods"], Value::Null);
}

#[tokio::test]
async fn a_pod_with_two_budgets_cannot_be_evicted() {
    let api = Api::new().await;
    running_pod(&api, "a", "True").await;
    budget(&api, "one", 1, 1).await;
    budget(&api, "two", 1, 1).await;
    let (code, _, message) = evict(&api, "a").await.error();
    assert_eq!(code, 500);
    assert_eq!(
        message,
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
}

#[tokio::test]
async fn options_of_the_deletion_count() {
    let api = Api::new().await;
    let pod = running_pod(&api, "a", "True").await;
    budget(&api, "pdb", 1, 2).await;
    let path = format!("{PODS}/a/eviction");
    let stale = eviction("a", json!({"preconditions": {"uid": "other"}}));
    assert_eq!(api.post(&path, &stale).await.error().0, 409);
    assert_eq!(api.post(&path, &eviction("a", json!({"dryRun": ["All"]}))).await.code, 201);
    assert_eq!(api.post(&format!("{path}?dryRun=All"), &eviction("a", json!({}))).await.code, 201);
    let status = api.get(&format!("{BUDGETS}/pdb")).await.ok()["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 1);
    let same = eviction("a", json!({"preconditions": {"uid": pod["metadata"]["uid"]}}));
    assert_eq!(api.post(&path, &same).await.code, 201);
    assert_eq!(api.post(&path, &same).await.error().0, 404);
}

/// Conformance: "Ensure pod failure policy allows to ignore failure matching on the DisruptionTarget condition" needs it.
#[tokio::test]
async fn a_pod_that_its_node_ends_says_that_it_was_evicted() {
    let api = Api::new().await;
    running_pod(&api, "a", "True").await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"name": "n"}});
    api.post(&format!("{PODS}/a/binding"), &binding).await.ok();
    assert_eq!(evict(&api, "a").await.code, 201);
    let pod = api.get(&format!("{PODS}/a")).await.ok();
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let mut conditions = pod["status"]["conditions"].as_array().unwrap().iter();
    let target = conditions.find(|condition| condition["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
}

#[tokio::test]
async fn an_eviction_names_the_pod_of_its_url() {
    let api = Api::new().await;
    let (code, _, message) = api.post(&format!("{PODS}/a/eviction"), &eviction("b", json!({}))).await.error();
    assert_eq!((code, message.as_str()), (400, "name in URL does not match name in Eviction object"));
    assert_eq!(evict(&api, "none").await.error().0, 404);
}
