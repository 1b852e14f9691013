//! The access reviews: what one may do, and what others may.

use k8w_apiserver::Config;
use k8w_apiserver::authz::Mode;
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
    let both = json!({"nonResourceAttributes": {"path": "/x"}, "resourceAttributes": {"resource": "pods"}});
    let (code, _, message) = ask(both).await.error();
    assert!(code == 422 && message.contains("cannot be specified in combination with resourceAttributes"), "{message}");
}

/// `AuthorizeWithSelectors` and `AuthorizeNodeWithSelectors`.
#[tokio::test]
async fn a_question_may_be_about_fields() {
    let cluster = cluster().await;
    let ask = async |selector: Value| {
        let attributes = json!({"verb": "list", "resource": "pods", "fieldSelector": selector});
        let groups = ["system:nodes", "system:authenticated"];
        let spec = json!({"user": "system:node:n1", "groups": groups, "resourceAttributes": attributes});
        cluster.post(As::Admin, &format!("{GROUP}/subjectaccessreviews"), &json!({"spec": spec})).await
    };
    let requirement = |operator: &str, values: &[&str]| json!({"requirements": [{"key": "spec.nodeName", "operator": operator, "values": values}]});
    for (selector, allowed) in [
        (json!({"rawSelector": "spec.nodeName=n1"}), true),
        (json!({"rawSelector": "spec.nodeName=n2"}), false),
        (requirement("In", &["n1"]), true),
        (requirement("In", &["n1", "n2"]), false),
        (requirement("NotIn", &["n1"]), false),
        (requirement("Near", &["n1"]), false),
    ] {
        let status = ask(selector.clone()).await.ok()["status"].clone();
        assert_eq!(status["allowed"], allowed, "{selector}: {status}");
    }
    for (selector, why) in [
        (json!({}), "when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required"),
        (
            json!({"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "Exists"}]}),
            "rawSelector: Invalid value: \"a=b\": may not specified at the same time as requirements",
        ),
        (requirement("In", &[]), "values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
    ] {
        let (code, _, message) = ask(selector.clone()).await.error();
        assert!(code == 422 && message.contains(why), "{selector}: {message}");
    }
}

#[tokio::test]
async fn what_a_node_may_do_is_not_told_completely() {
    let cluster = cluster().await;
    let node = As::User("system:node:n1", &["system:nodes", "system:authenticated"]);
    let body = json!({"spec": {"namespace": "default"}});
    let status = cluster.post(node, &format!("{GROUP}/selfsubjectrulesreviews"), &body).await.ok()["status"].clone();
    assert_eq!(status["incomplete"], true);
    assert_eq!(status["evaluationError"], "node authorizer does not support user rule resolution");
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

/// `--authorization-mode` of Kubernetes.
#[tokio::test]
async fn who_decides_is_chosen() {
    let nobody = || As::User("nobody", &[]);
    let rules = async |cluster: &Cluster| {
        let path = format!("{GROUP}/selfsubjectrulesreviews");
        cluster.post(nobody(), &path, &json!({"spec": {"namespace": "default"}})).await
    };
    let authorization = vec![Mode::Rbac, Mode::AlwaysAllow];
    let open = Cluster::with(Config { authorization, ..Config::default() }).await;
    open.get(nobody(), "/api/v1/secrets").await.ok();
    // Not so whoever does not say who it is.
    assert_eq!(open.get(As::Nobody, "/healthz").await.code, 401);
    let status = rules(&open).await.ok()["status"].clone();
    assert_eq!(status["resourceRules"], json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]));
    assert_eq!(status["nonResourceRules"], json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]));

    let authorization = vec![Mode::AlwaysDeny];
    let closed = Cluster::with(Config { authorization, ..Config::default() }).await;
    // Rules are there, and nobody asks them.
    closed.grant("nobody", json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}])).await;
    let (code, _, message) = closed.get(nobody(), "/api/v1/secrets").await.error();
    assert_eq!(code, 403);
    assert!(message.ends_with("at the cluster scope: Everything is forbidden."), "{message}");
}
