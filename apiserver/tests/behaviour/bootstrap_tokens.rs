//! Bootstrap tokens: a Secret in `kube-system` lets a machine in that joins, and as nobody else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::cluster::{As, Cluster};

const SELF_REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

#[tokio::test]
async fn a_token_is_good_as_long_as_its_secret() {
    let cluster = Cluster::new().await;
    let text = |text: &str| STANDARD.encode(text);
    let data = json!({"token-id": text("abcdef"), "token-secret": text("0123456789abcdef"),
        "usage-bootstrap-authentication": text("true"), "auth-extra-groups": text("system:bootstrappers:workers")});
    let metadata = json!({"name": "bootstrap-token-abcdef", "namespace": "kube-system"});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": metadata, "data": data});
    cluster.make(secret).await;
    cluster.server.cache.catch_up().await.unwrap();
    let whoami = async |token: &str| cluster.post(As::Token(token), SELF_REVIEW, &json!({})).await;
    let user = whoami("abcdef.0123456789abcdef").await.ok()["status"]["userInfo"].clone();
    assert_eq!(user["username"], "system:bootstrap:abcdef");
    assert_eq!(user["groups"], json!(["system:bootstrappers", "system:bootstrappers:workers", "system:authenticated"]));
    assert_eq!(whoami("abcdef.0123456789abcdee").await.code, 401);
    cluster.delete("/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef").await.ok();
    cluster.server.cache.catch_up().await.unwrap();
    assert_eq!(whoami("abcdef.0123456789abcdef").await.code, 401);
}
