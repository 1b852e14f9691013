//! <https://kubernetes.io/docs/concepts/containers/runtime-class/>

use crate::api::pod;
use crate::cluster::{As, Cluster};
use serde_json::{Value, json};

async fn cluster() -> Cluster {
    let cluster = Cluster::new().await;
    cluster.make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})).await;
    cluster
}

async fn class(cluster: &Cluster, more: Value) {
    let mut class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "mine"},
        "handler": "test"});
    for (key, value) in more.as_object().unwrap() {
        class[key] = value.clone();
    }
    cluster.make(class).await;
}

async fn run(cluster: &Cluster, class: &str) -> crate::api::Reply {
    let mut pod = pod("p");
    pod["spec"]["runtimeClassName"] = class.into();
    cluster.post(As::Admin, "/api/v1/namespaces/default/pods", &pod).await
}

/// Conformance: "Pod with the non-existing RuntimeClass is rejected."; "Pod with the deleted RuntimeClass is rejected.".
#[tokio::test]
async fn a_pod_of_a_class_that_is_not_there_is_rejected() {
    let cluster = cluster().await;
    let (code, reason, message) = run(&cluster, "mine").await.error();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(message, "pods \"p\" is forbidden: pod rejected: RuntimeClass \"mine\" not found");
    class(&cluster, json!({})).await;
    cluster.delete("/apis/node.k8s.io/v1/runtimeclasses/mine").await.ok();
    assert_eq!(run(&cluster, "mine").await.code, 403);
}

/// Conformance: "RuntimeClass Overhead field must be respected.".
#[tokio::test]
async fn a_pod_takes_over_the_overhead_and_the_placement_of_its_class() {
    let cluster = cluster().await;
    class(
        &cluster,
        json!({"overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}},
            "scheduling": {"nodeSelector": {"foo": "bar"}, "tolerations": [{"key": "foo", "operator": "Exists"}]}}),
    )
    .await;
    let spec = run(&cluster, "mine").await.ok()["spec"].clone();
    assert_eq!(spec["overhead"], json!({"cpu": "10m", "memory": "1Mi"}));
    assert_eq!(spec["nodeSelector"], json!({"foo": "bar"}));
    assert!(spec["tolerations"].as_array().unwrap().contains(&json!({"key": "foo", "operator": "Exists"})));
}
