//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>: webhooks as they are
//! configured; none is asked yet.

use crate::api::Api;
use serde_json::{Value, json};

const GROUP: &str = "admissionregistration.k8s.io";

/// Conformance: "Admission webhook, discovery document".
#[tokio::test]
async fn they_are_found_in_discovery() {
    let api = Api::new().await;
    let groups = api.get("/apis").await.ok();
    let group = groups["groups"].as_array().unwrap().iter().find(|group| group["name"] == GROUP).unwrap();
    let version = json!({"groupVersion": format!("{GROUP}/v1"), "version": "v1"});
    assert!(group["versions"].as_array().unwrap().contains(&version));
    assert!(api.get(&format!("/apis/{GROUP}")).await.ok()["versions"].as_array().unwrap().contains(&version));
    let resources = api.get(&format!("/apis/{GROUP}/v1")).await.ok();
    for (plural, kind) in [
        ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
        ("validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
    ] {
        let found =
            resources["resources"].as_array().unwrap().iter().find(|resource| resource["name"] == plural).unwrap();
        assert_eq!((&found["kind"], &found["namespaced"]), (&json!(kind), &json!(false)));
    }
}

/// Conformance: "Validating Admission webhook, create and update validating webhook configuration with matchConditions";
/// "Mutating Admission webhook, create and update mutating webhook configuration with matchConditions".
#[tokio::test]
async fn match_conditions_are_kept() {
    let api = Api::new().await;
    let conditions = |expression: &str| json!([{"name": "expression-1", "expression": expression}]);
    for plural in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
        let path = format!("/apis/{GROUP}/v1/{plural}");
        let rule =
            json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]});
        let webhook = json!({
            "name": "deny.k8s.io", "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"namespace": "default", "name": "webhook", "path": "/always-deny", "port": 8443}},
            "matchConditions": conditions("object.metadata.namespace == 'production'"),
        });
        let made = api.post(&path, &json!({"metadata": {"name": "w"}, "webhooks": [webhook]})).await.ok();
        let stored = |object: &Value| object["webhooks"][0]["matchConditions"].clone();
        assert_eq!(stored(&made), conditions("object.metadata.namespace == 'production'"));
        let one = format!("{path}/w");
        let mut next = api.get(&one).await.ok();
        next["webhooks"][0]["matchConditions"] = conditions("object.metadata.namespace == 'staging'");
        api.put(&one, &next).await.ok();
        assert_eq!(stored(&api.get(&one).await.ok()), conditions("object.metadata.namespace == 'staging'"));
    }
}
