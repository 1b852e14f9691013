//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

use crate::api::{Api, CONFIG_MAPS, config_map, pod, version};
use crate::cluster::{As, Cluster};
use serde_json::{Value, json};

fn path(query: &str) -> String {
    format!("{CONFIG_MAPS}/a?{query}")
}

fn managers(object: &Value) -> Vec<(&str, &str)> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
    let entries = entries.map(|entry| (entry["manager"].as_str().unwrap(), entry["operation"].as_str().unwrap()));
    let mut managers: Vec<_> = entries.collect();
    managers.sort();
    managers
}

#[tokio::test]
async fn an_apply_creates_and_then_merges() {
    let api = Api::new().await;
    let created = api.apply(&path("fieldManager=one"), &config_map("a", "1")).await;
    assert_eq!(created.code, 201);
    assert_eq!(managers(&created.json()), [("one", "Apply")]);
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"other": "2"}});
    let merged = api.apply(&path("fieldManager=two"), &other).await.ok();
    assert_eq!(merged["data"], json!({"key": "1", "other": "2"}));
    // What a manager applied and no longer mentions is removed.
    let none = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let removed = api.apply(&path("fieldManager=one"), &none).await.ok();
    assert_eq!(removed["data"], json!({"other": "2"}));
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing() {
    let api = Api::new().await;
    let first = api.apply(&path("fieldManager=one"), &config_map("a", "1")).await.ok();
    let second = api.apply(&path("fieldManager=one"), &config_map("a", "1")).await.ok();
    assert_eq!(version(&first), version(&second));
}

#[tokio::test]
async fn fields_of_others_conflict_unless_forced() {
    let api = Api::new().await;
    api.apply(&path("fieldManager=one"), &config_map("a", "1")).await.ok();
    let reply = api.apply(&path("fieldManager=two"), &config_map("a", "2")).await;
    let (code, reason, message) = reply.error();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"one\": .data.key");
    let cause = &reply.json()["details"]["causes"][0];
    assert_eq!(cause["reason"], "FieldManagerConflict");
    assert_eq!(cause["field"], ".data.key");
    let forced = api.apply(&path("fieldManager=two&force=true"), &config_map("a", "2")).await.ok();
    assert_eq!(forced["data"]["key"], "2");
}

#[tokio::test]
async fn other_writes_are_tracked_too() {
    let api = Api::new().await;
    let created = api.config_map("a", "1").await;
    assert_eq!(managers(&created), [("test", "Update")]);
    let patch = json!({"data": {"new": "1"}});
    let patched = api.patch("merge", &path("fieldManager=other"), &patch).await.ok();
    assert_eq!(managers(&patched), [("other", "Update"), ("test", "Update")]);
}

#[tokio::test]
async fn an_apply_says_who_applies() {
    let api = Api::new().await;
    let (code, _, message) = api.apply(&path(""), &config_map("a", "1")).await.error();
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let (code, _, message) = api.patch("merge", &path("force=true"), &json!({})).await.error();
    assert_eq!(code, 422);
    assert!(message.ends_with("force: Forbidden: may not be specified for non-apply patch"), "{message}");
    let mut managed = config_map("a", "1");
    managed["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    assert_eq!(api.apply(&path("fieldManager=x"), &managed).await.code, 400);
}

/// An applier that comes to own what another client created must not take away what admission filled in.
#[tokio::test]
async fn what_admission_fills_in_has_no_owner() {
    let cluster = Cluster::new().await;
    cluster.make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})).await;
    let made = cluster.post(As::Admin, "/api/v1/namespaces/default/pods", &pod("p")).await.ok();
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["status"]["phase"], "Pending");
    let entries = made["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    let fields = &entries[0]["fieldsV1"];
    assert!(fields["f:spec"]["f:dnsPolicy"].is_object(), "defaults are the creator's: {fields}");
    for field in ["f:serviceAccountName", "f:serviceAccount", "f:volumes", "f:tolerations", "f:priority"] {
        assert!(fields["f:spec"][field].is_null(), "{field} is owned: {fields}");
    }
    assert!(fields["f:status"].is_null(), "{fields}");
    assert!(fields["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:volumeMounts"].is_null(), "{fields}");
}
