//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/> and graceful deletion.

use crate::api::{Api, CONFIG_MAPS, config_map, names, pod};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn with_finalizers(api: &Api, name: &str, finalizers: Value) {
    let mut object = config_map(name, "1");
    object["metadata"]["finalizers"] = finalizers;
    api.post(CONFIG_MAPS, &object).await.ok();
}

#[tokio::test]
async fn a_deletion_answers_with_a_status() {
    let api = Api::new().await;
    let created = api.config_map("a", "1").await;
    let status = api.delete(&format!("{CONFIG_MAPS}/a")).await.ok();
    assert_eq!(status["status"], "Success");
    assert_eq!(status["details"], json!({"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]}));
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).await.code, 404);
}

/// Some kinds answer the object as it was.
#[tokio::test]
async fn a_deletion_can_answer_with_the_object() {
    let api = Api::new().await;
    let storage = "/apis/storage.k8s.io/v1";
    for (path, body) in [
        ("/api/v1/namespaces/default/serviceaccounts".to_owned(), json!({})),
        ("/api/v1/namespaces/default/resourcequotas".to_owned(), json!({})),
        (format!("{storage}/storageclasses"), json!({"provisioner": "example.com"})),
        (format!("{storage}/csidrivers"), json!({"spec": {}})),
        ("/apis/resource.k8s.io/v1/deviceclasses".to_owned(), json!({"spec": {}})),
    ] {
        let mut object = body;
        object["metadata"] = json!({"name": "a"});
        let made = api.post(&path, &object).await.ok();
        let gone = api.delete(&format!("{path}/a")).await.ok();
        assert_eq!((&gone["kind"], &gone["metadata"]["uid"]), (&made["kind"], &made["metadata"]["uid"]), "{path}");
        assert_eq!(api.get(&format!("{path}/a")).await.code, 404);
    }
}

#[tokio::test]
async fn dependents_are_spoken_of_once() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let both = json!({"orphanDependents": true, "propagationPolicy": "Orphan"});
    let (code, _, message) = api.delete_with(&format!("{CONFIG_MAPS}/a"), &both).await.error();
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and \
         deletionPropagation cannot be both set"
    );
}

#[tokio::test]
async fn finalizers_hold_an_object_back() {
    let api = Api::new().await;
    with_finalizers(&api, "a", json!(["example.com/one", "example.com/two"])).await;
    let path = format!("{CONFIG_MAPS}/a");
    let deleting = api.delete(&path).await.ok();
    assert!(deleting["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(deleting["metadata"]["deletionGracePeriodSeconds"], 0);
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list, "deletionTimestamp": null}});
    let one = api.patch("merge", &path, &finalizers(json!(["example.com/two"]))).await.ok();
    assert!(one["metadata"]["deletionTimestamp"].is_string());
    api.patch("merge", &path, &finalizers(json!([]))).await.ok();
    assert_eq!(api.get(&path).await.code, 404);
}

#[tokio::test]
async fn propagation_is_said_with_finalizers() {
    let api = Api::new().await;
    for (policy, expected) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        api.config_map(policy.to_lowercase().as_str(), "1").await;
        let path = format!("{CONFIG_MAPS}/{}", policy.to_lowercase());
        let deleting = api.delete_with(&path, &json!({"propagationPolicy": policy})).await.ok();
        assert_eq!(deleting["metadata"]["finalizers"], json!([expected]));
    }
    api.config_map("background", "1").await;
    api.delete(&format!("{CONFIG_MAPS}/background?propagationPolicy=Background")).await.ok();
    assert_eq!(names(&api.get(CONFIG_MAPS).await.ok()), ["foreground", "orphan"]);
    assert_eq!(api.delete(&format!("{CONFIG_MAPS}/x?propagationPolicy=Maybe")).await.code, 422);
}

#[tokio::test]
async fn pods_get_time_to_stop() {
    let api = Api::new().await;
    let mut object = pod("a");
    object["spec"]["nodeName"] = "n".into();
    api.post(PODS, &object).await.ok();
    let path = format!("{PODS}/a");
    let deleting = api.delete(&path).await.ok();
    assert_eq!(deleting["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(deleting["metadata"]["deletionTimestamp"].is_string());
    // Asking again changes nothing, unless it is to be faster.
    assert_eq!(api.delete(&path).await.ok()["metadata"]["resourceVersion"], deleting["metadata"]["resourceVersion"]);
    let faster = api.delete_with(&path, &json!({"gracePeriodSeconds": 5})).await.ok();
    assert_eq!(faster["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(faster["metadata"]["deletionTimestamp"].as_str() <= deleting["metadata"]["deletionTimestamp"].as_str());
    api.delete_with(&path, &json!({"gracePeriodSeconds": 0})).await.ok();
    assert_eq!(api.get(&path).await.code, 404);
}

#[tokio::test]
async fn pods_that_no_node_has_go_at_once() {
    let api = Api::new().await;
    api.post(PODS, &pod("a")).await.ok();
    assert_eq!(api.delete(&format!("{PODS}/a")).await.ok()["kind"], "Pod");
    assert_eq!(api.get(&format!("{PODS}/a")).await.code, 404);
}

#[tokio::test]
async fn preconditions_must_hold() {
    let api = Api::new().await;
    let created = api.config_map("a", "1").await;
    let path = format!("{CONFIG_MAPS}/a");
    for precondition in [json!({"uid": "other"}), json!({"resourceVersion": "1000"})] {
        let (code, reason, message) = api.delete_with(&path, &json!({"preconditions": precondition})).await.error();
        assert_eq!((code, reason.as_str()), (409, "Conflict"));
        assert!(message.contains("Precondition failed: "), "{message}");
    }
    let uid = json!({"preconditions": {"uid": created["metadata"]["uid"]}});
    api.delete_with(&path, &uid).await.ok();
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let api = Api::new().await;
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut object = config_map(name, "1");
        object["metadata"]["labels"] = json!({"app": app});
        api.post(CONFIG_MAPS, &object).await.ok();
    }
    let deleted = api.delete(&format!("{CONFIG_MAPS}?labelSelector=app%3Dx")).await.ok();
    assert_eq!((&deleted["kind"], names(&deleted)), (&json!("ConfigMapList"), vec!["a", "c"]));
    assert_eq!(names(&api.get(CONFIG_MAPS).await.ok()), ["b"]);
}

#[tokio::test]
async fn namespaces_stay_until_they_are_finalized() {
    let api = Api::new().await;
    let object = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}});
    api.post("/api/v1/namespaces", &object).await.ok();
    let deleting = api.delete("/api/v1/namespaces/n").await.ok();
    assert_eq!(deleting["status"]["phase"], "Terminating");
    let finalize = json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}});
    api.put("/api/v1/namespaces/n/finalize", &finalize).await.ok();
    assert_eq!(api.get("/api/v1/namespaces/n").await.code, 404);
}
