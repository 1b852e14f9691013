//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

use crate::api::{Api, CONFIG_MAPS, config_map, deployment, pod, version};
use crate::cluster::{As, Cluster};
use k8w_apiserver::Body;
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

/// So who taints a node that was made of its capacity alone is known: the node has an owner from its beginning.
#[tokio::test]
async fn a_node_comes_with_a_status_and_its_creator_owns_that() {
    let api = Api::new().await;
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"capacity": {"memory": "1Gi"}},
    });
    let created = api.post("/api/v1/nodes?fieldManager=kubectl-create", &node).await.ok();
    assert_eq!(managers(&created), [("kubectl-create", "Update")]);
    let owned = &created["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(owned["f:status"]["f:capacity"], json!({".": {}, "f:memory": {}}));
    let taint = json!({"spec": {"taints": [{"key": "dedicated", "effect": "PreferNoSchedule"}]}});
    let tainted = api.patch("strategic-merge", "/api/v1/nodes/n?fieldManager=kubectl-taint", &taint).await.ok();
    assert_eq!(managers(&tainted), [("kubectl-create", "Update"), ("kubectl-taint", "Update")]);
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

/// Who may patch alone cannot make objects by it.
#[tokio::test]
async fn an_apply_that_creates_needs_the_verb_create() {
    let cluster = Cluster::new().await;
    let rule = |verbs: &[&str]| json!([{"verbs": verbs, "apiGroups": [""], "resources": ["configmaps"]}]);
    cluster.grant("patcher", rule(&["patch"])).await;
    cluster.grant("maker", rule(&["patch", "create"])).await;
    let apply = async |user: &str, name: &str| {
        let headers = [("content-type", "application/apply-patch+yaml")];
        let path = format!("{CONFIG_MAPS}/{name}?fieldManager=one");
        let body = Body::from(config_map(name, "1").to_string());
        cluster.send(As::User(user, &[]), "PATCH", &path, &headers, body).await
    };
    let (code, _, message) = apply("patcher", "a").await.error();
    assert_eq!(code, 403);
    assert!(message.contains("User \"patcher\" cannot create resource \"configmaps\""), "{message}");
    assert_eq!(apply("maker", "a").await.code, 201);
    assert_eq!(apply("patcher", "a").await.code, 200);
}

#[tokio::test]
async fn an_object_that_is_meant_by_its_uid_is_not_created() {
    let api = Api::new().await;
    let mut config = config_map("a", "1");
    config["metadata"]["uid"] = "1-2-3".into();
    let (code, reason, message) = api.apply(&path("fieldManager=one"), &config).await.error();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(
        message,
        "Operation cannot be fulfilled on configmaps \"a\": uid mismatch: the provided object specified uid 1-2-3, and no \
         existing object was found"
    );
}

/// Each part of an object that is written apart has managers of its own.
#[tokio::test]
async fn a_status_and_a_scale_are_applied_too() {
    let api = Api::new().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    api.post(deployments, &deployment("d", 1)).await.ok();
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"paused": true}, "status": {"observedGeneration": 1}});
    let applied = api.apply(&format!("{deployments}/d/status?fieldManager=one"), &status).await.ok();
    assert_eq!((&applied["status"]["observedGeneration"], &applied["spec"]["paused"]), (&json!(1), &Value::Null));
    let scale = |replicas: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": replicas}});
    let scaling = |query: &str| format!("{deployments}/d/scale?fieldManager=scaler{query}");
    let (code, _, message) = api.apply(&scaling(""), &scale(3)).await.error();
    assert_eq!(code, 409);
    assert!(message.starts_with("Apply failed with 1 conflict: conflict with \"test\""), "{message}");
    assert!(message.ends_with(": .spec.replicas"), "{message}");
    let scaled = api.apply(&scaling("&force=true"), &scale(3)).await.ok();
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    let object = api.get(&format!("{deployments}/d")).await.ok();
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(3), &json!(2)));
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = |manager: &str| entries.iter().find(|entry| entry["manager"] == manager).unwrap();
    assert_eq!((&entry("one")["subresource"], &entry("one")["operation"]), (&json!("status"), &json!("Apply")));
    assert_eq!(entry("scaler")["subresource"], "scale");
    assert_eq!(entry("scaler")["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert!(entry("test")["fieldsV1"]["f:spec"].get("f:replicas").is_none());
    // Who has applied a number that nobody else wants changes it without force.
    assert_eq!(api.apply(&scaling(""), &scale(4)).await.ok()["spec"]["replicas"], 4);
    let mut missing = scale(1);
    missing["metadata"]["name"] = "x".into();
    assert_eq!(api.apply(&format!("{deployments}/x/scale?fieldManager=scaler"), &missing).await.code, 404);
    let (code, _, message) = api.apply(&format!("{deployments}/d/scale"), &scale(1)).await.error();
    assert!(code == 422 && message.contains("fieldManager: Required value"), "{message}");
}

#[tokio::test]
async fn a_configuration_says_what_it_is() {
    let api = Api::new().await;
    for (config, message) in [
        (json!({"kind": "ConfigMap", "data": {"a": "1"}}), "invalid object type: /, Kind=ConfigMap"),
        (json!({"apiVersion": "v1", "kind": "Secret"}), "invalid object type: /v1, Kind=Secret"),
        (json!({"apiVersion": "apps/v2", "kind": "ConfigMap", "x": 1}), "invalid object type: apps/v2, Kind=ConfigMap"),
        (json!({}), "invalid object type: /, Kind="),
    ] {
        let (code, _, told) = api.apply(&path("fieldManager=one"), &config).await.error();
        assert_eq!((code, told.as_str()), (400, message));
    }
}

#[tokio::test]
async fn a_manager_has_a_short_printable_name() {
    let api = Api::new().await;
    let (code, _, message) = api.apply(&path("fieldManager=a%09b"), &config_map("a", "1")).await.error();
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\tb\": invalid character U+0009 (at \
         position 1)"
    );
    let long = path(&format!("fieldManager={}", "x".repeat(129)));
    let (code, _, message) = api.apply(&long, &config_map("a", "1")).await.error();
    assert_eq!(code, 422);
    assert!(message.ends_with("fieldManager: Too long: may not be more than 128 bytes"), "{message}");
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
