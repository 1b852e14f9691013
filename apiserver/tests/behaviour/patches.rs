//! <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/>

use crate::api::{Api, CONFIG_MAPS, deployment};
use serde_json::json;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/d";

async fn deployed() -> Api {
    let api = Api::new().await;
    api.post("/apis/apps/v1/namespaces/default/deployments", &deployment("d", 1)).await.ok();
    api
}

/// Conformance: "ReplicaSet, is created, Replaced and Patched".
#[tokio::test]
async fn strategic_merge_patches_merge_lists_by_key() {
    let api = deployed().await;
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "localhost/s"}]}}}});
    let patched = api.patch("strategic-merge", DEPLOYMENT, &patch).await.ok();
    let containers = patched["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2);
    assert_eq!(patched["metadata"]["generation"], 2);
}

#[tokio::test]
async fn merge_patches_replace_lists() {
    let api = deployed().await;
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "other", "image": "localhost/o"}]}}}});
    let patched = api.patch("merge", DEPLOYMENT, &patch).await.ok();
    let containers = patched["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!((containers.len(), &containers[0]["name"]), (1, &json!("other")));
}

#[tokio::test]
async fn json_patches_are_lists_of_operations() {
    let api = deployed().await;
    let patch = json!([
        {"op": "test", "path": "/spec/replicas", "value": 1},
        {"op": "replace", "path": "/spec/replicas", "value": 3},
    ]);
    assert_eq!(api.patch("json", DEPLOYMENT, &patch).await.ok()["spec"]["replicas"], 3);
    let (code, reason, _) = api.patch("json", DEPLOYMENT, &patch).await.error();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
}

#[tokio::test]
async fn a_patch_keeps_to_the_types() {
    let api = deployed().await;
    let reply = api.patch("merge", DEPLOYMENT, &json!({"spec": {"replicas": "three"}})).await;
    assert_eq!(reply.code, 422, "{reply:?}");
    let labels = json!({"metadata": {"labels": "invalid"}});
    let (code, _, message) = api.patch("strategic-merge", DEPLOYMENT, &labels).await.error();
    assert_eq!(code, 422);
    assert!(
        message
            .ends_with("patch: Invalid value: \"map[metadata:map[labels:invalid]]\": cannot restore map from string"),
        "{message}"
    );
    let reply = api.patch("merge", DEPLOYMENT, &json!({"kind": "Pod"})).await;
    assert_eq!(reply.code, 400);
    let reply = api.patch("merge", DEPLOYMENT, &json!([])).await;
    assert_eq!(reply.code, 400);
}

#[tokio::test]
async fn the_status_is_patched_through_its_subresource() {
    let api = deployed().await;
    let patch = json!({"spec": {"replicas": 7}, "status": {"replicas": 5}});
    let patched = api.patch("merge", &format!("{DEPLOYMENT}/status"), &patch).await.ok();
    assert_eq!((&patched["spec"]["replicas"], &patched["status"]["replicas"]), (&json!(1), &json!(5)));
    assert_eq!(patched["metadata"]["generation"], 1);
    let patched = api.patch("merge", DEPLOYMENT, &patch).await.ok();
    assert_eq!((&patched["spec"]["replicas"], &patched["status"]["replicas"]), (&json!(7), &json!(5)));
}

#[tokio::test]
async fn concurrent_patches_all_count() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let path = format!("{CONFIG_MAPS}/a");
    let patches = (0..16).map(|n| {
        let (api, path) = (&api, &path);
        async move { api.patch("merge", path, &json!({"data": {format!("k{n}"): "v"}})).await.ok() }
    });
    futures::future::join_all(patches).await;
    let data = &api.get(&path).await.ok()["data"];
    assert_eq!(data.as_object().unwrap().len(), 17);
}
