//! The access reviews: what one may do, and what others may.

use serde_json::{Value, json};

use crate::cluster::{As, Cluster};

const GROUP: &str = "/apis/authorization.k8s.io/v1";

async fn cluster() -> Cluster {
    let cluster = Cluster::new().await;
    let resources = json!({"verbs": ["get", "list"], "apiGroups": ["apps"], "resources": ["deployments"]});
    let urls = json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]});
    cluster.grant("jane", json!([resources, urls])).await;
    cluster
}

fn deployments(verb: &str) -> Value {
    json!({"resourceAttributes": {"verb": verb, "group": "apps", "resource": "deployments", "namespace": "default"}})
}

/// Conformance: "SubjectReview, API Operations".
#[tokio::test]
async fn one_may_ask_for_oneself() {
    let cluster = cluster().await;
    let jane = || As::User("jane", &["system:authenticated"]);
    let ask = async |spec: Value| {
        let path = format!("{GROUP}/selfsubjectaccessreviews");
        cluster.post(jane(), &path, &json!({"spec": spec})).await
    };
    assert_eq!(ask(deployments("get")).await.ok()["status"], json!({"allowed": true}));
    assert_eq!(ask(deployments("delete")).await.ok()["status"], json!({"allowed": false}));
    let path = |path: &str| json!({"nonResourceAttributes": {"verb": "get", "path": path}});
    assert_eq!(ask(path("/metrics")).await.ok()["status"]["allowed"], true);
    assert_eq!(ask(path("/version")).await.ok()["status"]["allowed"], true);
    assert_eq!(ask(path("/secret")).await.ok()["status"]["allowed"], false);
    let (code, _, message) = ask(json!({})).await.error();
    assert_eq!(code, 422);
    assert!(
        message.contains("exactly one of nonResourceAttributes or resourceAttributes must be specified"),
        "{message}"
    );
}

#[tokio::test]
async fn an_administrator_asks_for_others() {
    let cluster = cluster().await;
    let ask = async |path: &str, mut spec: Value, user: &str| {
        spec["user"] = user.into();
        cluster.post(As::Admin, &format!("{GROUP}/{path}"), &json!({"spec": spec})).await
    };
    assert_eq!(ask("subjectaccessreviews", deployments("list"), "jane").await.ok()["status"]["allowed"], true);
    assert_eq!(ask("subjectaccessreviews", deployments("list"), "joe").await.ok()["status"]["allowed"], false);
    assert_eq!(ask("subjectaccessreviews", deployments("list"), "").await.error().0, 422);
    let local = "namespaces/default/localsubjectaccessreviews";
    assert_eq!(ask(local, deployments("list"), "jane").await.ok()["status"]["allowed"], true);
    let elsewhere = "namespaces/kube-system/localsubjectaccessreviews";
    let (code, _, message) = ask(elsewhere, deployments("list"), "jane").await.error();
    assert_eq!(code, 422);
    assert!(message.contains("must match metadata.namespace"), "{message}");
}

/// What `kubectl auth can-i --list` shows.
#[tokio::test]
async fn all_rules_are_listed() {
    let cluster = cluster().await;
    let jane = As::User("jane", &["system:authenticated"]);
    let review = json!({"spec": {"namespace": "default"}});
    let status = cluster.post(jane, &format!("{GROUP}/selfsubjectrulesreviews"), &review).await.ok()["status"].clone();
    assert_eq!(status["incomplete"], false);
    let own = json!({"verbs": ["get", "list"], "apiGroups": ["apps"], "resources": ["deployments"]});
    assert!(status["resourceRules"].as_array().unwrap().contains(&own));
    let url = json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]});
    assert!(status["nonResourceRules"].as_array().unwrap().contains(&url));
}
