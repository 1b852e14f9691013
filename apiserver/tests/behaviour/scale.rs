//! The `scale` subresource.

use crate::api::{Api, deployment};
use serde_json::json;

const SCALE: &str = "/apis/apps/v1/namespaces/default/deployments/d/scale";

/// Conformance: "Deployment, completes the scaling of a Deployment subresource"; "ReplicaSet, completes the scaling of
/// a ReplicaSet subresource"; "StatefulSet resource Replica scaling"; "Replication Controller, get and update
/// ReplicationController scale".
#[tokio::test]
async fn replicas_are_read_and_written() {
    let api = Api::new().await;
    let created = api.post("/apis/apps/v1/namespaces/default/deployments", &deployment("d", 2)).await.ok();
    let mut scale = api.get(SCALE).await.ok();
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(scale["status"]["selector"], "app=d");
    assert_eq!(scale["metadata"]["uid"], created["metadata"]["uid"]);

    scale["spec"]["replicas"] = 3.into();
    assert_eq!(api.put(SCALE, &scale).await.ok()["spec"]["replicas"], 3);
    // The version that was read is no longer the newest.
    assert_eq!(api.put(SCALE, &scale).await.code, 409);
    assert_eq!(api.patch("merge", SCALE, &json!({"spec": {"replicas": 5}})).await.ok()["spec"]["replicas"], 5);
    let object = api.get("/apis/apps/v1/namespaces/default/deployments/d").await.ok();
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(5), &json!(3)));

    let (code, _, message) = api.patch("merge", SCALE, &json!({"spec": {"replicas": -1}})).await.error();
    assert_eq!(code, 422);
    assert!(message.contains("spec.replicas: Invalid value: -1: must be greater than or equal to 0"), "{message}");
}

#[tokio::test]
async fn a_patch_of_a_scale_is_held_to_the_fields_of_one() {
    let api = Api::new().await;
    api.post("/apis/apps/v1/namespaces/default/deployments", &deployment("d", 2)).await.ok();
    let patch = json!({"spec": {"replicas": 3, "extra": 1}});
    for format in ["merge", "strategic-merge"] {
        let strict = format!("{SCALE}?fieldValidation=Strict");
        let (code, _, message) = api.patch(format, &strict, &patch).await.error();
        assert_eq!(code, 422);
        assert!(message.ends_with(r#"strict decoding error: unknown field "spec.extra""#), "{message}");
    }
    assert_eq!(api.get(SCALE).await.ok()["spec"]["replicas"], 2);
    let warned = api.patch("merge", SCALE, &patch).await;
    assert_eq!(warned.warnings(), [r#"299 - "unknown field \"spec.extra\"""#]);
    assert_eq!(warned.ok()["spec"]["replicas"], 3);
    let ignored = api.patch("merge", &format!("{SCALE}?fieldValidation=Ignore"), &patch).await;
    assert!(ignored.warnings().is_empty());
}

#[tokio::test]
async fn a_scale_is_printed_with_its_numbers() {
    let api = Api::new().await;
    api.post("/apis/apps/v1/namespaces/default/deployments", &deployment("d", 2)).await.ok();
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let request = http::Request::get(SCALE).header("accept", accept).body(k8w_apiserver::Body::Empty).unwrap();
    let table = api.send(request).await.ok();
    let columns = table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap());
    assert_eq!(columns.collect::<Vec<_>>(), ["Name", "Desired", "Available", "Age"]);
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..3], [json!("d"), json!(2), json!(0)]);
}
