//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation>

use crate::api::{Api, CONFIG_MAPS, deployment};
use http::Request;
use serde_json::json;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

#[tokio::test]
async fn strict_refuses_unknown_fields() {
    let api = Api::new().await;
    let mut object = deployment("d", 1);
    object["spec"]["foo"] = 1.into();
    let (code, reason, message) = api.post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), &object).await.error();
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
    assert_eq!(
        message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
         unknown field \"spec.foo\""
    );
}

#[tokio::test]
async fn warn_drops_them_and_says_so() {
    let api = Api::new().await;
    let mut object = deployment("d", 1);
    object["spec"]["foo"] = 1.into();
    let reply = api.post(DEPLOYMENTS, &object).await;
    assert!(reply.ok()["spec"]["foo"].is_null());
    assert_eq!(reply.warnings(), [r#"299 - "unknown field \"spec.foo\"""#]);
}

#[tokio::test]
async fn ignore_drops_them_silently() {
    let api = Api::new().await;
    let mut object = deployment("d", 1);
    object["spec"]["foo"] = 1.into();
    let reply = api.post(&format!("{DEPLOYMENTS}?fieldValidation=Ignore"), &object).await;
    assert!(reply.ok()["spec"]["foo"].is_null());
    assert!(reply.warnings().is_empty());
}

#[tokio::test]
async fn duplicates_are_unknown_fields_too() {
    let api = Api::new().await;
    let body = r#"{"metadata": {"name": "a"}, "data": {"a": "1", "a": "2"}}"#;
    let post = |validation: &str| {
        let uri = format!("{CONFIG_MAPS}?dryRun=All&fieldValidation={validation}");
        Request::post(uri).header("content-type", "application/json").body(body.into()).unwrap()
    };
    let (_, _, message) = api.send(post("Strict")).await.error();
    assert!(message.ends_with(r#"strict decoding error: duplicate field "data.a""#), "{message}");
    let reply = api.send(post("Warn")).await;
    assert_eq!(reply.ok()["data"]["a"], "2");
    assert_eq!(reply.warnings().len(), 1);
}

#[tokio::test]
async fn patches_are_validated_too() {
    let api = Api::new().await;
    api.post(DEPLOYMENTS, &deployment("d", 1)).await.ok();
    let patch = json!({"spec": {"foo": 1}});
    let path = format!("{DEPLOYMENTS}/d?fieldValidation=Strict");
    let (code, _, message) = api.patch("merge", &path, &patch).await.error();
    assert_eq!(code, 422);
    assert!(message.contains("strict decoding error: unknown field \"spec.foo\""), "{message}");
    let reply = api.patch("merge", &format!("{DEPLOYMENTS}/d"), &patch).await;
    assert_eq!(reply.warnings().len(), 1);
}

#[tokio::test]
async fn other_values_are_refused() {
    let api = Api::new().await;
    let reply = api.post(&format!("{CONFIG_MAPS}?fieldValidation=Maybe"), &json!({})).await;
    assert_eq!(reply.code, 422);
}
