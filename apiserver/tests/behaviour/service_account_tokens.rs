//! Tokens of service accounts: who they stand for, where they are good, and when they die.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::cluster::{As, Cluster, connection};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const SELF_REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const TOKEN_REVIEW: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

async fn cluster() -> Cluster {
    let cluster = Cluster::new().await;
    cluster.make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}})).await;
    cluster
}

async fn make_pod(cluster: &Cluster, account: &str) -> Value {
    let spec = json!({"serviceAccountName": account, "containers": [{"name": "a", "image": "x"}]});
    cluster.make(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})).await
}

async fn request(cluster: &Cluster, spec: Value) -> crate::api::Reply {
    cluster.post(As::Admin, &format!("{ACCOUNTS}/robot/token"), &json!({"spec": spec})).await
}

async fn token(cluster: &Cluster, spec: Value) -> String {
    request(cluster, spec).await.ok()["status"]["token"].as_str().unwrap().to_owned()
}

/// Who the server takes a token's bearer for.
async fn whoami(cluster: &Cluster, token: &str) -> Result<Value, u16> {
    who_is(cluster, As::Token(token)).await
}

async fn who_is(cluster: &Cluster, who: As<'_>) -> Result<Value, u16> {
    let reply = cluster.post(who, SELF_REVIEW, &json!({})).await;
    if reply.code == 201 { Ok(reply.json()["status"]["userInfo"].clone()) } else { Err(reply.code) }
}

/// Conformance: "ServiceAccount, create and review token".
#[tokio::test]
async fn a_token_stands_for_its_account() {
    let cluster = cluster().await;
    let answer = request(&cluster, json!({})).await.ok();
    assert_eq!(answer["kind"], "TokenRequest");
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    assert_eq!(answer["spec"]["audiences"], json!(["https://kubernetes.default.svc.cluster.local"]));
    let user = whoami(&cluster, answer["status"]["token"].as_str().unwrap()).await.unwrap();
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
}

#[tokio::test]
async fn a_token_dies_with_its_account() {
    let cluster = cluster().await;
    let token = token(&cluster, json!({})).await;
    assert!(whoami(&cluster, &token).await.is_ok());
    cluster.delete(&format!("{ACCOUNTS}/robot")).await.ok();
    cluster.server.cache.catch_up().await.unwrap();
    assert_eq!(whoami(&cluster, &token).await, Err(401));
    cluster.make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}})).await;
    cluster.server.cache.catch_up().await.unwrap();
    assert_eq!(whoami(&cluster, &token).await, Err(401), "another account of the same name");
}

#[tokio::test]
async fn every_request_of_a_connection_proves_itself() {
    let cluster = cluster().await;
    let robots = token(&cluster, json!({})).await;
    let again = token(&cluster, json!({})).await;
    cluster.make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other"}})).await;
    let others = cluster.post(As::Admin, &format!("{ACCOUNTS}/other/token"), &json!({})).await.ok();
    let others = others["status"]["token"].as_str().unwrap();
    let connection = connection();
    let name = async |token: &str| {
        let user = who_is(&cluster, As::TokenOver(&connection, token)).await?;
        Ok::<_, u16>(user["username"].as_str().unwrap().rsplit(':').next().unwrap().to_owned())
    };
    for (token, expected) in [(&*robots, "robot"), (others, "other"), (&*again, "robot"), (&*robots, "robot")] {
        assert_eq!(name(token).await.as_deref(), Ok(expected));
    }
    assert_eq!(name("nonsense").await, Err(401));
    cluster.delete(&format!("{ACCOUNTS}/robot")).await.ok();
    cluster.server.cache.catch_up().await.unwrap();
    for (token, expected) in [(&*robots, Err(&401)), (&*again, Err(&401)), (others, Ok("other"))] {
        assert_eq!(name(token).await.as_deref(), expected);
    }
}

#[tokio::test]
async fn a_bound_token_dies_with_its_pod() {
    let cluster = cluster().await;
    let pod = make_pod(&cluster, "robot").await;
    let uid = &pod["metadata"]["uid"];
    let bound = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}});
    let token = token(&cluster, bound).await;
    let user = whoami(&cluster, &token).await.unwrap();
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-uid"], json!([uid]));
    cluster.delete("/api/v1/namespaces/default/pods/p?gracePeriodSeconds=0").await.ok();
    cluster.server.cache.catch_up().await.unwrap();
    assert_eq!(whoami(&cluster, &token).await, Err(401));
}

#[tokio::test]
async fn a_token_is_bound_only_to_what_is_there() {
    let cluster = cluster().await;
    cluster.make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other"}})).await;
    make_pod(&cluster, "other").await;
    let bound = |name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}});
    assert_eq!(request(&cluster, bound("q", "")).await.error().0, 404);
    assert_eq!(request(&cluster, bound("p", "stale")).await.error().0, 409);
    assert_eq!(request(&cluster, bound("p", "")).await.error().0, 400);
}

#[tokio::test]
async fn lifetimes_have_bounds() {
    let cluster = cluster().await;
    assert_eq!(request(&cluster, json!({"expirationSeconds": 600})).await.code, 201);
    let (code, _, message) = request(&cluster, json!({"expirationSeconds": 599})).await.error();
    assert_eq!(code, 422);
    assert!(
        message.contains("spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"),
        "{message}"
    );
    assert_eq!(request(&cluster, json!({"expirationSeconds": (1i64 << 32) + 1})).await.error().0, 422);
}

