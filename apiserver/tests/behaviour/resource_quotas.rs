//! Resource quotas: what a namespace may use, and that it cannot use more, however many clients try at once.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::api::{Api, pod};

const NAMESPACE: &str = "/api/v1/namespaces/default";

/// A quota whose controller has said what is used.
async fn quota(api: &Api, name: &str, spec: Value, used: Value) {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec});
    let mut quota = api.post(&format!("{NAMESPACE}/resourcequotas"), &quota).await.ok();
    quota["status"] = json!({"hard": spec["hard"], "used": used});
    api.put(&format!("{NAMESPACE}/resourcequotas/{name}/status"), &quota).await.ok();
}

async fn used(api: &Api, name: &str) -> Value {
    api.get(&format!("{NAMESPACE}/resourcequotas/{name}")).await.ok()["status"]["used"].clone()
}

fn pod_asking(name: &str, cpu: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
    pod
}

/// Conformance: "ResourceQuota, object count quota, pod".
#[tokio::test]
async fn a_write_is_charged_when_it_happens() {
    let api = Api::new().await;
    quota(&api, "q", json!({"hard": {"pods": "2", "requests.cpu": "1"}}), json!({"pods": "0", "requests.cpu": "0"}))
        .await;
    api.post(&format!("{NAMESPACE}/pods"), &pod_asking("a", "600m")).await.ok();
    assert_eq!(used(&api, "q").await, json!({"pods": "1", "requests.cpu": "600m"}));
    let (code, reason, message) = api.post(&format!("{NAMESPACE}/pods"), &pod_asking("b", "600m")).await.error();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        message,
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: \
         requests.cpu=1"
    );
    let (_, _, message) = api.post(&format!("{NAMESPACE}/pods"), &pod("c")).await.error();
    assert_eq!(message, "pods \"c\" is forbidden: failed quota: q: must specify requests.cpu for: c");
}

/// Conformance: "ResourceQuota, object count quota, secret".
#[tokio::test]
async fn a_dry_run_is_checked_and_not_charged() {
    let api = Api::new().await;
    quota(&api, "q", json!({"hard": {"count/secrets": "1"}}), json!({"count/secrets": "0"})).await;
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    api.post(&format!("{NAMESPACE}/secrets?dryRun=All"), &secret("a")).await.ok();
    assert_eq!(used(&api, "q").await, json!({"count/secrets": "0"}));
    api.post(&format!("{NAMESPACE}/secrets"), &secret("a")).await.ok();
    assert_eq!(api.post(&format!("{NAMESPACE}/secrets?dryRun=All"), &secret("b")).await.error().0, 403);
}

#[tokio::test]
async fn writes_that_come_at_once_cannot_overrun_a_quota() {
    const WRITES: usize = 40;
    let api = Api::new().await;
    quota(&api, "q", json!({"hard": {"pods": "10"}}), json!({"pods": "0"})).await;
    let path = format!("{NAMESPACE}/pods");
    let pods: Vec<Value> = (0..WRITES).map(|i| pod(&format!("p{i}"))).collect();
    let replies = join_all(pods.iter().map(|pod| api.post(&path, pod))).await;
    assert_eq!(replies.iter().filter(|reply| reply.code == 201).count(), 10);
    assert!(replies.iter().all(|reply| matches!(reply.code, 201 | 403)));
    assert_eq!(used(&api, "q").await, json!({"pods": "10"}));
}

/// Conformance: "ResourceQuota, quota scope, BestEffort and NotBestEffort scope".
#[tokio::test]
async fn every_quota_of_the_namespace_must_allow() {
    let api = Api::new().await;
    quota(&api, "a", json!({"hard": {"pods": "5"}}), json!({"pods": "0"})).await;
    quota(&api, "b", json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]}), json!({"pods": "1"})).await;
    let (code, _, message) = api.post(&format!("{NAMESPACE}/pods"), &pod("p")).await.error();
    assert_eq!(code, 403);
    assert!(message.contains("exceeded quota: b"), "{message}");
    assert_eq!(used(&api, "a").await, json!({"pods": "0"}));
    api.post(&format!("{NAMESPACE}/pods"), &pod_asking("p", "1m")).await.ok();
    assert_eq!(used(&api, "a").await, json!({"pods": "1"}));
    assert_eq!(used(&api, "b").await, json!({"pods": "1"}));
}

/// Conformance: "ResourceQuota, object count quota, service".
#[tokio::test]
async fn a_service_that_changes_its_type_is_charged_for_its_ports() {
    let api = Api::new().await;
    quota(&api, "q", json!({"hard": {"services.nodeports": "1"}}), json!({"services.nodeports": "0"})).await;
    let service = |kind: &str, ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"type": kind, "ports": ports}});
    let one = json!([{"name": "a", "port": 80}]);
    let two = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
    api.post(&format!("{NAMESPACE}/services"), &service("ClusterIP", one.clone())).await.ok();
    api.put(&format!("{NAMESPACE}/services/s"), &service("NodePort", one)).await.ok();
    assert_eq!(used(&api, "q").await, json!({"services.nodeports": "1"}));
    let (code, _, message) = api.put(&format!("{NAMESPACE}/services/s"), &service("NodePort", two)).await.error();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, \
         limited: services.nodeports=1"
    );
}

