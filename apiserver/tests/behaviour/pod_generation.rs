//! <https://kubernetes.io/docs/concepts/workloads/pods/#pod-generation>

use crate::api::{Api, pod};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn generation(pod: &Value) -> i64 {
    pod["metadata"]["generation"].as_i64().unwrap()
}

/// Conformance: "Pods Generation, updates".
#[tokio::test]
async fn it_counts_changes_of_the_spec_whatever_clients_say() {
    let api = Api::new().await;
    let mut object = pod("p");
    object["metadata"]["generation"] = 100.into();
    assert_eq!(generation(&api.post(PODS, &object).await.ok()), 1);
    let path = format!("{PODS}/p");
    let image = |image: &str| json!({"spec": {"containers": [{"name": "c", "image": image}]}});
    for (expected, change) in [
        (1, json!({"metadata": {"labels": {"a": "b"}, "generation": 50}})),
        (2, image("localhost/other:latest")),
        (2, image("localhost/other:latest")),
        (3, json!({"spec": {"activeDeadlineSeconds": 5000}})),
        (4, json!({"spec": {"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]}})),
    ] {
        let changed = api.patch("strategic-merge", &path, &change).await.ok();
        assert_eq!(generation(&changed), expected, "{change}");
    }
    let status = json!({"status": {"message": "from a test"}});
    assert_eq!(generation(&api.patch("merge", &format!("{path}/status"), &status).await.ok()), 4);
}

/// Conformance: "Pods Generation, 500 updates".
#[tokio::test]
async fn five_hundred_updates_are_all_counted() {
    let api = Api::new().await;
    api.post(PODS, &pod("p")).await.ok();
    let path = format!("{PODS}/p");
    for n in 0..500 {
        let change = json!({"spec": {"containers": [{"name": "c", "image": format!("localhost/c:{n}")}]}});
        api.patch("strategic-merge", &path, &change).await.ok();
    }
    assert_eq!(generation(&api.get(&path).await.ok()), 501);
}

/// Conformance: "Pods Generation, graceful delete".
#[tokio::test]
async fn the_beginning_of_a_deletion_counts() {
    let api = Api::new().await;
    let mut object = pod("p");
    object["spec"]["nodeName"] = "n".into();
    api.post(PODS, &object).await.ok();
    let going = api.delete_with(&format!("{PODS}/p"), &json!({"gracePeriodSeconds": 30})).await.ok();
    assert_eq!(generation(&going), 2);
}
