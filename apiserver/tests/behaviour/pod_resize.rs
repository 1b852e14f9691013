//! Resizing pods in place: CPU and memory of containers, within the pod's quality of service and its namespace's quota.

use serde_json::json;

use crate::api::{Api, pod};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// Conformance: "In-place Pod Resize, read and replace endpoints".
#[tokio::test]
async fn cpu_and_memory_change_through_the_subresource() {
    let api = Api::new().await;
    let mut small = pod("a");
    small["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    api.post(PODS, &small).await.ok();
    let asking = |cpu: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
    let refused = api.patch("strategic-merge", &format!("{PODS}/a"), &asking("2")).await;
    assert_eq!(refused.code, 422);
    let resized = api.patch("strategic-merge", &format!("{PODS}/a/resize"), &asking("2")).await.ok();
    assert_eq!(resized["spec"]["containers"][0]["resources"], json!({"requests": {"cpu": "2"}}));
    assert_eq!(resized["metadata"]["generation"], 2);
    let limited = json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "2", "memory": "1Gi"},
        "requests": {"cpu": "2", "memory": "1Gi"}}}]}});
    let (code, _, message) = api.patch("strategic-merge", &format!("{PODS}/a/resize"), &limited).await.error();
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "Pod \"a\" is invalid: spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"
    );
}
