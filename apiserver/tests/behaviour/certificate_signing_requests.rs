//! Certificate signing requests: asked for in one's own name, decided and signed by who may do so for the signer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8w_apiserver::Body;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::api::Reply;
use crate::cluster::{As, Cluster};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const GROUP: &str = "certificates.k8s.io";

/// A request that a key of its own has signed.
fn request(name: &str) -> Value {
    let pem = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"signerName": "example.com/own", "request": STANDARD.encode(pem), "usages": ["client auth"]}})
}

async fn put(cluster: &Cluster, who: As<'_>, path: &str, object: &Value) -> Reply {
    let headers = [("content-type", "application/json")];
    cluster.send(who, "PUT", &format!("{REQUESTS}/{path}"), &headers, Body::from(object.to_string())).await
}

#[tokio::test]
async fn a_request_carries_who_made_it() {
    let cluster = Cluster::new().await;
    cluster
        .grant(
            "jane",
            json!([{"verbs": ["create"], "apiGroups": [GROUP], "resources": ["certificatesigningrequests"]}]),
        )
        .await;
    let made = cluster.post(As::User("jane", &["dev"]), REQUESTS, &request("r")).await.ok();
    assert_eq!((&made["spec"]["username"], &made["spec"]["groups"]), (&json!("jane"), &json!(["dev"])));
}

/// Conformance: "CertificateSigningRequest API": nothing but the decision changes through `/approval`.
#[tokio::test]
async fn approval_needs_a_permission_for_the_signer() {
    let cluster = Cluster::new().await;
    let update =
        json!({"verbs": ["get", "update"], "apiGroups": [GROUP], "resources": ["certificatesigningrequests/approval"]});
    let approve = json!({"verbs": ["approve"], "apiGroups": [GROUP], "resources": ["signers"], "resourceNames": ["example.com/*"]});
    cluster.grant("clerk", json!([update])).await;
    cluster.grant("approver", json!([update, approve])).await;
    let mut asked = cluster.make(request("r")).await;
    asked["status"] = json!({"certificate": STANDARD.encode("x"),
        "conditions": [{"type": "Approved", "status": "True", "reason": "Checked"}]});
    let (code, _, message) = put(&cluster, As::User("clerk", &[]), "r/approval", &asked).await.error();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve requests with \
         signerName \"example.com/own\""
    );
    let approved = put(&cluster, As::User("approver", &[]), "r/approval", &asked).await.ok();
    let condition = &approved["status"]["conditions"][0];
    assert!(condition["lastUpdateTime"].is_string() && condition["lastTransitionTime"].is_string(), "{condition}");
    assert_eq!(approved["status"]["certificate"], Value::Null);
    let mut undone = approved.clone();
    undone["status"]["conditions"] = json!([]);
    let (code, _, message) = put(&cluster, As::User("approver", &[]), "r/approval", &undone).await.error();
    assert_eq!(code, 422);
    assert!(message.contains("updates may not remove a condition of type \"Approved\""), "{message}");
    let mut both = approved;
    both["status"]["conditions"].as_array_mut().unwrap().push(json!({"type": "Denied", "status": "True"}));
    let (_, _, message) = put(&cluster, As::User("approver", &[]), "r/approval", &both).await.error();
    assert!(message.contains("Approved and Denied conditions are mutually exclusive"), "{message}");
}

#[tokio::test]
async fn signing_needs_a_permission_for_the_signer() {
    let cluster = Cluster::new().await;
    let update = json!({"verbs": ["update"], "apiGroups": [GROUP], "resources": ["certificatesigningrequests/status"]});
    cluster.grant("clerk", json!([update])).await;
    let mut asked = cluster.make(request("r")).await;
    let signed = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let signed = json!({"certificate": STANDARD.encode(signed)});
    asked["status"] = signed.clone();
    let (code, _, message) = put(&cluster, As::User("clerk", &[]), "r/status", &asked).await.error();
    assert_eq!((code, message.contains("user not permitted to sign requests")), (403, true), "{message}");
    asked["status"] = json!({"certificate": STANDARD.encode("x")});
    let (code, _, message) = put(&cluster, As::Admin, "r/status", &asked).await.error();
    assert_eq!((code, message.contains("must contain at least one CERTIFICATE PEM block")), (422, true), "{message}");
    asked["status"] = signed;
    put(&cluster, As::Admin, "r/status", &asked).await.ok();
    asked["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    asked["status"] = json!({"certificate": STANDARD.encode("y")});
    assert_eq!(put(&cluster, As::Admin, "r/status", &asked).await.error().0, 422);
}
