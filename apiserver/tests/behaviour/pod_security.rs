//! Pod Security admission: a namespace's labels say what its pods may do.

use k8w_apiserver::Body;
use serde_json::{Value, json};

use crate::api::Reply;
use crate::cluster::{As, Cluster};

async fn cluster(labels: Value) -> Cluster {
    let cluster = Cluster::new().await;
    cluster.make(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": labels}})).await;
    let account = json!({"name": "default", "namespace": "a"});
    cluster.make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})).await;
    cluster
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    pod["spec"]["containers"] = json!([{"name": "c", "image": "x"}]);
    pod
}

async fn create(cluster: &Cluster, pod: &Value) -> Reply {
    cluster.post(As::Admin, "/api/v1/namespaces/a/pods", pod).await
}

async fn label(cluster: &Cluster, labels: Value) -> Reply {
    let patch = json!({"metadata": {"labels": labels}}).to_string();
    let headers = [("content-type", "application/merge-patch+json")];
    cluster.send(As::Admin, "PATCH", "/api/v1/namespaces/a", &headers, Body::from(patch)).await
}

#[tokio::test]
async fn what_is_enforced_is_refused() {
    let cluster = cluster(json!({"pod-security.kubernetes.io/enforce": "baseline"})).await;
    let (code, _, message) = create(&cluster, &pod("p", json!({"hostNetwork": true}))).await.error();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    assert_eq!(create(&cluster, &pod("p", json!({}))).await.code, 201);
}

#[tokio::test]
async fn what_is_only_warned_of_is_let_in() {
    let cluster = cluster(json!({"pod-security.kubernetes.io/warn": "baseline"})).await;
    let reply = create(&cluster, &pod("p", json!({"hostPID": true}))).await;
    assert_eq!(reply.code, 201);
    assert_eq!(
        reply.warnings(),
        ["299 - \"would violate PodSecurity \\\"baseline:latest\\\": host namespaces (hostPID=true)\""]
    );
}

#[tokio::test]
async fn workloads_are_warned_about_their_templates() {
    let cluster = cluster(json!({"pod-security.kubernetes.io/enforce": "baseline"})).await;
    let mut deployment = crate::api::deployment("d", 1);
    deployment["spec"]["template"]["spec"]["hostIPC"] = true.into();
    let reply = cluster.post(As::Admin, "/apis/apps/v1/namespaces/a/deployments", &deployment).await;
    assert_eq!(reply.code, 201);
    assert!(reply.warnings()[0].contains("would violate PodSecurity"), "{:?}", reply.warnings());
}

#[tokio::test]
async fn a_stricter_namespace_names_the_pods_that_fall_short() {
    let cluster = cluster(json!({})).await;
    for name in ["p", "q"] {
        create(&cluster, &pod(name, json!({"hostNetwork": true}))).await.ok();
    }
    create(&cluster, &pod("r", json!({}))).await.ok();
    let reply = label(&cluster, json!({"pod-security.kubernetes.io/enforce": "baseline"})).await;
    assert_eq!(reply.code, 200);
    assert_eq!(
        reply.warnings(),
        [
            "299 - \"existing pods in namespace \\\"a\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"p (and 1 other pod): host namespaces\"",
        ]
    );
    assert_eq!(label(&cluster, json!({"pod-security.kubernetes.io/enforce": "privileged"})).await.warnings().len(), 0);
}

#[tokio::test]
async fn labels_that_make_no_sense_are_refused() {
    let cluster = cluster(json!({})).await;
    let (code, _, message) = label(&cluster, json!({"pod-security.kubernetes.io/enforce": "strict"})).await.error();
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "Namespace \"a\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be \
         one of privileged, baseline, restricted"
    );
}
