//! User impersonation: acting as somebody else, if one may.

use k8w_apiserver::Body;
use serde_json::{Value, json};

use crate::api::Reply;
use crate::cluster::{As, Cluster};

const SELF_REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn whoami(cluster: &Cluster, who: As<'_>, headers: &[(&str, &str)]) -> Reply {
    let headers = [&[("content-type", "application/json")], headers].concat();
    cluster.send(who, "POST", SELF_REVIEW, &headers, Body::from("{}")).await
}

#[tokio::test]
async fn a_master_may_be_anybody() {
    let cluster = Cluster::new().await;
    let headers = [
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Extra-Scopes", "view"),
    ];
    let reply = whoami(&cluster, As::Admin, &headers).await.ok();
    assert_eq!(
        reply["status"]["userInfo"],
        json!({"username": "jane", "uid": "7", "groups": ["dev", "system:authenticated"], "extra": {"scopes": ["view"]}})
    );
}

#[tokio::test]
async fn others_may_be_whom_a_rule_names() {
    let cluster = Cluster::new().await;
    let rule = json!({"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"]});
    cluster.grant("joe", json!([rule])).await;
    let joe = || As::User("joe", &[]);
    assert_eq!(whoami(&cluster, joe(), &[("Impersonate-User", "jane")]).await.code, 201);
    let (code, _, message) = whoami(&cluster, joe(), &[("Impersonate-User", "admin")]).await.error();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "selfsubjectreviews.authentication.k8s.io is forbidden: User \"joe\" cannot impersonate-on:user-info:create resource \
         \"selfsubjectreviews\" in API group \"authentication.k8s.io\" at the cluster scope"
    );
    let with_group = [("Impersonate-User", "jane"), ("Impersonate-Group", "system:masters")];
    assert_eq!(whoami(&cluster, joe(), &with_group).await.error().0, 403);
}

#[tokio::test]
async fn whoever_is_impersonated_counts_in_authorization() {
    let cluster = Cluster::new().await;
    let headers = [("Impersonate-User", "jane")];
    let reply = cluster.send(As::Admin, "GET", "/api/v1/namespaces/default/pods", &headers, Body::Empty).await;
    assert_eq!(reply.error().0, 403);
    let review = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
    let review = cluster
        .send(
            As::Admin,
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            &[headers[0], ("content-type", "application/json")],
            Body::from(review.to_string()),
        )
        .await
        .ok();
    assert_eq!(review["status"], json!({"allowed": false}));
    assert_eq!(review["spec"]["resourceAttributes"]["verb"], Value::from("list"));
}

/// Constrained impersonation (KEP-5284).
#[tokio::test]
async fn somebody_may_be_impersonated_for_one_purpose_alone() {
    let cluster = Cluster::new().await;
    let rules = json!([
        {"verbs": ["impersonate:user-info"], "apiGroups": ["authentication.k8s.io"], "resources": ["users"],
            "resourceNames": ["jane"]},
        {"verbs": ["impersonate-on:user-info:list"], "apiGroups": [""], "resources": ["pods"]},
    ]);
    cluster.grant("joe", rules).await;
    cluster.grant("jane", json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["pods", "secrets"]}])).await;
    let list = async |user: &str, resource: &str| {
        let path = format!("/api/v1/namespaces/default/{resource}");
        cluster.send(As::User("joe", &[]), "GET", &path, &[("Impersonate-User", user)], Body::Empty).await
    };
    assert_eq!(list("jane", "pods").await.code, 200);
    assert_eq!(
        list("jane", "secrets").await.error().2,
        "secrets is forbidden: User \"joe\" cannot impersonate-on:user-info:list resource \"secrets\" in API group \"\" in \
         the namespace \"default\""
    );
    assert_eq!(
        list("jim", "pods").await.error().2,
        "users.authentication.k8s.io \"jim\" is forbidden: User \"joe\" cannot impersonate:user-info resource \"users\" in \
         API group \"authentication.k8s.io\" at the cluster scope"
    );
}
