//! Service account tokens in projected volumes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::is_ready;
use crate::sandbox;

#[test]
fn a_token_is_for_its_audience_and_lives_as_long_as_was_asked_for() {
    let t = sandbox();
    let sources = "{serviceAccountToken: {path: theirs, audience: vault, expirationSeconds: 1200}},
        {serviceAccountToken: {path: own}}";
    let spec = format!("volumes: [{{name: t, projected: {{sources: [{sources}]}}}}]");
    t.hello_pod("has", &spec, "volumeMounts: [{name: t, mountPath: /t}]");
    is_ready(&t, "has");
    let token = |name: &str| t.kubectl.ok(&["exec", "has", "--", "cat", &format!("/t/{name}")]);
    let review = |token: &str, audience: &str| {
        let object = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]}});
        let answer = t.kubectl.ok_with_input(&["create", "-f", "-", "-o", "json"], &object.to_string());
        serde_json::from_str::<Value>(&answer).unwrap()["status"].clone()
    };
    let (theirs, own) = (token("theirs"), token("own"));
    let status = review(&theirs, "vault");
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["vault"])), "{status}");
    let user = format!("system:serviceaccount:{}:default", t.namespace);
    assert_eq!(status["user"]["username"], user.as_str(), "{status}");
    for (token, audience) in [(&theirs, "other"), (&own, "vault")] {
        let status = review(token, audience);
        assert_ne!(status["authenticated"], json!(true), "{audience}: {status}");
    }
    let claims = URL_SAFE_NO_PAD.decode(theirs.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 1_200);
    assert_eq!(claims["kubernetes.io"]["pod"]["name"], "has");
}
