//! <https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-immutable>, and what their keys may be called.

use crate::api::Api;
use serde_json::json;

const KINDS: [(&str, &str); 2] = [("configmaps", "value"), ("secrets", "dmFsdWU=")];

/// Conformance: "ConfigMap Volume, immutability"; "Secrets Volume, immutability".
#[tokio::test]
async fn what_is_marked_immutable_keeps_its_data() {
    let api = Api::new().await;
    for (plural, value) in KINDS {
        let path = format!("/api/v1/namespaces/default/{plural}");
        let made = api.post(&path, &json!({"metadata": {"name": "a"}, "data": {"key": value}})).await.ok();
        let one = format!("{path}/a");
        let mut next = made.clone();
        next["data"]["other"] = value.into();
        let mut marked = api.put(&one, &next).await.ok();
        marked["immutable"] = true.into();
        api.put(&one, &marked).await.ok();
        // Neither the data nor the mark can be changed, metadata can.
        for change in [json!({"data": {"key": null}}), json!({"data": {"new": value}}), json!({"immutable": null})] {
            let (code, _, message) = api.patch("merge", &one, &change).await.error();
            assert_eq!(code, 422, "{plural} {change}");
            assert!(message.contains("field is immutable when `immutable` is set"), "{message}");
        }
        api.patch("merge", &one, &json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
        api.delete(&one).await.ok();
    }
}

/// Conformance: "ConfigMap, with empty-key"; "Secrets, with empty-key".
#[tokio::test]
async fn a_key_has_a_name() {
    let api = Api::new().await;
    for (plural, value) in KINDS {
        let path = format!("/api/v1/namespaces/default/{plural}");
        let reply = api.post(&path, &json!({"metadata": {"name": "a"}, "data": {"": value}})).await;
        let (code, reason, message) = reply.error();
        assert_eq!((code, reason.as_str()), (422, "Invalid"));
        assert!(message.contains("a valid config key must consist of alphanumeric characters"), "{message}");
    }
}
