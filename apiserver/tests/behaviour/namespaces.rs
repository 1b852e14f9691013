//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/>

use crate::api::{Api, names, version};
use serde_json::json;

const NAMESPACES: &str = "/api/v1/namespaces";

/// Conformance: "Namespace patching"; "Namespace, apply update to a namespace"; "Namespace, apply changes to a namespace
/// status".
#[tokio::test]
async fn a_namespace_is_patched_and_updated_and_its_status_apart() {
    let api = Api::new().await;
    api.post(NAMESPACES, &json!({"metadata": {"name": "mine"}})).await.ok();
    let path = format!("{NAMESPACES}/mine");
    let labelled = json!({"metadata": {"labels": {"testLabel": "testValue"}}});
    let patched = api.patch("strategic-merge", &path, &labelled).await.ok();
    // The name is a label of every namespace.
    let labels = json!({"testLabel": "testValue", "kubernetes.io/metadata.name": "mine"});
    assert_eq!(patched["metadata"]["labels"], labels);
    let mut next = patched.clone();
    next["metadata"]["labels"]["updated"] = "true".into();
    let updated = api.put(&path, &next).await.ok();
    assert_eq!(updated["metadata"]["labels"]["updated"], "true");
    assert_eq!(names(&api.get(&format!("{NAMESPACES}?labelSelector=updated%3Dtrue")).await.ok()), ["mine"]);

    let status = format!("{path}/status");
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": "from a test"});
    let change = json!({"status": {"conditions": [condition("StatusPatch")]}});
    let patched = api.patch("merge", &status, &change).await.ok();
    assert_eq!(patched["status"]["conditions"][0]["type"], "StatusPatch");
    let mut next = api.get(&status).await.ok();
    next["status"]["conditions"].as_array_mut().unwrap().push(condition("StatusUpdate"));
    let updated = api.put(&status, &next).await.ok();
    assert_eq!(updated["status"]["conditions"].as_array().unwrap().len(), 2);
    assert_eq!(updated["status"]["phase"], "Active");
    assert!(version(&updated) > version(&patched));
}

/// Conformance: "Namespace, apply finalizer to a namespace".
#[tokio::test]
async fn finalizers_are_written_through_finalize_alone() {
    let api = Api::new().await;
    let made = api.post(NAMESPACES, &json!({"metadata": {"name": "mine"}})).await.ok();
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    let path = format!("{NAMESPACES}/mine");
    let change = json!({"spec": {"finalizers": ["kubernetes", "e2e.example.com/held"]}});
    let mut next = api.patch("merge", &path, &change).await.ok();
    assert_eq!(next["spec"], made["spec"]);
    next["spec"] = change["spec"].clone();
    let finalized = api.put(&format!("{path}/finalize"), &next).await.ok();
    assert_eq!(finalized["spec"]["finalizers"], next["spec"]["finalizers"]);
    // It is held back until the finalizers are gone.
    assert_eq!(api.delete(&path).await.ok()["status"]["phase"], "Terminating");
    let mut last = api.get(&path).await.ok();
    last["spec"]["finalizers"] = json!([]);
    api.put(&format!("{path}/finalize"), &last).await.ok();
    assert_eq!(api.get(&path).await.code, 404);
}
