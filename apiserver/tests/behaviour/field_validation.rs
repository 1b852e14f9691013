//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation>

use crate::api::{Api, CONFIG_MAPS, Reply, deployment};
use crate::custom_resource_definitions::{anything, definition};
use http::Request;
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// Conformance: "Server side field validation, typed object".
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

const CRONS: &str = "/apis/example.com/v1/namespaces/default/crons";

/// Applies YAML strictly, as `kubectl apply --server-side` does.
async fn apply(api: &Api, path: &str, yaml: &str) -> Reply {
    let uri = format!("{path}?fieldManager=test&fieldValidation=Strict");
    let request = Request::patch(uri).header("content-type", "application/apply-patch+yaml");
    api.send(request.body(yaml.to_owned().into()).unwrap()).await
}

async fn crons(schema: Value) -> Api {
    let api = Api::new().await;
    api.define(&definition("crons", "Cron", schema)).await;
    api
}

fn schedule() -> Value {
    let spec =
        json!({"type": "object", "properties": {"schedule": {"type": "string"}, "suspend": {"type": "boolean"}}});
    json!({"type": "object", "properties": {"spec": spec}})
}

fn cron(more: &str) -> String {
    format!("apiVersion: example.com/v1\nkind: Cron\nmetadata:\n  name: a\n{more}")
}

/// Conformance: "Server side field validation, unknown fields CR no validation schema"; "Server side field validation,
/// valid CR with validation schema"; "Server side field validation, unknown fields CR fails validation".
#[tokio::test]
async fn custom_objects_are_held_to_the_fields_of_their_schema() {
    let unknown = cron("spec:\n  schedule: daily\n  unknown: x\n");
    let free = crons(anything()).await;
    assert_eq!(apply(&free, &format!("{CRONS}/a"), &unknown).await.ok()["spec"]["unknown"], "x");
    let api = crons(schedule()).await;
    let (code, _, message) = apply(&api, &format!("{CRONS}/a"), &unknown).await.error();
    assert_eq!(code, 400);
    assert!(message.contains("strict decoding error: unknown field \"spec.unknown\""), "{message}");
    let valid = cron("spec:\n  schedule: daily\n");
    assert_eq!(apply(&api, &format!("{CRONS}/a"), &valid).await.ok()["spec"], json!({"schedule": "daily"}));
}

/// Conformance: "Server side field validation, CR duplicates".
#[tokio::test]
async fn duplicates_of_custom_objects_are_told() {
    let api = crons(schedule()).await;
    let double = cron("spec:\n  schedule: daily\n  schedule: weekly\n");
    let post = |validation: &str| {
        let uri = format!("{CRONS}?fieldValidation={validation}");
        Request::post(uri).header("content-type", "application/yaml").body(double.clone().into()).unwrap()
    };
    let (code, _, message) = api.send(post("Strict")).await.error();
    assert_eq!(code, 400);
    // The YAML itself is refused where JSON's duplicates are.
    assert!(message.contains("schedule"), "{message}");
    assert_eq!(api.send(post("Warn")).await.ok()["spec"]["schedule"], "weekly");
}

/// Conformance: "Server side field validation, unknown metadata"; "Server side field validation, typed unknown metadata".
#[tokio::test]
async fn unknown_fields_of_the_metadata_are_told() {
    let api = crons(anything()).await;
    let custom = cron("  unknownMeta: x\nspec:\n  schedule: daily\n");
    let typed = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  unknownMeta: x\n";
    for (path, yaml) in [(CRONS, custom.as_str()), (CONFIG_MAPS, typed)] {
        let (code, _, message) = apply(&api, &format!("{path}/a"), yaml).await.error();
        assert_eq!(code, 400, "{path}");
        assert!(message.contains("unknown field \"metadata.unknownMeta\""), "{message}");
    }
}