#[tokio::test]
async fn nothing_is_let_in_before_usage_is_known() {
    let api = Api::new().await;
    quota(&api, "q", json!({"hard": {"pods": "1"}}), json!({})).await;
    let (code, _, message) = api.post(&format!("{NAMESPACE}/pods"), &pod("a")).await.error();
    assert_eq!(
        (code, message.as_str()),
        (403, "pods \"a\" is forbidden: status unknown for quota: q, resources: pods")
    );
}

/// Conformance: "ResourceQuota, object count quota, configmap"; "ResourceQuota, object count quota, replicaSet";
/// "ResourceQuota, object count quota, replicationController"; "ResourceQuota, object count quota, resourcequotas".
#[tokio::test]
async fn objects_of_every_kind_can_be_counted() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "c"}]}});
    let set = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let controller = json!({"spec": {"selector": {"a": "b"}, "template": template}});
    for (hard, path, object) in [
        ("configmaps", format!("{NAMESPACE}/configmaps"), json!({})),
        ("count/replicasets.apps", "/apis/apps/v1/namespaces/default/replicasets".to_owned(), set),
        ("replicationcontrollers", format!("{NAMESPACE}/replicationcontrollers"), controller),
        (
            "persistentvolumeclaims",
            format!("{NAMESPACE}/persistentvolumeclaims"),
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
    ] {
        let api = Api::new().await;
        quota(&api, "q", json!({"hard": {hard: "1"}}), json!({hard: "0"})).await;
        let named = |name: &str| {
            let mut object = object.clone();
            object["metadata"] = json!({"name": name});
            object
        };
        api.post(&path, &named("a")).await.ok();
        assert_eq!(used(&api, "q").await, json!({hard: "1"}));
        let (code, _, message) = api.post(&path, &named("b")).await.error();
        assert_eq!(code, 403);
        assert!(message.ends_with(&format!("requested: {hard}=1, used: {hard}=1, limited: {hard}=1")), "{message}");
    }
    let api = Api::new().await;
    quota(&api, "q", json!({"hard": {"resourcequotas": "1"}}), json!({"resourcequotas": "1"})).await;
    let second = json!({"metadata": {"name": "r"}, "spec": {"hard": {"pods": "1"}}});
    assert_eq!(api.post(&format!("{NAMESPACE}/resourcequotas"), &second).await.code, 403);
}

/// Conformance: "ResourceQuota, quota scope, Terminating and NotTerminating scope".
#[tokio::test]
async fn pods_with_a_deadline_count_apart() {
    let api = Api::new().await;
    for (name, scope) in [("with", "Terminating"), ("without", "NotTerminating")] {
        quota(&api, name, json!({"hard": {"pods": "1"}, "scopes": [scope]}), json!({"pods": "0"})).await;
    }
    let path = format!("{NAMESPACE}/pods");
    let mut bounded = pod("a");
    bounded["spec"]["activeDeadlineSeconds"] = 3600.into();
    api.post(&path, &bounded).await.ok();
    assert_eq!((used(&api, "with").await, used(&api, "without").await), (json!({"pods": "1"}), json!({"pods": "0"})));
    api.post(&path, &pod("b")).await.ok();
    assert_eq!(used(&api, "without").await, json!({"pods": "1"}));
    assert_eq!(api.post(&path, &pod("c")).await.code, 403);
}

/// Conformance: "ResourceQuota, update and delete".
#[tokio::test]
async fn a_quota_can_be_raised_and_taken_away() {
    let api = Api::new().await;
    quota(&api, "q", json!({"hard": {"configmaps": "1"}}), json!({"configmaps": "1"})).await;
    let (path, maps) = (format!("{NAMESPACE}/resourcequotas/q"), format!("{NAMESPACE}/configmaps"));
    let map = |name: &str| json!({"metadata": {"name": name}});
    assert_eq!(api.post(&maps, &map("a")).await.code, 403);
    let mut raised = api.get(&path).await.ok();
    raised["spec"]["hard"]["configmaps"] = "2".into();
    api.put(&path, &raised).await.ok();
    raised["status"]["hard"] = json!({"configmaps": "2"});
    api.patch("merge", &format!("{path}/status"), &json!({"status": raised["status"]})).await.ok();
    api.post(&maps, &map("a")).await.ok();
    assert_eq!(api.post(&maps, &map("b")).await.code, 403);
    api.delete(&path).await.ok();
    assert_eq!(api.get(&path).await.code, 404);
    api.post(&maps, &map("b")).await.ok();
}
