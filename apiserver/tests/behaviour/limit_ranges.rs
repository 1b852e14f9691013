//! Limit ranges: defaults and bounds for what pods of a namespace ask for.

use serde_json::json;

use crate::cluster::{As, Cluster};

/// Conformance: "LimitRange, resources".
#[tokio::test]
async fn pods_get_defaults_and_keep_within_bounds() {
    let cluster = Cluster::new().await;
    cluster.make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})).await;
    let limits = json!([{"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}]);
    let spec = json!({"limits": limits});
    cluster.make(json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r"}, "spec": spec})).await;
    let pod = |name: &str, resources: serde_json::Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "x", "resources": resources}]}})
    };
    let made = cluster.make(pod("a", json!({}))).await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}})
    );
    assert_eq!(made["status"]["qosClass"], "Burstable");
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let path = "/api/v1/namespaces/default/pods";
    let (code, _, message) = cluster.post(As::Admin, path, &pod("b", json!({"limits": {"cpu": "2"}}))).await.error();
    assert_eq!(
        (code, message.as_str()),
        (403, "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2")
    );
}
