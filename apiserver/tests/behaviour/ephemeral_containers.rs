//! Ephemeral containers: added to a pod that runs, and never taken away.

use serde_json::{Value, json};

use crate::api::{Api, pod};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn debugger(name: &str, image: &str) -> Value {
    json!({"spec": {"ephemeralContainers": [{"name": name, "image": image}], "nodeName": "elsewhere"}})
}

/// Conformance: "Ephemeral Container, update ephemeral containers".
#[tokio::test]
async fn they_are_added_through_their_subresource_alone() {
    let api = Api::new().await;
    let mut with = pod("a");
    with["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "x"}]);
    let (code, _, message) = api.post(PODS, &with).await.error();
    assert_eq!((code, message.contains("spec.ephemeralContainers: Forbidden: cannot be set on create")), (422, true));
    api.post(PODS, &pod("a")).await.ok();
    let path = format!("{PODS}/a/ephemeralcontainers");
    let changed = api.patch("strategic-merge", &path, &debugger("d", "x")).await.ok();
    assert_eq!(changed["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"], "File");
    assert_eq!(changed["spec"]["nodeName"], Value::Null, "nothing else changes");
    assert_eq!(changed["metadata"]["generation"], 2);
    let both = api.patch("strategic-merge", &path, &debugger("e", "x")).await.ok();
    assert_eq!(both["spec"]["ephemeralContainers"].as_array().unwrap().len(), 2);
    let (code, _, message) = api.patch("strategic-merge", &path, &debugger("d", "y")).await.error();
    assert_eq!(code, 422);
    assert!(
        message.contains("spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be changed"),
        "{message}"
    );
    assert_eq!(api.get(&path).await.ok()["spec"], both["spec"]);
}
