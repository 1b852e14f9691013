//! Tokens that Secrets keep: good as long as Secret and service account are there, and their use is noted.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8w_kinds::core::service_account_token::{self, SecretClaims};
use serde_json::{Value, json};

use crate::cluster::{As, Cluster};

const SECRET: &str = "/api/v1/namespaces/default/secrets/kept";
const ACCOUNT: &str = "/api/v1/namespaces/default/serviceaccounts/robot";
const SELF_REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const TOKEN_REVIEW: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// A cluster with a service account and a Secret that keeps its token, filled as the token controller does it.
async fn cluster() -> (Cluster, String) {
    let cluster = Cluster::new().await;
    let account =
        cluster.make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}})).await;
    let uid = account["metadata"]["uid"].as_str().unwrap();
    let key = cluster.server.config.token_key.clone().unwrap();
    let token = key.sign(&SecretClaims::new("default", "kept", "robot", uid)).unwrap();
    let annotations = json!({"kubernetes.io/service-account.name": "robot"});
    cluster
        .make(json!({"apiVersion": "v1", "kind": "Secret", "type": service_account_token::SECRET_TYPE,
            "metadata": {"name": "kept", "annotations": annotations}, "stringData": {"token": token}}))
        .await;
    cluster.server.cache.catch_up().await.unwrap();
    (cluster, token)
}

/// Who the server takes a token's bearer for.
async fn whoami(cluster: &Cluster, token: &str) -> Result<Value, u16> {
    cluster.server.cache.catch_up().await.unwrap();
    let reply = cluster.post(As::Token(token), SELF_REVIEW, &json!({})).await;
    if reply.code == 201 { Ok(reply.json()["status"]["userInfo"].clone()) } else { Err(reply.code) }
}

async fn merge(cluster: &Cluster, path: &str, patch: Value) {
    let headers = [("content-type", "application/merge-patch+json")];
    cluster.send(As::Admin, "PATCH", path, &headers, patch.to_string().into()).await.ok();
}

#[tokio::test]
async fn a_kept_token_stands_for_its_account() {
    let (cluster, token) = cluster().await;
    let user = whoami(&cluster, &token).await.unwrap();
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    assert_eq!(user["extra"], Value::Null);
}

#[tokio::test]
async fn a_kept_token_is_for_the_api_server_alone() {
    let (cluster, token) = cluster().await;
    let review = async |audiences: Value| {
        let body = json!({"spec": {"token": token, "audiences": audiences}});
        cluster.post(As::Admin, TOKEN_REVIEW, &body).await.ok()["status"].clone()
    };
    assert_eq!(review(json!([])).await["authenticated"], true);
    let own = json!(["https://kubernetes.default.svc.cluster.local"]);
    assert_eq!(review(own.clone()).await["audiences"], own);
    assert_eq!(review(json!(["vault"])).await["authenticated"], Value::Null);
}

#[tokio::test]
async fn a_kept_token_dies_with_its_secret() {
    let (cluster, token) = cluster().await;
    assert!(whoami(&cluster, &token).await.is_ok());
    cluster.delete(SECRET).await.ok();
    assert_eq!(whoami(&cluster, &token).await, Err(401));
}

#[tokio::test]
async fn a_kept_token_dies_with_its_account() {
    let (cluster, token) = cluster().await;
    assert!(whoami(&cluster, &token).await.is_ok());
    cluster.delete(ACCOUNT).await.ok();
    assert_eq!(whoami(&cluster, &token).await, Err(401));
}

#[tokio::test]
async fn a_token_that_its_secret_holds_no_more_is_refused() {
    let (cluster, token) = cluster().await;
    assert!(whoami(&cluster, &token).await.is_ok());
    merge(&cluster, SECRET, json!({"data": {"token": STANDARD.encode("another")}})).await;
    assert_eq!(whoami(&cluster, &token).await, Err(401));
    merge(&cluster, SECRET, json!({"data": {"token": STANDARD.encode(&token)}})).await;
    assert!(whoami(&cluster, &token).await.is_ok());
    merge(&cluster, SECRET, json!({"metadata": {"labels": {service_account_token::INVALID_SINCE: "2024-01-01"}}}))
        .await;
    assert_eq!(whoami(&cluster, &token).await, Err(401));
}

#[tokio::test]
async fn the_day_of_its_last_use_is_noted() {
    let (cluster, token) = cluster().await;
    let before = Timestamp::now();
    whoami(&cluster, &token).await.unwrap();
    let day = |at: Timestamp| at.strftime(service_account_token::DAY_FORMAT).to_string();
    let noted = async {
        loop {
            let secret = cluster.get(As::Admin, SECRET).await.ok();
            let label = &secret["metadata"]["labels"][service_account_token::LAST_USED];
            if !label.is_null() {
                return label.as_str().unwrap().to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    let noted = tokio::time::timeout(Duration::from_secs(30), noted).await.unwrap();
    assert!(noted == day(before) || noted == day(Timestamp::now()), "{noted}");
    let tracking = format!("/api/v1/namespaces/kube-system/configmaps/{}", service_account_token::TRACKING);
    let since = cluster.get(As::Admin, &tracking).await.ok()["data"]["since"].clone();
    assert!(since == day(before) || since == day(Timestamp::now()), "{since}");
}