#[tokio::test]
async fn a_token_is_good_for_its_audiences_alone() {
    let cluster = cluster().await;
    let token = token(&cluster, json!({"audiences": ["vault", "other"]})).await;
    assert_eq!(whoami(&cluster, &token).await, Err(401));
    let review = async |audiences: Value| {
        let body = json!({"spec": {"token": token, "audiences": audiences}});
        cluster.post(As::Admin, TOKEN_REVIEW, &body).await.ok()["status"].clone()
    };
    let good = review(json!(["vault", "more"])).await;
    assert_eq!(good["authenticated"], true);
    assert_eq!(good["audiences"], json!(["vault"]));
    assert_eq!(good["user"]["username"], "system:serviceaccount:default:robot");
    assert_eq!(review(json!(["more"])).await["authenticated"], Value::Null);
    assert_eq!(review(json!([])).await["authenticated"], Value::Null);
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let cluster = cluster().await;
    let token = token(&cluster, json!({})).await;
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let mut changed: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    changed["exp"] = (i64::MAX / 2).into();
    let changed = URL_SAFE_NO_PAD.encode(changed.to_string());
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for forged in [
        format!("{header}.{changed}.{signature}"),
        format!("{none}.{claims}."),
        format!("{header}.{claims}"),
        "x".to_owned(),
    ] {
        assert_eq!(whoami(&cluster, &forged).await, Err(401), "{forged}");
    }
}

/// Conformance: "OIDC Discovery (ServiceAccountIssuerDiscovery)".
#[tokio::test]
async fn others_can_verify_tokens() {
    let cluster = cluster().await;
    let token = token(&cluster, json!({})).await;
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    let account = As::User("system:serviceaccount:a:b", &["system:serviceaccounts", "system:authenticated"]);
    let configuration = cluster.get(account.clone(), "/.well-known/openid-configuration").await.ok();
    assert_eq!(configuration["issuer"], "https://kubernetes.default.svc.cluster.local");
    let keys = cluster.get(account, "/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    let keys = keys.ok();
    assert_eq!((&keys["keys"][0]["kid"], &keys["keys"][0]["alg"]), (&header["kid"], &header["alg"]));
    assert_eq!(cluster.get(As::User("jane", &[]), "/openid/v1/jwks").await.code, 403);
}

#[tokio::test]
async fn a_node_gets_tokens_of_its_own_pods_alone() {
    let cluster = cluster().await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    cluster.make(node).await;
    let sources =
        json!([{"serviceAccountToken": {"path": "t"}}, {"serviceAccountToken": {"path": "v", "audience": "vault"}}]);
    let spec = json!({"nodeName": "n1", "serviceAccountName": "robot", "containers": [{"name": "a", "image": "x"}],
        "volumes": [{"name": "t", "projected": {"sources": sources}}]});
    cluster.make(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})).await;
    let ask = async |user: &str, spec: Value| {
        let node = As::User(user, &["system:nodes", "system:authenticated"]);
        cluster.post(node, &format!("{ACCOUNTS}/robot/token"), &json!({"spec": spec})).await
    };
    let bound = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}});
    cluster.server.cache.catch_up().await.unwrap();
    let answer = ask("system:node:n1", bound.clone()).await.ok();
    let user = whoami(&cluster, answer["status"]["token"].as_str().unwrap()).await.unwrap();
    assert_eq!(user["extra"]["authentication.kubernetes.io/node-name"], json!(["n1"]));
    assert_eq!(
        ask("system:node:n1", json!({})).await.error().2,
        "serviceaccounts \"robot\" is forbidden: node requested token not bound to a pod"
    );
    assert_eq!(ask("system:node:n2", bound.clone()).await.error().0, 403);
    let for_audiences = async |audiences: Value| {
        let mut spec = bound.clone();
        spec["audiences"] = audiences;
        ask("system:node:n1", spec).await
    };
    assert_eq!(for_audiences(json!(["vault"])).await.code, 201);
    assert_eq!(
        for_audiences(json!(["bank"])).await.error().2,
        "serviceaccounts \"robot\" is forbidden: audience \"bank\" not found in pod spec volume, system:node:n1 is not \
         authorized to request tokens for this audience"
    );
    assert_eq!(
        for_audiences(json!(["vault", "bank"])).await.error().2,
        "serviceaccounts \"robot\" is forbidden: node may only request 0 or 1 audiences"
    );
    let verb = "request-serviceaccounts-token-audience";
    cluster.grant("system:node:n1", json!([{"verbs": [verb], "apiGroups": [""], "resources": ["bank"]}])).await;
    assert_eq!(for_audiences(json!(["bank"])).await.code, 201);
}

/// What `--service-account-extend-token-expiration` does for programs that read their token once.
#[tokio::test]
async fn a_pods_own_token_is_good_for_longer_than_it_says() {
    let cluster = cluster().await;
    make_pod(&cluster, "robot").await;
    let spec = json!({"expirationSeconds": 3607, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}});
    let answer = request(&cluster, spec).await.ok();
    assert_eq!(answer["spec"]["expirationSeconds"], 3607);
    let claims = answer["status"]["token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let (issued, warn) = (claims["iat"].as_i64().unwrap(), claims["kubernetes.io"]["warnafter"].as_i64().unwrap());
    assert_eq!((warn - issued, claims["exp"].as_i64().unwrap() - issued), (3607, 365 * 24 * 3600));
}
